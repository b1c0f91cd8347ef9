"""Input converters: how a digital activation becomes voltages on the word lines.

A DAC turns inputs scaled to [-1, 1] into `planes`, one a step, each applied to the whole array at once and converted by
the ADC, and the digital weight (`gain`) with which the result of each step counts. `applied` says what the word lines
get instead of those levels: each line has a converter of its own, common to the arrays side by side.
"""

from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.converters.capacitors import MAGNITUDE_BITS, binary_weights
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.record import leaf, part, record, static


class DAC(Protocol):
    """An input converter."""

    percentile: Float[Array, ""]
    noise: Float[Array, ""] | None

    @property
    def steps(self) -> int:
        """Array reads that one input vector takes."""
        ...

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip: 0 if all are alike."""
        ...

    @property
    def lsb(self) -> Float[Array, ""]:
        """Distance between two levels."""
        ...

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """Word-line levels in [-1, 1] of each step, and the gain of each step."""
        ...

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

    def energy(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line (all its steps)."""
        ...

    @property
    def area(self) -> Float[Array, "..."]:
        """Area (m^2) of one converter; there is one a word line."""
        ...


def _mismatch() -> Any:
    return part("gain and offset of each converter; absent: all alike", default=None)


def _noise() -> Any:
    return leaf("1", "standard deviation of the level from read to read, in LSB; absent: none", low=0, default=None)


def _disturbed(
    levels: Float[Array, "steps batch lines"],
    lsb: Float[Array, ""],
    mismatch: GainOffsetMismatch | None,
    noise: Float[Array, ""] | None,
    frozen: Float[Array, "numbers lines"] | None,
    draws: Float[Array, "steps batch lines"] | None,
) -> Float[Array, "steps batch lines"]:
    """Levels with gain, offset and noise."""
    if mismatch is not None and frozen is not None:
        levels = lsb * mismatch.distort(levels / lsb, frozen[: mismatch.numbers, None, None])
    if noise is not None and draws is not None:
        levels = levels + lsb * noise * draws
    return levels


@record
class MultibitDAC:
    """All bits at once: 2^bits - 1 voltage levels, symmetric about zero, one array read an input vector."""

    bits: Float[Array, ""] = leaf("1", "resolution: 2^bits - 1 levels, symmetric about zero", low=2, high=16)
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
    mismatch: GainOffsetMismatch | None = _mismatch()
    inl: StateLaw | None = part(
        "by what every level is too high, in LSB, against the level in [-1, 1]; absent: straight", default=None
    )
    noise: Float[Array, ""] | None = _noise()

    @property
    def steps(self) -> int:
        """One."""
        return 1

    @property
    def numbers(self) -> int:
        """Two for gain and offset, and one for each capacitor."""
        own = self.mismatch.numbers if self.mismatch is not None else 0
        return own + (MAGNITUDE_BITS if self.sigma_unit is not None else 0)

    @property
    def lsb(self) -> Float[Array, ""]:
        """1 / (2^(bits-1) - 1)."""
        return 1.0 / (2.0 ** (self.bits - 1.0) - 1.0)

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "1 *n"], Float[Array, "1"]]:
        """The input, rounded and clipped."""
        limit = 2.0 ** (self.bits - 1.0) - 1.0
        return (jnp.clip(jnp.round(x * limit), -limit, limit) / limit)[None], jnp.ones(1)

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
        return _disturbed(levels, self.lsb, self.mismatch, self.noise, frozen, draws)

    def _switched(
        self, levels: Float[Array, "steps batch lines"], frozen: Float[Array, "capacitors lines"]
    ) -> Float[Array, "steps batch lines"]:
        limit = 1.0 / self.lsb
        _, weights = binary_weights(self.sigma_unit, limit, frozen)
        code = jnp.round(jnp.abs(levels) * limit).astype(jnp.int32)
        total = jnp.zeros_like(levels)
        for k in range(MAGNITUDE_BITS):
            total = total + ((code >> k) & 1) * weights[k, None, None]
        return jnp.sign(levels) * total / limit

    def energy(self, vdd) -> Float[Array, ""]:
        """Energy (J) of applying one input to one word line (all its steps)."""
        return self.capacitance_per_bit * self.bits * vdd**2


@record
class BitSerialDAC:
    """One bit of the magnitude at a time, with the sign as the polarity of the pulse: bits - 1 array reads."""

    bits: int = static("resolution: sign and bits - 1 magnitude bits", low=2)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration inputs that a static range must hold; the rest clips", low=50, high=100
    )
    capacitance_per_bit: Float[Array, ""] = leaf("F", "capacitance switched by each one-bit step: E = C * vdd^2", low=0)
    area: Float[Array, ""] = leaf("m^2", "area of one driver", low=0)
    mismatch: GainOffsetMismatch | None = _mismatch()
    noise: Float[Array, ""] | None = _noise()

    @property
    def steps(self) -> int:
        """One a magnitude bit."""
        return self.bits - 1

    @property
    def numbers(self) -> int:
        """Two for gain and offset."""
        return self.mismatch.numbers if self.mismatch is not None else 0

    @property
    def lsb(self) -> Float[Array, ""]:
        """One: a pulse is there or not."""
        return jnp.ones(())

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """The magnitude's bits, least significant first, each with the sign of the input: -1, 0 or 1."""
        limit = 2.0**self.steps - 1.0
        code = jnp.clip(jnp.round(jnp.abs(x) * limit), 0.0, limit).astype(jnp.int32)
        sign = jnp.sign(x)
        bit = jnp.stack([((code >> k) & 1).astype(jnp.float32) * sign for k in range(self.steps)])
        return bit, 2.0 ** jnp.arange(self.steps) / limit

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """Pulses with gain, offset and noise; two levels lie on a straight line, so that there is no INL."""
        return _disturbed(levels, self.lsb, self.mismatch, self.noise, frozen, draws)

    def energy(self, vdd) -> Float[Array, ""]:
        """Energy (J) of applying one input to one word line (all its steps)."""
        return self.capacitance_per_bit * self.steps * vdd**2
