"""Read noise: what each reading of a programmed cell adds, independent from cell to cell and from read to read.

The engine adds it at the column output before the ADC, where the sum over cells of variance(G) x^2 is exact in
distribution for a Gaussian, at the cost of one more product instead of one number a cell and read.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.record import leaf, part, record


class ReadNoise(Protocol):
    """The law of one technology: the variance of a single cell's conductance from read to read."""

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) at conductance `g` (S)."""
        ...


@runtime_checkable
class Shifting(Protocol):
    """A read noise whose mean is not zero."""

    def mean_shift(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Mean over reads (S) of what a cell with conductance `g` (S) has more than that."""
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


@record
class RectifiedReadNoise:
    """Normal noise of cells whose conductance never reads below zero: max(0, G + sigma z).

    With a = G / sigma and d = phi(a) - a Q(a), phi and Q the density and upper tail of the standard normal, the mean is
    G + sigma d and the variance sigma^2 (1 - Q - d (a + d)): moments of a rectified normal number. A cell at zero reads
    0.40 sigma on average. The mean is part of the chip, so that a read without noise is the mean of many.

    >>> pim.replace(device, {"cell.read_noise": RectifiedReadNoise(AdditiveReadNoise(1e-6))})
    """

    noise: ReadNoise = part("the noise that a conductance of either sign would have")

    def mean_shift(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """sigma d (S)."""
        sigma, _, _, d = self._rectified(g)
        return sigma * d

    def variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) of what is left above zero."""
        sigma, a, tail, d = self._rectified(g)
        return sigma**2 * jnp.maximum(1.0 - tail - d * (a + d), 0.0)

    def _rectified(self, g: Float[Array, "*cells"]) -> tuple[Array, Array, Array, Array]:
        """sigma, a, Q(a) and d; all zero where there is no noise."""
        variance = self.noise.variance(g)
        noisy = variance > 0
        sigma = jnp.sqrt(jnp.where(noisy, variance, 1.0))
        a = jnp.where(noisy, g / sigma, 0.0)
        tail = norm.sf(a)
        d = jnp.maximum(norm.pdf(a) - a * tail, 0.0)
        return jnp.where(noisy, sigma, 0.0), a, tail, d
