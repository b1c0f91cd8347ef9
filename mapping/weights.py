"""Weights to digits: scales, integers and the digits that single cells hold."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.mapping.errors import MappingError


class Digits(NamedTuple):
    """Weights cut into slices, least significant first: weight = sum_s gain_s * digit_s - offset."""

    digits: Float[Array, "slices n_in n_out"]
    gains: Float[Array, "slices"]
    offset: Float[Array, ""] | None = None


def weight_scale(
    weights: Float[Array, "n_in n_out"], granularity: str, statistic: str, rows: int, block: int
) -> Float[Array, "#tiles n_out"]:
    """The weight that maps to full conductance.

    The granularity matters more than sigma: with one scale a matrix, an outlier elsewhere shrinks a column into the
    noise. Where all weights are zero it is 1.

    Args:
        weights: the matrix.
        granularity: what shares a scale: the "matrix", a "column", a "tile" (what one array holds), or a "tile_column".
        statistic: "largest", the largest magnitude, or "mean", the mean magnitude, beyond which weights are cut off
            (with weights of two bits: the ternary weights of BitNet b1.58, arXiv 2402.17764).
        rows: rows of an array.
        block: outputs of an array.
    """
    n_in, n_out = weights.shape
    rows = n_in if granularity in ("matrix", "column") else rows
    width = {"matrix": n_out, "column": 1, "tile": block, "tile_column": 1}[granularity]
    tiles, blocks = -(-n_in // rows), -(-n_out // width)

    def cut(matrix):
        missing = (0, tiles * rows - n_in), (0, blocks * width - n_out)
        return jnp.pad(matrix, missing).reshape(tiles, rows, blocks, width)

    magnitude = cut(jnp.abs(weights))
    if statistic == "largest":
        scale = magnitude.max(axis=(1, 3))
    else:
        scale = magnitude.sum(axis=(1, 3)) / cut(jnp.ones_like(weights)).sum(axis=(1, 3))
    return jnp.repeat(jnp.where(scale == 0, 1.0, scale), width, axis=1)[:, :n_out]


def signed_digits(weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
    """Weights in [-1, 1] as signed digits in [-1, 1].

    Without `weight_bits` the one slice is the weight itself. With them the weight is an integer of that many bits, sign
    included, +-(2^(bits-1) - 1); its magnitude is cut into digits of ceil((bits-1) / slices) bits, all with the sign of
    the weight.
    """
    weights = jnp.clip(weights, -1.0, 1.0)
    if weight_bits is None:
        _only_slice(slices)
        return Digits(weights[None], jnp.ones(1))
    limit = 2.0 ** (weight_bits - 1.0) - 1.0
    code = jnp.round(jnp.abs(weights) * limit)
    base = 2.0 ** jnp.ceil((weight_bits - 1.0) / slices)
    digits, place = _cut(code, base, slices)
    return Digits(jnp.sign(weights)[None] * digits / (base - 1.0), place * (base - 1.0) / limit)


def offset_digits(weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
    """Weights in [-1, 1] as digits in [0, 1] of the shifted weight, and the offset by which it is shifted.

    The integer of `signed_digits` plus 2^(bits-1), so that the lowest state is never taken and zero has a state; cut
    into digits of ceil(bits / slices) bits.
    """
    weights = jnp.clip(weights, -1.0, 1.0)
    if weight_bits is None:
        _only_slice(slices)
        return Digits((weights[None] + 1.0) / 2.0, jnp.full(1, 2.0), jnp.ones(()))
    limit, half = 2.0 ** (weight_bits - 1.0) - 1.0, 2.0 ** (weight_bits - 1.0)
    base = 2.0 ** jnp.ceil(weight_bits / slices)
    digits, place = _cut(jnp.round(weights * limit) + half, base, slices)
    return Digits(digits / (base - 1.0), place * (base - 1.0) / limit, half / limit)


def _cut(
    code: Float[Array, "n_in n_out"], base: Float[Array, ""], slices: int
) -> tuple[Float[Array, "slices n_in n_out"], Float[Array, "slices"]]:
    """Digits of whole numbers, least significant first, and what each place counts."""
    place = base ** jnp.arange(slices, dtype=jnp.float32)
    return jnp.floor(code[None] / place[:, None, None]) % base, place


def _only_slice(slices: int) -> None:
    if slices != 1:
        raise MappingError(f"slices = {slices} cut the bits of a weight: set weight_bits, or slices = 1")
