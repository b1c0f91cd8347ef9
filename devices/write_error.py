"""Write error: how far a cell's conductance lands from its target right after programming."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import normal, student_t
from pim.devices.record import leaf, record


class WriteError(Protocol):
    """The law of one technology: draws the error of each cell, in S."""

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells whose target conductance is `g` (S)."""
        ...


def polynomial(coefficients: Float[Array, "*lead degree"], x: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """Sum of c_k x^k, coefficients in ascending order, never below zero (a fitted sigma may dip there)."""
    value = jnp.zeros_like(x)
    for k in reversed(range(coefficients.shape[-1])):
        value = value * x + coefficients[..., k]
    return jnp.maximum(value, 0.0)


@record
class GaussianWriteError:
    """Normal error with a standard deviation polynomial in the target: sigma(G) = sum_k c_k (G / g_reference)^k."""

    coefficients: Float[Array, "degree"] = leaf("S", "coefficients c_k of sigma(G), ascending")
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the polynomial's argument is 1", low=1e-12)

    def sigma(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Standard deviation (S) at target `g` (S)."""
        return polynomial(self.coefficients, g / self.g_reference)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        return self.sigma(g) * normal(key, g.shape)


@record
class StudentWriteError:
    """Heavy-tailed error: scale(G) as for the Gaussian, times a Student-t number with `nu` degrees of freedom.

    `coefficients` give the scale of the distribution, not its standard deviation, which is scale * sqrt(nu / (nu - 2))
    and exists for nu > 2 only.
    """

    coefficients: Float[Array, "degree"] = leaf("S", "coefficients c_k of the scale, ascending")
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the polynomial's argument is 1", low=1e-12)
    nu: Float[Array, ""] = leaf("1", "degrees of freedom: the tail index", low=0.5)

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        return polynomial(self.coefficients, g / self.g_reference) * student_t(key, self.nu, g.shape)
