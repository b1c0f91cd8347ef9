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


def row_groups(
    x: Int8[Array, "batch n_in"], codes: Int8[Array, "n_in n_out"], rows: int
) -> tuple[Int8[Array, "groups batch rows"], Int8[Array, "groups rows n_out"]]:
    """Inputs and matrix cut into groups of `rows` inputs, the last one filled up with zeros."""
    groups = -(-x.shape[1] // rows)
    missing = groups * rows - x.shape[1]
    left = jnp.pad(x, ((0, 0), (0, missing))).reshape(-1, groups, rows)
    right = jnp.pad(codes, ((0, missing), (0, 0))).reshape(groups, rows, -1)
    return jnp.moveaxis(left, 1, 0), right
