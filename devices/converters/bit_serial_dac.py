"""The input converter that applies an input some bits at a time."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.codes import LEVELS, codes_of
from pim.devices.converters.dac import DAC, rounded
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.word_line import disturbed, full_pulse, mismatch_part, noise_leaf
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record, static

IN_STEPS = ("sign_magnitude", "unsigned", "twos_complement")


@record
class BitSerialDAC(DAC):
    """Some bits at a time, least significant first, an array read each: `slice_bits` bits a step, one by default.

    - sign_magnitude: the bits - 1 bits of the magnitude, with the sign as the polarity of every pulse;
    - unsigned: bits bits of what is not negative, to which negative inputs clip;
    - twos_complement: pulses of one polarity. The bits - 1 low bits, then the sign in a step of its own, whose result
      counts -2^(bits-1): a level of 2^(slice_bits-1), the place of a sign in a step, at the place -2^(bits-slice_bits).

    A step whose slice has fewer bits left is still a share of the 2^slice_bits - 1 of full drive (as in CrossSim).
    """

    bits: int = static("resolution: how many levels that makes, `code` says", low=2)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration inputs that a static range must hold; the rest clips", low=50, high=100
    )
    capacitance_per_bit: Float[Array, ""] = leaf(
        "F", "capacitance switched by each bit of a step: E = C * slice_bits * vdd^2", low=0
    )
    area: Float[Array, ""] = leaf("m^2", "area of one driver", low=0)
    mismatch: GainOffsetMismatch | None = mismatch_part()
    noise: Float[Array, ""] | None = noise_leaf()
    slice_bits: int = static("bits that one step applies", low=1, default=1)
    code: str = static("levels of an input", choices=IN_STEPS, meanings=LEVELS, default="sign_magnitude")
    levels_as: str = static(
        "what a level of several bits is: a voltage, or so many pulses of the full voltage, `t_read` each",
        choices=("voltage", "pulses"),
        default="voltage",
    )

    def prepare(self) -> "BitSerialDAC":
        """Itself; raises DeviceError for a step of more bits than there are to send."""
        if self.slice_bits > self.sent_bits:
            raise DeviceError(
                f"dac.slice_bits = {self.slice_bits}, but dac.bits = {self.bits} with dac.code = {self.code!r} leave "
                f"{self.sent_bits} to be sent: lower dac.slice_bits or raise dac.bits"
            )
        return self

    @property
    def bipolar(self) -> bool:
        """With sign_magnitude alone."""
        return self.code == "sign_magnitude"

    @property
    def sent_bits(self) -> int:
        """Bits that are cut into slices: all but the sign."""
        return self.bits if self.code == "unsigned" else self.bits - 1

    @property
    def steps(self) -> int:
        """One a slice, and one for the sign of twos_complement."""
        return -(-self.sent_bits // self.slice_bits) + (self.code == "twos_complement")

    @property
    def numbers(self) -> int:
        """Two for gain and offset."""
        return self.mismatch.numbers if self.mismatch is not None else 0

    @property
    def largest_level(self) -> Float[Array, ""]:
        """2^slice_bits - 1: with one bit a step a pulse is there or not."""
        return jnp.asarray(2.0**self.slice_bits - 1.0)

    @property
    def top(self) -> Float[Array, ""]:
        """2^(bits-1) - 1; 2^bits - 1 unsigned; 2^(bits-1) in two's complement."""
        return jnp.asarray(codes_of(self.code, self.bits).full)

    def codes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """The slices of the rounded input, least significant first."""
        whole = rounded(jnp.abs(x) if self.bipolar else x, self.code, self.bits).astype(jnp.int32)
        sent, mask = whole & (2**self.sent_bits - 1), 2**self.slice_bits - 1
        shifts = range(0, self.sent_bits, self.slice_bits)
        levels, places = [((sent >> k) & mask).astype(jnp.float32) for k in shifts], [2.0**k for k in shifts]
        if self.bipolar:
            levels = [level * jnp.sign(x) for level in levels]
        if self.code == "twos_complement":
            levels.append(jnp.where(whole < 0, 2.0 ** (self.slice_bits - 1), 0.0))
            places.append(-(2.0 ** (self.bits - self.slice_bits)))
        return jnp.stack(levels), jnp.asarray(places)

    def pulse(self, levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "..."]]:
        """A voltage, for the whole step; or the full voltage, for a share of it."""
        if self.levels_as == "pulses":
            return jnp.sign(levels), jnp.abs(levels)
        return full_pulse(levels)

    @property
    def durations(self) -> int:
        """One a step; with pulses 2^bits - 1 for a slice of so many bits (NeuRRAM integrates a bit 2^k times)."""
        if self.levels_as == "voltage":
            return self.steps
        slices = [min(self.slice_bits, self.sent_bits - k) for k in range(0, self.sent_bits, self.slice_bits)]
        sign = 2 ** (self.slice_bits - 1) if self.code == "twos_complement" else 0
        return sum(2**bits - 1 for bits in slices) + sign

    @property
    def full_duration(self) -> int:
        """A level is a share of 2^slice_bits - 1 pulses, in slices with fewer bits too."""
        return self.steps * (2**self.slice_bits - 1) if self.levels_as == "pulses" else self.steps

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """Pulses with gain, offset and noise; one bit's two levels lie on a straight line, so that there is no INL."""
        return disturbed(levels, self.lsb, self.mismatch, self.noise, frozen, draws)

    def energy(self, vdd, active) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line: a driver switches in the steps that have a pulse."""
        return self.capacitance_per_bit * (self.steps * self.slice_bits) * vdd**2 * active
