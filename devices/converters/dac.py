"""Input converters: how a digital activation becomes voltages on the word lines.

A DAC turns inputs scaled to [-1, 1] into whole numbers, `levels` of each step, and the place value of each step:

    x  ~  sum over steps of places * levels / top.

Each step is applied to the whole array, and its sums are converted by the ADC. Of the whole numbers follow `planes`,
what word lines are driven at as a share of full drive, and the digital weight (`gain`) with which the result of a step
counts. `applied` says what the word lines get instead of those levels: each line has a converter of its own, common to
the arrays side by side.
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.cells.conduction import Conduction
from pim.devices.cells.state_law import StateLaw
from pim.devices.converters.capacitors import MAGNITUDE_BITS, binary_weights
from pim.devices.converters.codes import LEVELS, codes_of
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.word_line import disturbed, full_pulse, mismatch_part, noise_leaf
from pim.devices.record import leaf, part, record, static


class DAC(Protocol):
    """An input converter."""

    percentile: Float[Array, ""]
    noise: Float[Array, ""] | None
    code: str
    """Which whole numbers stand for inputs: a name of `codes.LEVELS`."""
    area: Float[Array, ""]
    """Area (m^2) of one converter; there is one a word line."""

    @property
    def bipolar(self) -> bool:
        """Whether word lines are driven at levels of either sign."""
        ...

    @property
    def steps(self) -> int:
        """Array reads that one input vector takes."""
        ...

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip: 0 if all are alike."""
        ...

    @property
    def largest_level(self) -> Float[Array, ""]:
        """The whole number that is full drive."""
        ...

    @property
    def top(self) -> Float[Array, ""]:
        """The whole number that an input of one is."""
        ...

    @property
    def lsb(self) -> Float[Array, ""]:
        """Distance between two levels."""
        return 1.0 / self.largest_level

    def codes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """Whole numbers of each step, within +-largest_level, and the place value of each step."""
        ...

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """Word-line levels in [-1, 1] of each step, and the gain of each step: x is about the sum of gain * level."""
        levels, places = self.codes(x)
        return levels / self.largest_level, places * self.largest_level / self.top

    def pulse(self, levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "..."]]:
        """Voltage (of the full one, signed) and duration (of the longest) of the pulses of levels: their product."""
        ...

    def exposure(self, levels: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Voltage squared times duration, of a full pulse: what white noise of cells and their energy go with.

        A level that is a voltage counts level^2, one that is a duration |level|.
        """
        amplitude, duration = self.pulse(levels)
        return amplitude**2 * duration

    def charged(self, exposure: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Mean square voltage (of the full one) to which lines are charged for levels of this mean exposure."""
        return exposure

    def conducted(
        self, levels: Float[Array, "*n"], law: Conduction, v_read: Float[Array, ""]
    ) -> list[Float[Array, "*n"]]:
        """The terms b_r of a law of conduction at the voltages of `levels`, each for as long as it is applied."""
        amplitude, duration = self.pulse(levels)
        return [term * duration for term in law.drives(amplitude * v_read)]

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """What word lines get when told to take `levels`, from converters of the standard normal numbers `frozen`.

        `draws` are those of the noise. None: all zero.
        """
        ...

    @property
    def durations(self) -> int:
        """Time that all steps of an input take, in those of one read (`AnalogMacro.t_read`)."""
        return self.steps

    @property
    def full_duration(self) -> int:
        """What they would take if every level were full drive."""
        return self.durations

    def energy(self, vdd, active) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line (all its steps).

        `active` is the share of levels that are not zero: what has no pulse switches nothing.
        """
        ...


AT_ONCE = ("sign_magnitude", "unsigned")


def rounded(x: Float[Array, "*n"], code: str, bits) -> Float[Array, "*n"]:
    """Inputs in [-1, 1] as the nearest whole numbers of a code."""
    low, high, full = codes_of(code, bits)
    return jnp.clip(jnp.round(x * full), low, high)


class AtOnce(DAC, Protocol):
    """What input converters that apply all bits at once share: one array read an input vector, a level a code."""

    bits: Float[Array, ""]
    capacitance_per_bit: Float[Array, ""]

    @property
    def bipolar(self) -> bool:
        """Unless unsigned."""
        return self.code != "unsigned"

    @property
    def steps(self) -> int:
        """One."""
        return 1

    @property
    def largest_level(self) -> Float[Array, ""]:
        """The largest code: 2^(bits-1) - 1, or 2^bits - 1 unsigned."""
        return codes_of(self.code, self.bits).high

    @property
    def top(self) -> Float[Array, ""]:
        """The largest level."""
        return self.largest_level

    def codes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "1 *n"], Float[Array, "1"]]:
        """The input, rounded and clipped."""
        return rounded(x, self.code, self.bits)[None], jnp.ones(1)

    def energy(self, vdd, active) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line: E = C bits vdd^2, of any input but zero."""
        return self.capacitance_per_bit * self.bits * vdd**2 * active


@record
class MultibitDAC(AtOnce):
    """All bits at once, as voltages: one array read an input vector.

    With the code sign_magnitude 2^bits - 1 levels, symmetric about zero; unsigned 2^bits levels from zero up, to which
    negative inputs clip.
    """

    bits: Float[Array, ""] = leaf("1", "resolution: how many levels that makes, `code` says", low=2, high=16)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration inputs that a static range must hold; the rest clips", low=50, high=100
    )
    capacitance_per_bit: Float[Array, ""] = leaf(
        "F", "capacitance switched a bit and conversion: E = C * bits * vdd^2", low=0
    )
    area: Float[Array, ""] = leaf("m^2", "area of one converter", low=0)
    sigma_unit: Float[Array, ""] | None = leaf(
        "1",
        "standard deviation of a unit capacitor, relative, of binary-weighted ones; absent: no mismatch of levels",
        low=0,
        high=0.2,
        default=None,
    )
    mismatch: GainOffsetMismatch | None = mismatch_part()
    inl: StateLaw | None = part(
        "by what every level is too high, in LSB, against the level in [-1, 1]; absent: straight", default=None
    )
    noise: Float[Array, ""] | None = noise_leaf()
    code: str = static("levels of an input", choices=AT_ONCE, meanings=LEVELS, default="sign_magnitude")

    @property
    def numbers(self) -> int:
        """Two for gain and offset, and one for each capacitor."""
        own = self.mismatch.numbers if self.mismatch is not None else 0
        return own + (MAGNITUDE_BITS if self.sigma_unit is not None else 0)

    def pulse(self, levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, ""]]:
        """A voltage, for the whole read."""
        return full_pulse(levels)

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """The sum of the capacitors in each code, then INL, gain, offset and noise."""
        ideal = levels
        if self.sigma_unit is not None and frozen is not None:
            levels = self._switched(levels, frozen[self.numbers - MAGNITUDE_BITS :])
        if self.inl is not None:
            levels = levels + self.lsb * self.inl(ideal)
        return disturbed(levels, self.lsb, self.mismatch, self.noise, frozen, draws)

    def _switched(
        self, levels: Float[Array, "steps batch lines"], frozen: Float[Array, "capacitors lines"]
    ) -> Float[Array, "steps batch lines"]:
        limit = self.largest_level
        _, weights = binary_weights(self.sigma_unit, limit, frozen)
        code = jnp.round(jnp.abs(levels) * limit).astype(jnp.int32)
        total = jnp.zeros_like(levels)
        for k in range(MAGNITUDE_BITS):
            total = total + ((code >> k) & 1) * weights[k, None, None]
        return jnp.sign(levels) * total / limit
