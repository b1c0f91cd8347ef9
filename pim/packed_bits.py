"""A tile's sums as whole numbers, by logic on packed bits: AND and population count, 32 rows a word.

For inputs of one bit and a sign a step, -1, 0 or 1, and weights of few bits. A digit of b bits and a sign is kept in
two's complement, as b + 1 planes of bits that count 1, 2, .., 2^(b-1) and -2^b. The negative of a number is its
complement and one more, so that for an input with magnitude m and sign bit s

    sum over rows of x w = sum over planes of place * count(m & (plane ^ s)) + count(m & s),

one population count a plane whatever the signs (textbook: bit-serial arithmetic in two's complement).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Shaped, UInt32

WORD = 32
"""Rows of a word."""


def packed(bits: Shaped[Array, "*lead rows"]) -> UInt32[Array, "*lead words"]:
    """Bits (anything but zero is one) in words along the last axis, the last word filled up with zeros."""
    missing = -bits.shape[-1] % WORD
    padded = jnp.pad(bits != 0, [(0, 0)] * (bits.ndim - 1) + [(0, missing)]).reshape(*bits.shape[:-1], -1, WORD)
    place = jax.lax.broadcasted_iota(jnp.uint32, padded.shape, padded.ndim - 1)
    return (padded.astype(jnp.uint32) << place).sum(axis=-1, dtype=jnp.uint32)


def weight_planes(
    digits: Float[Array, "*lead rows columns"], planes: int
) -> UInt32[Array, "*lead planes words columns"]:
    """Whole digits of planes - 1 bits and a sign as planes of bits."""
    code = jnp.moveaxis(jnp.round(digits).astype(jnp.int32), -2, -1)
    bits = jnp.stack([(code >> k) & 1 for k in range(planes)], axis=-3)
    return jnp.moveaxis(packed(bits), -1, -2)


def input_planes(
    levels: Float[Array, "*lead rows"],
) -> tuple[UInt32[Array, "*lead words"], UInt32[Array, "*lead words"]]:
    """Magnitudes and signs of inputs that are -1, 0 or 1."""
    return packed(levels), packed(levels < 0)


def packed_sums(
    magnitudes: UInt32[Array, "batch words"],
    signs: UInt32[Array, "batch words"],
    planes: UInt32[Array, "planes words columns"],
) -> Int32[Array, "batch columns"]:
    """Sums of every column for every input vector.

    Written out over planes and words, so that all of it is one loop over batch and columns without a temporary.
    """
    total = _count(magnitudes & signs).sum(axis=-1, dtype=jnp.int32)[:, None]
    last = planes.shape[0] - 1
    for plane in range(last + 1):
        count = jnp.zeros((), jnp.int32)
        for word in range(planes.shape[1]):
            meets = planes[plane, word][None] ^ signs[:, word, None]
            count = count + _count(magnitudes[:, word, None] & meets)
        total = total + (-(1 << plane) if plane == last else 1 << plane) * count
    return total


def _count(words: UInt32[Array, "*n"]) -> Int32[Array, "*n"]:
    return jax.lax.population_count(words).astype(jnp.int32)
