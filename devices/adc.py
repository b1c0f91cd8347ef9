"""Analog-to-digital converter: what it does to a column's sum, and what a conversion costs."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, part, record


class ConverterCost(Protocol):
    """Cost law of a converter: one conversion of `bits` at supply `vdd` (V) behind `rows` rows."""

    def energy(self, bits, vdd) -> Float[Array, ""]:
        """Energy (J) of a conversion."""
        ...

    def latency(self, bits, rows) -> Float[Array, ""]:
        """Time (s) of a conversion."""
        ...

    def area(self, bits) -> Float[Array, ""]:
        """Area (m^2) of a converter."""
        ...


@record
class ADC:
    """A uniform, symmetric quantiser with a clipping range, shared by several columns.

    `bits` give 2^bits - 1 codes, the same number on both sides of zero (sign and magnitude): the step is
    range / (2^(bits-1) - 1). The range belongs to the programmed matrix, where calibration puts it.
    """

    bits: Float[Array, ""] = leaf("1", "resolution: 2^bits - 1 codes, symmetric about zero", low=2, high=16)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration sums that the range must hold; the rest clips", low=50, high=100
    )
    columns_per_adc: Float[Array, ""] = leaf("1", "columns that take turns at one converter", low=1)
    cost: ConverterCost | None = part("what a conversion costs; absent: unknown", default=None)

    def codes(self) -> Float[Array, ""]:
        """The largest code: 2^(bits-1) - 1."""
        return 2.0 ** (self.bits - 1.0) - 1.0

    def convert(self, signal: Float[Array, "*n"], full_scale: Float[Array, "*m"]) -> Float[Array, "*n"]:
        """The signal as the converter's codes say it is, in the units of the signal; `full_scale` broadcasts."""
        step = full_scale / self.codes()
        limit = self.codes()
        return jnp.clip(jnp.round(signal / step), -limit, limit) * step
