"""A tile's sums as whole numbers, by products of bytes: exact, whatever the order in which they are summed.

Cells are kept column by column and multiplied from the left: as `integer_product` of a matrix that is turned round,
which the processor's byte products are several times faster for where few vectors meet a large matrix.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Int32

LARGEST = 127
"""Largest level of an input and largest digit of a weight that a byte holds."""


def as_bytes(signal: Float[Array, "rows columns"]) -> Int8[Array, "columns rows"]:
    """Whole digits of at most `LARGEST`, as `integer_sums` wants them."""
    return jnp.round(signal).astype(jnp.int8).T


def integer_sums(
    levels: Int8[Array, "inputs rows"], cells: Int8[Array, "columns rows"]
) -> Int32[Array, "columns inputs"]:
    """Sums of every column for every input vector; at most 2^17 rows, whose sums cannot leave int32."""
    inputs = levels.shape[0]
    over_rows = (((1,), (1,)), ((), ()))
    sums = jax.lax.dot_general(cells, two_at_least(levels), over_rows, preferred_element_type=jnp.int32)
    return sums[:, :inputs]


def two_at_least(vectors: Array) -> Array:
    """The vectors, and one of zeros beside a single one.

    A product of one vector with a matrix whose rows are not contiguous is not vectorised by XLA on processors: it takes
    up to ten times as long as that of two (JAX 0.10.1).
    """
    return jnp.pad(vectors, ((0, 1), (0, 0))) if vectors.shape[0] == 1 else vectors
