"""Write error: how far a cell's conductance lands from its target right after programming.

Each law is a distribution whose spread depends on the target, `spread_unit * spread(G / g_reference)`: published
coefficients are entered as they were printed, with the unit they were printed in.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.cells.state_law import StateLaw
from pim.devices.random import normal, student_t, uniform
from pim.devices.record import leaf, part, record

SMALLEST = 1e-15  # S: a conductance or spread that is none


@runtime_checkable
class WriteError(Protocol):
    """The law of one technology: draws the error of each cell, in S."""

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells whose target conductance is `g` (S)."""
        ...


@runtime_checkable
class Invertible(Protocol):
    """A write error whose landings rise with one standard normal number a cell."""

    def landing(self, aim: Float[Array, "*cells"], z: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Conductance (S) at the number `z` of a try that is aimed at `aim` (S)."""
        ...

    def latent(self, aim: Float[Array, "*cells"], g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The number at which a try that is aimed at `aim` (S) lands at `g` (S)."""
        ...


def spread_at(law: StateLaw, unit, reference, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """`unit * law(g / reference)`, never below zero (a fitted spread may dip there)."""
    return unit * jnp.maximum(law(g / reference), 0.0)


@record
class GaussianWriteError:
    """Normal error."""

    spread: StateLaw = part("standard deviation against the target")
    spread_unit: Float[Array, ""] = leaf("S", "what a spread of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)

    def sigma(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Standard deviation (S) at target `g` (S)."""
        return spread_at(self.spread, self.spread_unit, self.g_reference, g)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        return self.sigma(g) * normal(key, g.shape)

    def landing(self, aim: Float[Array, "*cells"], z: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """aim + sigma z."""
        return aim + self.sigma(aim) * z

    def latent(self, aim: Float[Array, "*cells"], g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """(g - aim) / sigma, where a spread below 1e-15 S counts as that much."""
        return (g - aim) / jnp.maximum(self.sigma(aim), SMALLEST)


@record
class StudentWriteError:
    """Heavy-tailed error: the spread times a Student-t number with `nu` degrees of freedom.

    The spread is the scale of the distribution, not its standard deviation, which is scale * sqrt(nu / (nu - 2)) and
    exists for nu > 2 only.
    """

    spread: StateLaw = part("scale against the target")
    spread_unit: Float[Array, ""] = leaf("S", "what a spread of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)
    nu: Float[Array, ""] = leaf("1", "degrees of freedom: the tail index", low=0.5)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        scale = spread_at(self.spread, self.spread_unit, self.g_reference, g)
        return scale * student_t(key, self.nu, g.shape)


@record
class WindowWriteError:
    """Uniform error within the acceptance window of write-verify, as if every cell ended somewhere in it."""

    spread: StateLaw = part("half the width of the window against the target")
    spread_unit: Float[Array, ""] = leaf("S", "what a spread of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        half = spread_at(self.spread, self.spread_unit, self.g_reference, g)
        return half * (2.0 * uniform(key, g.shape) - 1.0)


@record
class LognormalWriteError:
    """Conductance lognormal about its target, which is its median: ln(G / target) is normal."""

    spread: StateLaw = part("standard deviation of ln G against the target")
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        return g * jnp.expm1(spread_at(self.spread, 1.0, self.g_reference, g) * normal(key, g.shape))

    def landing(self, aim: Float[Array, "*cells"], z: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """aim exp(sigma z)."""
        return aim * jnp.exp(spread_at(self.spread, 1.0, self.g_reference, aim) * z)

    def latent(self, aim: Float[Array, "*cells"], g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """ln(g / aim) / sigma, where conductances below 1e-15 S and spreads below 1e-6 count as that much."""
        sigma = jnp.maximum(spread_at(self.spread, 1.0, self.g_reference, aim), 1e-6)
        return jnp.log(jnp.maximum(g, SMALLEST) / jnp.maximum(aim, SMALLEST)) / sigma
