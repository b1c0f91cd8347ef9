"""Products of integer codes: bytes, summed in 32 bits, and therefore exact in whatever order."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int8, Int32

LONGEST = 1 << 16
"""Inputs whose sum cannot leave int32: 2^16 products of 2^7 * 2^7 reach 2^30."""


def integer_product(x: Int8[Array, "batch n_in"], codes: Int8[Array, "n_in n_out"]) -> Int32[Array, "batch n_out"]:
    """The product of codes in [-128, 127]; at most `LONGEST` inputs."""
    over_inputs = (((1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, codes, over_inputs, preferred_element_type=jnp.int32)


def partial_products(
    x: Int8[Array, "batch n_in"], codes: Int8[Array, "n_in n_out"], rows: int
) -> Int32[Array, "tiles batch n_out"]:
    """The sums of each run of `rows` inputs, the last one filled up with zeros."""
    tiles = -(-x.shape[1] // rows)
    missing = tiles * rows - x.shape[1]
    left = jnp.pad(x, ((0, 0), (0, missing))).reshape(-1, tiles, rows)
    right = jnp.pad(codes, ((0, missing), (0, 0))).reshape(tiles, rows, -1)
    by_tile = (((2,), (1,)), ((1,), (0,)))
    return jax.lax.dot_general(left, right, by_tile, preferred_element_type=jnp.int32)
