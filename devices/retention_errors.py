"""DRAM cells that lose their charge before they are refreshed: a mask of flipped bits that is frozen in the chip."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Bool, Float, Key, UInt32

from pim.devices.errors import DeviceError
from pim.devices.random import fine_uniform, fold, uniform
from pim.devices.record import leaf, record, static
from pim.devices.stored_words import WORD_BITS, finite_words

CHECK_CELLS, CHECK_CHARGE, ANTI_ROWS = 64, 128, 192
"""Numbers that are folded into the key of a matrix for what is not a bit of a weight (those are 0 to 31)."""


@record
class RetentionErrors:
    """Cells by their retention time, and what becomes of a bit whose cell is refreshed too late.

    A cell is a normal or one of few leaky ones; the retention times of each class are log-normal (Liu et al., RAIDR,
    ISCA 2012, after Kim and Lee, IEEE EDL 30, 2009), and halve with each `halving_temperature`. JEDEC doubles the rate
    of refreshes above 85 C, some 10 K; 4 s at 45 C taken for 328 ms at 85 C are 11.1 K (Qureshi et al., AVATAR, DSN
    2015). A cell fails if its retention is shorter than the refresh interval. One uniform number a cell, fixed by the
    chip, decides: what fails at an interval and a temperature fails at every longer one and every higher one too. The
    failing ones lie by chance and independently, as found in LPDDR4 (Patel et al., EIN, DSN 2019).

    Only charge is lost. A true cell stores a one as charge and decays to zero, an anti cell the other way. Whole groups
    of rows are of one kind (EIN): here all weights of an output are, each output by chance.

    Left out: that retention depends on the data of neighbours, that it changes with time (variable retention time), and
    that dies with cells below the specified interval are not sold. Rates below 2^-32 are zero.

    RAIDR's 60 nm process has some 30 cells of 2.7e11 below 128 ms and 1000 below 256 ms; AVATAR's modules have about a
    hundred times as many. How many are leaky at all, and what the normal ones keep, are guesses here:

    >>> leaky = log_normal_through((0.128, 30 / 2.7e11), (0.256, 1000 / 2.7e11), share=1e-4)
    >>> law = RetentionErrors(0.064, 60.0, 0.6, 1e-4, *leaky)
    >>> pim.replace(pim.preset("dram-aim"), {"retention": law, "retention.refresh_interval": 1.0})
    """

    refresh_interval: Float[Array, ""] = leaf("s", "time between two refreshes of a row", low=0, high=1e6)
    median: Float[Array, ""] = leaf("s", "median retention of normal cells at the reference temperature", low=1e-6)
    spread: Float[Array, ""] = leaf("1", "standard deviation of its natural logarithm", low=1e-3, high=10)
    weak_share: Float[Array, ""] = leaf("1", "share of leaky cells", low=0, high=1)
    weak_median: Float[Array, ""] = leaf("s", "their median retention at the reference temperature", low=1e-6)
    weak_spread: Float[Array, ""] = leaf("1", "standard deviation of its natural logarithm", low=1e-3, high=10)
    temperature: Float[Array, ""] = leaf("K", "temperature of the cells", low=200, high=500, default=358.15)
    reference_temperature: Float[Array, ""] = leaf(
        "K", "temperature at which retention is given; 85 C", low=200, high=500, default=358.15
    )
    halving_temperature: Float[Array, ""] = leaf("K", "heating that halves each retention", low=1, default=10.0)
    anti_cell_share: Float[Array, ""] = leaf(
        "1", "share of outputs in anti cells, whose charge is a zero", low=0, high=1, default=0.5
    )
    ecc_word_bits: int = static(
        "data bits, of consecutive inputs of an output, in which the die corrects one error; 0: none; 128 with 8 check "
        "bits in LPDDR4 (EIN)",
        low=0,
        default=0,
    )
    not_finite: str = static(
        "what a float becomes that flipped bits make infinite or NaN: the largest finite one of its sign, or what is "
        "stored, which makes products of its output infinite or NaN",
        choices=("largest", "stored"),
        default="largest",
    )

    def rate(self) -> Float[Array, ""]:
        """The share of cells whose retention is shorter than the refresh interval, at the temperature."""
        return self.lost_after(self.refresh_interval)

    def lost_after(self, age: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The share of cells whose retention is shorter than an age (s), at the temperature."""
        hotter = (self.temperature - self.reference_temperature) / self.halving_temperature
        interval = jnp.log(age) + jnp.log(2.0) * hotter  # as long as this at the reference
        normal = ndtr((interval - jnp.log(self.median)) / self.spread)
        weak = ndtr((interval - jnp.log(self.weak_median)) / self.weak_spread)
        return (1 - self.weak_share) * normal + self.weak_share * weak

    def failing(self, key: Key[Array, ""], shape: tuple[int, ...], bits: int) -> UInt32[Array, "..."]:
        """Words of `bits` cells with a one for each whose retention is too short, charged or not."""
        rate = self.rate()

        def add(words, bit):
            return words | (fine_uniform(fold(key, bit), shape) < rate).astype(jnp.uint32) << bit, None

        words, _ = jax.lax.scan(add, jnp.zeros(shape, jnp.uint32), jnp.arange(bits, dtype=jnp.uint32))
        return words

    def anti(self, key: Key[Array, ""], n_out: int) -> Bool[Array, "n_out"]:
        """Which outputs lie in anti cells."""
        return uniform(fold(key, ANTI_ROWS), (n_out,)) < self.anti_cell_share

    def flip(self, words: UInt32[Array, "n_in n_out"], name: str, key: Key[Array, ""]) -> UInt32[Array, "n_in n_out"]:
        """The words of a matrix as they are read.

        Args:
            words: what was written, in the lowest bits; see `stored_words`.
            name: their format, "fp32", "fp16", "bf16", "int8" or "int4".
            key: of the chip and the matrix, use "retention".
        """
        bits = WORD_BITS[name]
        charged = self._charged(words, bits, self.anti(key, words.shape[1])[None])
        lost = self._uncorrected(charged & self.failing(key, words.shape, bits), bits, key)
        return self._without(words, lost, name)

    def after(
        self, words: UInt32[Array, "*n"], name: str, anti: Bool[Array, "*#n"], failing: UInt32[Array, "*n"]
    ) -> UInt32[Array, "*n"]:
        """The words of which some cells fail, without correction.

        Args:
            words: what was written.
            name: their format.
            anti: which lie in anti cells.
            failing: a one for each cell that fails if it is charged.
        """
        return self._without(words, self._charged(words, WORD_BITS[name], anti) & failing, name)

    def _charged(self, words: UInt32[Array, "*n"], bits: int, anti: Bool[Array, "*#n"]) -> UInt32[Array, "*n"]:
        return jnp.where(anti, ~words, words) & jnp.uint32((1 << bits) - 1)

    def _without(self, words: UInt32[Array, "*n"], lost: UInt32[Array, "*n"], name: str) -> UInt32[Array, "*n"]:
        read = words ^ lost
        return read if self.not_finite == "stored" else jnp.where(lost == 0, read, finite_words(read, name))

    def _uncorrected(self, lost: UInt32[Array, "n_in n_out"], bits: int, key) -> UInt32[Array, "n_in n_out"]:
        """What is left of lost bits after correction: all of a code word, check bits counted, that lost more than one.

        What a decoder does to two errors depends on its code, which is not public: a third bit that it may turn over
        is left out. The check cells fail as the others do; whether one is charged is left to an even chance.
        """
        if not self.ecc_word_bits:
            return lost
        if self.ecc_word_bits % bits:
            raise DeviceError(
                f"retention.ecc_word_bits = {self.ecc_word_bits} holds no whole number of words of {bits} bits: "
                "choose a multiple, 128 for instance"
            )
        n_in, n_out = lost.shape
        size = self.ecc_word_bits // bits
        filled = jnp.pad(lost, ((0, -n_in % size), (0, 0)))
        errors = jax.lax.population_count(filled).reshape(-1, size, n_out).sum(axis=1)
        rate = self.rate()
        for i in range(check_bits(self.ecc_word_bits)):
            weak = fine_uniform(fold(key, CHECK_CELLS + i), errors.shape) < rate
            held = uniform(fold(key, CHECK_CHARGE + i), errors.shape) < 0.5
            errors = errors + (weak & held).astype(jnp.uint32)
        beyond = jnp.repeat(errors > 1, size, axis=0)[:n_in]
        return jnp.where(beyond, lost, jnp.uint32(0))


