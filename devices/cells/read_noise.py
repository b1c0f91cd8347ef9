"""Read noise: what each reading of a programmed cell adds, independent from cell to cell and from read to read.

The engine adds it at the column output before the ADC, where the sum over cells of variance(G) x^2 is exact in
distribution for a Gaussian, at the cost of one more product instead of one number a cell and read.
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.record import leaf, part, record


class ReadNoise(Protocol):
    """The law of one technology: the variance of a single cell's conductance from read to read."""

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) at conductance `g` (S)."""
        ...


@record
class ProportionalReadNoise:
    """Standard deviation proportional to the conductance: sigma = sigma_relative * G."""

    sigma_relative: Float[Array, ""] = leaf("1", "standard deviation over conductance", low=0, high=1)

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) at conductance `g` (S)."""
        return (self.sigma_relative * g) ** 2


@record
class AdditiveReadNoise:
    """The same standard deviation at every conductance."""

    sigma: Float[Array, ""] = leaf("S", "standard deviation", low=0)

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2), the same for every cell."""
        return jnp.broadcast_to(self.sigma**2, g.shape)


@record
class StateReadNoise:
    """Standard deviation by the state: sigma = spread_unit * spread(G / g_reference)."""

    spread: StateLaw = part("standard deviation against the state")
    spread_unit: Float[Array, ""] = leaf("S", "what a spread of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) at conductance `g` (S)."""
        return (self.spread_unit * self.spread(g / self.g_reference)) ** 2
