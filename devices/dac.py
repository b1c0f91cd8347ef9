"""Input converters: how a digital activation becomes voltages on the word lines.

A DAC turns inputs scaled to [-1, 1] into `planes`, one a step, each applied to the whole array at once and converted by
the ADC, and the digital weight (`gain`) with which the result of each step counts.
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record, static


class DAC(Protocol):
    """An input converter."""

    percentile: Float[Array, ""]

    @property
    def steps(self) -> int:
        """Array reads that one input vector takes."""
        ...

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """Word-line levels in [-1, 1] of each step, and the gain of each step."""
        ...

    def energy(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line (all its steps)."""
        ...

    @property
    def area(self) -> Float[Array, "..."]:
        """Area (m^2) of one converter; there is one a word line."""
        ...


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

    @property
    def steps(self) -> int:
        """One."""
        return 1

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "1 *n"], Float[Array, "1"]]:
        """The input, rounded and clipped."""
        limit = 2.0 ** (self.bits - 1.0) - 1.0
        return (jnp.clip(jnp.round(x * limit), -limit, limit) / limit)[None], jnp.ones(1)

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

    @property
    def steps(self) -> int:
        """One a magnitude bit."""
        return self.bits - 1

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "steps *n"], Float[Array, "steps"]]:
        """The magnitude's bits, least significant first, each with the sign of the input: -1, 0 or 1."""
        limit = 2.0**self.steps - 1.0
        code = jnp.clip(jnp.round(jnp.abs(x) * limit), 0.0, limit).astype(jnp.int32)
        sign = jnp.sign(x)
        bit = jnp.stack([((code >> k) & 1).astype(jnp.float32) * sign for k in range(self.steps)])
        return bit, 2.0 ** jnp.arange(self.steps) / limit

    def energy(self, vdd) -> Float[Array, ""]:
        """Energy (J) of applying one input to one word line (all its steps)."""
        return self.capacitance_per_bit * self.steps * vdd**2
