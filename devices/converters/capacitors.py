"""Arrays of binary-weighted capacitors, as in SAR converters and capacitor DACs, with mismatch."""

import jax.numpy as jnp
from jaxtyping import Array, Float

MAGNITUDE_BITS = 16
"""Capacitors that an array has at most: one for each bit of the largest code."""


def binary_weights(
    sigma_unit, limit: Float[Array, ""], frozen: Float[Array, "16 *m"]
) -> tuple[Float[Array, "16"], Float[Array, "16 *m"]]:
    """Nominal weights 2^k of the capacitors, in LSB, and those that an array with mismatch really has.

    Capacitor k is made of 2^k units, each off by `sigma_unit`: sigma(C_k) / C_k = sigma_unit / 2^(k/2). All share one
    reference, so that a common factor drops out and the largest code, `limit` (one less than a power of two), is exact.
    Then code c is off by sigma_unit sqrt(c (1 - c / limit)) LSB. Weights beyond `limit` are zero.
    """
    place = 2.0 ** jnp.arange(MAGNITUDE_BITS, dtype=jnp.float32)
    place = jnp.where(place <= limit, place, 0.0)
    nominal = place.reshape(-1, *(1,) * (frozen.ndim - 1))
    actual = nominal + sigma_unit * jnp.sqrt(nominal) * frozen
    return place, actual * (limit / actual.sum(axis=0, keepdims=True))
