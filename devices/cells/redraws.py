"""Write-verify by independent tries at once: pulses, success and landing of each cell in closed form, without a loop.

Where each try lands by a standard normal number z of its own, and is accepted between a and b, the chance of a try is
p = Phi(b) - Phi(a), the number of pulses is geometric, and the landing is that of z within [a, b], or outside if the
pulses have run out. One uniform number gives the pulses, a second the landing by the inverse of the truncated
distribution: exact, at the cost of one try, and with the slope of the distribution itself. (The slope along a sampled
sequence of tries is not that: it takes the tries that are accepted as given.)
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Bool, Float, Key

from pim.devices.random import fold, uniform

TINY = 1e-30  # a probability that is none, but has a finite quantile


class Tries(NamedTuple):
    """What independent tries come to."""

    z: Float[Array, "*cells"]
    """The number of the last try."""
    pulses: Float[Array, "*cells"]
    success: Bool[Array, "*cells"]


def tries(a: Float[Array, "*cells"], b: Float[Array, "*cells"], most: int, key: Key[Array, ""]) -> Tries:
    """Tries until one falls into [a, b], at most `most`."""
    flip = a + b > 0  # to the left of the middle a float tells small probabilities apart
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    left = ndtr(a)
    inside = jnp.clip(ndtr(b) - left, 0.0, 1.0)
    pulses = geometric(inside, uniform(fold(key, 0), a.shape))
    success = pulses <= most
    u = uniform(fold(key, 1), a.shape)
    outside = 1.0 - inside
    below = (u * outside < left) | (outside - left <= 0)  # of those that are refused: to the left of a
    refused = jnp.where(below, jnp.minimum(u * outside, left), (1.0 - u) * outside)
    quantile = ndtri(jnp.clip(jnp.where(success, left + u * inside, refused), TINY, 1.0 - 6e-8))
    z = jnp.where(success | below, quantile, -quantile)
    z = jnp.where(success, jnp.clip(z, a, b), jnp.where(below, jnp.minimum(z, a), jnp.maximum(z, b)))
    return Tries(jnp.where(flip, -z, z), jnp.minimum(pulses, float(most)), success)


def geometric(chance: Float[Array, "*cells"], u: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """Number of tries until the first success; infinite where the chance is zero."""
    hopeless = chance <= 0
    certain = chance >= 1
    safe = jnp.where(hopeless | certain, 0.5, chance)
    number = jnp.maximum(jnp.ceil(jnp.log1p(-u) / jnp.log1p(-safe)), 1.0)
    return jnp.where(hopeless, jnp.inf, jnp.where(certain, 1.0, number))
