"""The product of whole numbers of any size, exactly, by products of bytes.

A number is cut into limbs of seven bits and a sign, which fit a byte. Every limb of the inputs meets every limb of the
weights in one product of bytes, whose sums in 32 bits are then added up at their places.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Int32

from pim.integer_sums import integer_sums

LIMB_BITS = 7


def limbs_of(largest: int) -> int:
    """Limbs that hold every whole number of at most that magnitude."""
    count = 1
    while largest > 2 ** (LIMB_BITS * count) - 1:
        count += 1
    return count


def limbs(codes: Float[Array, "rows columns"], count: int) -> Int8[Array, "limbs rows columns"]:
    """Whole numbers as limbs, least significant first, all with the sign of the number."""
    code = jnp.round(codes).astype(jnp.int32)
    magnitude, sign = jnp.abs(code), jnp.sign(code)
    parts = [((magnitude >> (LIMB_BITS * k)) & (2**LIMB_BITS - 1)) * sign for k in range(count)]
    return jnp.stack(parts).astype(jnp.int8)


def exact_product(
    x: Int8[Array, "x_limbs batch n_in"], weights: Int8[Array, "limbs n_out n_in"]
) -> Int32[Array, "batch n_out"]:
    """The product of inputs and weights that are cut into limbs, exact where no sum leaves int32."""
    (x_count, batch, n_in), (count, n_out, _) = x.shape, weights.shape
    sums = integer_sums(x.reshape(-1, n_in), weights.reshape(-1, n_in)).reshape(count, n_out, x_count, batch)
    total = jnp.zeros((n_out, batch), jnp.int32)
    for i in range(x_count):
        for j in range(count):
            total = total + (sums[j, :, i] << (LIMB_BITS * (i + j)))
    return total.T