def check_bits(data_bits: int) -> int:
    """Check bits of a code that corrects one error: the least r with 2^r >= data bits + r + 1 (Hamming)."""
    return next(r for r in range(1, 64) if 1 << r >= data_bits + r + 1)


def log_normal_through(
    first: tuple[float, float], second: tuple[float, float], *, share: float = 1.0
) -> tuple[float, float]:
    """Median (s) and spread of the log-normal law of `share` of all cells that gives two measured rates.

    Args:
        first: refresh interval in s, and share of all cells that fail at it.
        second: the same for a longer interval.
        share: share of all cells that the law is of.

    Raises DeviceError unless the rates grow with the interval and lie between 0 and `share`.

    >>> log_normal_through((0.128, 1.1e-10), (0.256, 3.7e-9), share=1e-4)
    (9.1..., 0.9...)
    """
    (short, few), (long, many) = first, second
    if not (0 < short < long and 0 < few < many < share <= 1):
        raise DeviceError(
            f"no log-normal law of a share of {share:g} has rates of {few:g} at {short:g} s and {many:g} at {long:g} "
            "s: the longer interval comes second, and rates grow with it from above 0 to below the share"
        )
    low, high = (float(ndtri(jnp.float32(rate / share))) for rate in (few, many))
    spread = math.log(long / short) / (high - low)
    return short * math.exp(-spread * low), spread
