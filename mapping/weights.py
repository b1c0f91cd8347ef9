"""Weights to slices: scales, integers and the digits that single cells hold."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def weight_scale(weights: Float[Array, "n_in n_out"], granularity: str) -> Float[Array, "n_out"]:
    """The weight that maps to full conductance, for each column: its own largest magnitude, or the matrix's.

    The granularity matters more than sigma: with one scale a matrix, an outlier elsewhere shrinks a column into the
    noise.
    A column of zeros has scale 1.
    """
    largest = jnp.max(jnp.abs(weights), axis=0 if granularity == "column" else None, keepdims=True)
    scale = jnp.where(largest == 0, 1.0, largest)
    return jnp.broadcast_to(scale, (1, weights.shape[1]))[0]


def slice_weights(
    weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int
) -> tuple[Float[Array, "slices n_in n_out"], Float[Array, "slices"]]:
    """Weights in [-1, 1] as signed digits in [-1, 1] that single cells hold, least significant first, and their gains.

    Without `weight_bits` the one slice is the weight itself. With them the weight is an integer of that many bits, sign
    included, +-(2^(bits-1) - 1); its magnitude is cut into digits of ceil((bits-1) / slices) bits, all with the sign of
    the weight, and sum_s gain_s * digit_s is the rounded weight.
    """
    if weight_bits is None:
        if slices != 1:
            raise ValueError("more than one slice needs weight_bits")
        return weights[None], jnp.ones(1)
    limit = 2.0 ** (weight_bits - 1.0) - 1.0
    code = jnp.round(jnp.abs(weights) * limit)
    base = 2.0 ** jnp.ceil((weight_bits - 1.0) / slices)
    place = base ** jnp.arange(slices, dtype=jnp.float32)
    digits = jnp.floor(code[None] / place[:, None, None]) % base
    return jnp.sign(weights)[None] * digits / (base - 1.0), place * (base - 1.0) / limit
