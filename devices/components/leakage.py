"""Leakage: static power an area, and what temperature and supply do to it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Leakage:
    """Static power in proportion to area.

    It doubles every so many kelvin; with the supply it grows exponentially (drain-induced barrier lowering).
    """

    density: Float[Array, ""] = leaf("W/m^2", "static power an area at the reference", low=0)
    temperature: Float[Array, ""] = leaf("K", "of the reference", low=1)
    vdd: Float[Array, ""] = leaf("V", "supply of the reference", low=0.1, high=5)
    doubling: Float[Array, ""] = leaf("K", "temperature difference that doubles it", low=1)
    per_volt: Float[Array, ""] = leaf("1/V", "change of its logarithm with the supply", low=0)

    def power(self, area, temperature=None, vdd=None) -> Float[Array, "..."]:
        """Static power (W) of an area (m^2) at a temperature (K) and supply (V); None: those of the reference."""
        kelvin = 0.0 if temperature is None else temperature - self.temperature
        volt = 0.0 if vdd is None else vdd - self.vdd
        return area * self.density * jnp.exp2(kelvin / self.doubling) * jnp.exp(self.per_volt * volt)
