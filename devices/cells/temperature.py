"""Temperature: what another temperature than that of the measurement does to a cell."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.constants import BOLTZMANN
from pim.devices.record import leaf, record


class Temperature(Protocol):
    """The law of one technology."""

    def ageing(self, temperature) -> Float[Array, ""]:
        """Factor by which time passes faster at `temperature` (K)."""
        ...

    def conduction(self, temperature) -> Float[Array, ""]:
        """Factor of every conductance at `temperature` (K)."""
        ...


@record
class Arrhenius:
    """Ageing by a thermally activated process, and a linear change of the conductance.

    Time passes exp(E_a / k (1/T_0 - 1/T)) times as fast as at the reference temperature T_0, the conductances are
    1 + tcr (T - T_0) times as large. One activation energy is an idealisation: of three RRAM technologies baked at 100
    to 260 C no two agree, and one loses its high states beyond 200 C (RRAM-Relaxation data).
    """

    activation_energy: Float[Array, ""] = leaf("J", "E_a of the ageing; 1 eV is 1.602e-19 J", low=0)
    reference_temperature: Float[Array, ""] = leaf("K", "T_0, at which the other laws were measured", low=1)
    tcr: Float[Array, ""] = leaf("1/K", "relative change of the conductance for each kelvin", default=0.0)

    def ageing(self, temperature) -> Float[Array, ""]:
        """exp(E_a / k (1/T_0 - 1/T))."""
        return jnp.exp(self.activation_energy / BOLTZMANN * (1 / self.reference_temperature - 1 / temperature))

    def conduction(self, temperature) -> Float[Array, ""]:
        """1 + tcr (T - T_0), zero at least."""
        return jnp.maximum(1.0 + self.tcr * (temperature - self.reference_temperature), 0.0)


@record
class TabulatedTemperature:
    """Ageing and conductance as tables over temperature, linear in between and constant outside."""

    temperatures: Float[Array, "points"] = leaf("K", "temperatures of the tables, ascending", low=1)
    ageing_factors: Float[Array, "points"] = leaf("1", "how many times faster time passes", low=0)
    conduction_factors: Float[Array, "points"] = leaf("1", "factor of every conductance", low=0)

    def ageing(self, temperature) -> Float[Array, ""]:
        """From the table, linear in the logarithm of the factor."""
        return jnp.exp(jnp.interp(temperature, self.temperatures, jnp.log(self.ageing_factors)))

    def conduction(self, temperature) -> Float[Array, ""]:
        """From the table."""
        return jnp.interp(temperature, self.temperatures, self.conduction_factors)
