"""State laws: how a quantity of a cell (a spread, a drift exponent, an amplitude) depends on its state.

A law is a function of u = G / g_reference; whoever holds it says what its values are multiplied by. Published fits
differ in form only, so that one law of write error, drift or noise takes any of these, or a `Function` of your own.
Where a quantity is tabulated over times, every value of its law is a list with one entry a time.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, part, record, static

SMALLEST_STATE = 1e-7  # below, a logarithm or a power would leave float32


@runtime_checkable
class StateLaw(Protocol):
    """A quantity as a function of the state u."""

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The quantity at the states `u`."""
        ...


def at_knot(law: StateLaw, k) -> StateLaw:
    """The law at the time with index `k` (may be traced), of a law whose values are lists over times."""
    return jax.tree.map(lambda values: values[k], law)


@record
class Polynomial:
    """Sum of c_k u^k."""

    coefficients: Float[Array, "*times degree"] = leaf("1", "coefficients c_k, ascending")

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The sum, by Horner's rule."""
        value = jnp.zeros_like(u)
        for k in reversed(range(self.coefficients.shape[-1])):
            value = value * u + self.coefficients[..., k]
        return value


@record
class Saturating:
    """A (1 - exp(-u / B)): rises linearly from zero and levels off."""

    amplitude: Float[Array, "*times"] = leaf("1", "A, where it levels off")
    scale: Float[Array, "*times"] = leaf("1", "B, the state at which it has come to 63 % of A", low=1e-12)

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The law at `u`."""
        return -self.amplitude * jnp.expm1(-u / self.scale)


@record
class ClippedLog:
    """slope * ln u + offset, kept within [lowest, highest]."""

    slope: Float[Array, "*times"] = leaf("1", "change for each factor e of the state")
    offset: Float[Array, "*times"] = leaf("1", "value at u = 1, before clipping")
    lowest: Float[Array, "*times"] = leaf("1", "smallest value")
    highest: Float[Array, "*times"] = leaf("1", "largest value")

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The law at `u`."""
        value = self.slope * jnp.log(jnp.maximum(u, SMALLEST_STATE)) + self.offset
        return jnp.clip(value, self.lowest, self.highest)


@record
class ClippedPower:
    """scale * u^exponent, at most `highest`."""

    scale: Float[Array, "*times"] = leaf("1", "value at u = 1, before clipping")
    exponent: Float[Array, "*times"] = leaf("1", "power of the state")
    highest: Float[Array, "*times"] = leaf("1", "largest value")

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The law at `u`."""
        return jnp.minimum(self.scale * jnp.maximum(u, SMALLEST_STATE) ** self.exponent, self.highest)


@record
class Split:
    """One law up to a state, another above it."""

    state: Float[Array, "*times"] = leaf("1", "the largest state u of the first law")
    below: StateLaw = part("law of this and smaller states")
    above: StateLaw = part("law of larger states")

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The law at `u`."""
        return jnp.where(u <= self.state, self.below(u), self.above(u))


@record
class Function:
    """A law of your own: any function of the state u, written with jax.numpy.

    >>> def dip(u):
    ...     '''Spread of my cell in uS: largest in the middle of the window (my measurement of May).'''
    ...     return 0.4 + 4.0 * u * (1.0 - u)
    >>> pim.replace(device, {"cell.write_error.spread": Function(dip)})
    """

    function: Callable[[Array], Array] = static("a function of the state u")

    def __call__(self, u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """The function at `u`."""
        return self.function(u)
