"""A converter by its data sheet: power, rate and area at one resolution, and how they go with the bits."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record, static

WITH_BITS = {
    "none": "the same whatever the bits",
    "linear": "in proportion to the bits",
    "exponential": "twice as much a bit",
}


def _scaling(what: str) -> Any:
    return static(f"how {what} goes with the bits", choices=tuple(WITH_BITS), meanings=WITH_BITS, default="none")


@record
class RatedADCCost:
    """A converter of which power, rate and area are known at `rated_bits`.

        t = t_scale / rate      E = p_scale power t      A = a_scale rated_area

    Each scale is 1, bits / rated_bits or 2^(bits - rated_bits). PUMA's power and time are linear both; Newton's
    conversion of X bits on a 9-bit SAR takes X / 9 of the time at the same power (Nag et al., IEEE Micro 2018); tools
    in ISAAC's line let power and area double a bit.

    `rate` is conversions a second, not the clock of a SAR's bit cycles: ISAAC's 1.28 GS/s converter takes 0.78 ns and
    1.56 pJ. With `rated_vdd` energies follow the square of the supply, without it they ignore it.
    """

    LIMITS: ClassVar[Reach] = {"bits": (1, 16)}

    power: Float[Array, ""] = leaf("W", "power while it converts", low=0)
    rate: Float[Array, ""] = leaf("1/s", "conversions a second", low=1)
    rated_area: Float[Array, ""] = leaf("m^2", "area of a converter", low=0)
    rated_bits: Float[Array, ""] = leaf("1", "bits for which these are given", low=1, high=16)
    rated_vdd: Float[Array, ""] | None = leaf(
        "V", "supply for which the power is given; absent: the supply does not matter", low=0.1, high=5, default=None
    )
    power_scaling: str = _scaling("the power")
    time_scaling: str = _scaling("the time of a conversion")
    area_scaling: str = _scaling("the area")

    def _scale(self, scaling: str, bits) -> Float[Array, "..."]:
        if scaling == "linear":
            return bits / self.rated_bits
        return jnp.exp2(bits - self.rated_bits) if scaling == "exponential" else jnp.ones(jnp.shape(bits))

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion."""
        square = 1.0 if self.rated_vdd is None else (vdd / self.rated_vdd) ** 2
        return self._scale(self.power_scaling, bits) * self.power * self.latency(bits, 0.0) * square

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion."""
        return self._scale(self.time_scaling, bits) / self.rate

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self._scale(self.area_scaling, bits) * self.rated_area
