"""Analog-to-digital converter: what it does to a column's sum, and what a conversion costs.

The record is a uniform quantiser. What a real converter adds are parts and fields, each absent by default: mismatch of
gain and offset, a curved transfer (INL), an architecture with errors of its own (SAR, flash, ramp), and noise.
"""

from typing import Protocol

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.converters.architecture import Architecture
from pim.devices.converters.clipping import clip_factor
from pim.devices.converters.codes import LEVELS, CodeLimits, codes_of
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record, static


class ConverterCost(Protocol):
    """Cost law of a converter: one conversion of `bits` at supply `vdd` (V) behind `rows` rows."""

    def energy(self, bits, vdd, code) -> Float[Array, ""]:
        """Energy (J) of a conversion; `code` is the mean magnitude of the codes, over the largest one."""
        ...

    def latency(self, bits, rows) -> Float[Array, ""]:
        """Time (s) of a conversion."""
        ...

    def area(self, bits) -> Float[Array, ""]:
        """Area (m^2) of a converter."""
        ...


@record
class ADC:
    """A uniform quantiser with a clipping range, shared by several columns.

    `code` says which codes `bits` give, and how far apart they are (the step, LSB):

    - sign_magnitude: 2^bits - 1 codes, the same number on both sides of zero: range / (2^(bits-1) - 1);
    - twos_complement: 2^bits codes, one more below zero than above: range / 2^(bits-1);
    - unsigned: 2^bits codes from zero to the range: range / (2^bits - 1);
    - offset: 2^bits codes from the low to the high end of the range, both included: (high - low) / (2^bits - 1). It
      alone has two ends of its own; where they are symmetric no code is zero.

    The range belongs to the programmed matrix: calibration measures its sums, and `range_rule` says what the codes must
    reach:

    - full: the largest sum that the array could ever give, so that nothing clips;
    - percentile: what holds `percentile` of the sums (with two ends as many are cut off above as below);
    - power_of_two: the full range over 2^k, with the largest k that still holds `percentile` of the sums: ranges differ
      by shifts;
    - snr: |mean| + k standard deviations (with two ends: mean +- k), with the k that is best at these `bits` for a
      bell-shaped distribution (see `clip_factor`);
    - minimum_error: what leaves the smallest mean square error, of steps and clipping, in the calibration sums;
    - granular: an LSB is the smallest product of an input level and a weight digit;
    - given: `low` to `high`, fixed by the hardware.

    full, granular and given need no calibration.

    What shares a range, `range_per`: a column, or a tile (all columns of a slice in it); "slice" and "matrix" take
    the widest of their tiles.

    Noise is added first, then come gain and offset, then INL; the architecture finds the code of what results.
    """

    bits: Float[Array, ""] = leaf("1", "resolution: how many codes that makes, `code` says", low=2, high=16)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration sums that the range must hold; the rest clips", low=50, high=100
    )
    columns_per_adc: Float[Array, ""] = leaf("1", "columns that take turns at one converter", low=1)
    cost: ConverterCost | None = part("what a conversion costs; absent: unknown", default=None)
    range_rule: str = static(
        "what sets the range, once calibrated",
        choices=("full", "percentile", "power_of_two", "snr", "minimum_error", "granular", "given"),
        default="percentile",
    )
    range_per: str = static("what shares one range", choices=("matrix", "slice", "tile", "column"), default="tile")
    reconstruct: str = static(
        "what a code stands for: its level, or the whole number of smallest products next to it",
        choices=("level", "integer"),
        default="level",
    )
    noise: Float[Array, ""] | None = leaf(
        "1", "standard deviation of the input-referred noise of a conversion, in LSB; absent: none", low=0, default=None
    )
    enob: Float[Array, ""] | None = leaf(
        "1",
        "effective bits that the steps and noise leave of a full-scale sine (INL and mismatch come on top), in place "
        "of `noise`; absent: no noise",
        low=1,
        high=16,
        default=None,
    )
    mismatch: GainOffsetMismatch | None = part("gain and offset of each converter; absent: all alike", default=None)
    inl: StateLaw | None = part(
        "what every converter reads too high, in LSB, against signal / full scale (code = 'offset': against the place "
        "between the ends, -1 to 1); absent: straight",
        default=None,
    )
    architecture: Architecture | None = part("how codes are found; absent: without error", default=None)
    code: str = static(
        "which codes there are, and how far apart", choices=tuple(LEVELS), meanings=LEVELS, default="sign_magnitude"
    )
    high: Float[Array, ""] | None = leaf(
        "1", "with range_rule = 'given': the range, in cells at full conductance and input", low=1e-6, default=None
    )
    low: Float[Array, ""] | None = leaf(
        "1", "with range_rule = 'given' and code = 'offset': its low end; absent: -high", default=None
    )

    def prepare(self) -> "ADC":
        """Itself, once it is known to make sense.

        Raises DeviceError for noise given twice, for a range that is missing or serves nothing, or for more bits than
        the architecture has.
        """
        self._check_range()
        if self.noise is not None and self.enob is not None:
            raise DeviceError("adc.noise and adc.enob both say how large the noise is: leave one away")
        if isinstance(self.bits, Tracer):
            return self
        if self.architecture is not None and float(self.bits) > self.architecture.max_bits:
            name = type(self.architecture).__name__
            raise DeviceError(
                f"adc.bits = {float(self.bits):g}, but this {name} has {self.architecture.max_bits} at most: raise "
                "adc.architecture.max_bits or lower adc.bits"
            )
        return self

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip: 0 if all are alike."""
        return sum(law.numbers for law in (self.mismatch, self.architecture) if law is not None)

    def _check_range(self) -> None:
        given = self.range_rule == "given"
        if given and self.high is None:
            raise DeviceError("adc.range_rule = 'given' needs adc.high, the range in cells: give it, or another rule")
        if not given and (self.high is not None or self.low is not None):
            raise DeviceError(
                f"adc.high and adc.low are the range of adc.range_rule = 'given'; with {self.range_rule!r} they would "
                "serve nothing: leave them away, or set the rule"
            )
        if self.low is not None and self.code != "offset":
            raise DeviceError(
                f"adc.low is given, but adc.code = {self.code!r} has no low end of its own: leave it away, or take "
                "adc.code = 'offset'"
            )
        low, high = self.low, self.high
        if low is None or high is None or isinstance(low, Tracer) or isinstance(high, Tracer):
            return
        if not float(low) < float(high):
            raise DeviceError(f"adc.low = {float(low):g} is not below adc.high = {float(high):g}")

    def limits(self) -> CodeLimits:
        """The lowest and the highest code, and how many are full scale."""
        return codes_of(self.code, self.bits)

    def codes(self) -> Float[Array, ""]:
        """The largest code."""
        return self.limits().high

    def reaching(self, low: Float[Array, "*n"], high: Float[Array, "*n"]) -> Span:
        """The narrowest range whose codes reach from `low` to `high` (unsigned: from zero to `high`)."""
        if self.code == "offset":
            return Span(low, high)
        if self.code == "unsigned":
            return Span(jnp.zeros_like(high), high)
        if self.code == "twos_complement":  # +full scale is no code
            _, top, full = self.limits()
            high = high * (full / top)
        high = jnp.maximum(high, -low)
        return Span(-high, high)

    def given_span(self) -> Span:
        """The range that the hardware fixes."""
        assert self.high is not None
        return Span(self.low if self.low is not None else -self.high, self.high)

    def step(self, span: Span) -> Float[Array, "*n"]:
        """The LSB of a range, in its units."""
        width = span.high - span.low if self.code == "offset" else span.high
        return width / self.limits().full

    def snr_range(self, mean: Float[Array, "*n"], std: Float[Array, "*n"]) -> Span:
        """What the rule "snr" wants codes to reach, for sums of this mean and standard deviation."""
        reach = clip_factor(self.bits) * std
        return Span(mean - reach, mean + reach)

    def noise_variance(self) -> Float[Array, ""] | None:
        """Variance of the input-referred noise in LSB^2; None: no noise.

        A sine of amplitude L LSB has the power L^2 / 2, and `enob` means a signal over noise of 1.5 4^enob (6.02 enob +
        1.76 dB), so that noise and the steps' 1/12 LSB^2 together are L^2 / (3 4^enob). IEEE Std 1241.
        """
        if self.enob is None:
            return None if self.noise is None else self.noise**2
        low, high, _ = self.limits()
        amplitude = (high - low) / 2.0
        return jnp.maximum(amplitude**2 / (3.0 * 4.0**self.enob) - 1.0 / 12.0, 0.0)

    def convert(
        self,
        signal: Float[Array, "*n"],
        span: Span,
        frozen: Float[Array, "numbers *k"] | None = None,
        unit: Float[Array, ""] | None = None,
    ) -> Float[Array, "*n"]:
        """The signal as the converter's codes say it is, in the units of the signal, without noise.

        Args:
            signal: what is converted.
            span: the range; broadcasts over the signal.
            frozen: the standard normal numbers of the converters; broadcast over the signal. None: all zero.
            unit: the smallest product, for `reconstruct = "integer"`.
        """
        low, high, full = self.limits()
        step = self.step(span)
        level = signal / step
        if frozen is None:
            frozen = jnp.zeros((self.numbers, *(1,) * signal.ndim))
        if self.mismatch is not None:
            level = self.mismatch.distort(level, frozen[: self.mismatch.numbers])
        first = None  # where the converter begins to count, in LSB; None: at zero
        if self.code == "offset":
            first = (span.low + span.high) / (2.0 * step) - full / 2.0  # no error where the range is symmetric
        elif self.code == "twos_complement":
            first, low, high = low, 0.0 * low, high - low
        level = level if first is None else level - first
        if self.inl is not None:
            level = level + self.inl(jnp.clip(self._place(level, full), -1.0, 1.0))
        if self.architecture is not None:
            code = self.architecture.code(level, low, high, frozen[self.numbers - self.architecture.numbers :])
        else:
            code = jnp.clip(jnp.round(level), low, high)
        value = code * step if first is None else (code + first) * step
        if self.reconstruct == "integer" and unit is not None:
            value = jnp.round(value / unit) * unit
        return value

    def _place(self, level: Float[Array, "*n"], full: Float[Array, ""]) -> Float[Array, "*n"]:
        """Where in its range a signal lies, which the converter counts from where it begins: -1 to 1, or 0 to 1."""
        if self.code == "offset":
            return 2.0 * level / full - 1.0
        if self.code == "twos_complement":
            return level / full - 1.0
        return level / full
