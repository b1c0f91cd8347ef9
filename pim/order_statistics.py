"""Percentiles of many values without sorting them: order statistics, found bit by bit."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt32

BITS = 32
SIGN, ALL = np.uint32(1 << (BITS - 1)), np.uint32((1 << BITS) - 1)


def percentile(
    values: Float[Array, "*n"], q: Float[Array, ""] | float, axis: Sequence[int] | None = None
) -> Float[Array, "..."]:
    """The percentile of float32 values over some axes, which are kept with a length of one; NaN where any value is.

    As `jnp.percentile`, the sum of two neighbouring order statistics, but ten times as fast for millions of values: a
    sort takes longer than these passes of comparisons (XLA on processors). It has a gradient too.

    >>> percentile(jnp.abs(sums), 99.99, (0, 2))
    """
    over = tuple(range(values.ndim)) if axis is None else tuple(axis)
    return _percentile(values, jnp.asarray(q, jnp.float32), over)


class Ranked(NamedTuple):
    """Two neighbouring order statistics, and the share of the second."""

    low: UInt32[Array, "..."]
    high: UInt32[Array, "..."]
    share: Float[Array, ""]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _percentile(values: Float[Array, "*n"], q: Float[Array, ""], over: tuple[int, ...]) -> Float[Array, "..."]:
    found = _ranked(values, q, over)
    low, high = _value(found.low), _value(found.high)
    between = jnp.where(found.share == 0, low, low * (1.0 - found.share) + high * found.share)  # either may be infinite
    return jnp.where(jnp.isnan(values).any(axis=over, keepdims=True), jnp.nan, between)


@_percentile.defjvp
def _tangent(over, primals, tangents):
    """Those of the values that have the two ranks, and the way between them for another percentile."""
    values, q = primals
    keys, found = _in_order(values), _ranked(values, q, over)

    def tangent(key):
        own = keys == key
        return jnp.sum(jnp.where(own, tangents[0], 0.0), over, keepdims=True) / jnp.sum(own, over, keepdims=True)

    along = tangent(found.low) * (1.0 - found.share) + tangent(found.high) * found.share
    step = (_value(found.high) - _value(found.low)) * ((_count(values, over) - 1) / 100.0)
    return _percentile(values, q, over), along + step * tangents[1]


def _ranked(values: Float[Array, "*n"], q: Float[Array, ""], over: tuple[int, ...]) -> Ranked:
    last = _count(values, over) - 1
    place = q / 100.0 * jnp.float32(last)
    below = jnp.floor(place)
    first, second = (jnp.clip(end, 0, last).astype(jnp.int32) for end in (below, jnp.ceil(place)))
    keys = _in_order(values)
    low = _smallest(keys, first, over)
    reached = jnp.sum(keys <= low, axis=over, keepdims=True, dtype=jnp.int32)
    behind = jnp.min(jnp.where(keys > low, keys, ALL), axis=over, keepdims=True)
    return Ranked(low, jnp.where(reached > second, low, behind), place - below)


def _count(values: Array, over: tuple[int, ...]) -> int:
    return math.prod(values.shape[axis] for axis in over)


def _smallest(keys: UInt32[Array, "*n"], rank: Int32[Array, ""], over: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The key of that rank, 0 the smallest: each bit, from the highest, is one if not too many keys lie below."""

    def one_bit(step, found):
        tried = found | (jnp.uint32(1) << (BITS - 1 - step).astype(jnp.uint32))
        fewer = jnp.sum(keys < tried, axis=over, keepdims=True, dtype=jnp.int32)
        return jnp.where(fewer <= rank, tried, found)

    shape = tuple(1 if axis in over else size for axis, size in enumerate(keys.shape))
    return jax.lax.fori_loop(0, BITS, one_bit, jnp.zeros(shape, jnp.uint32))


def _in_order(values: Float[Array, "*n"]) -> UInt32[Array, "*n"]:
    """Whole numbers in the order of the values: the bits of those below zero turned over, else the sign alone.

    (The magnitudes of IEEE 754 are in the order of their bits.)
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    return jnp.where(bits >= SIGN, ~bits, bits | SIGN)


def _value(keys: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """The values that `_in_order` made keys of."""
    bits = jnp.where(keys >= SIGN, keys & (ALL ^ SIGN), ~keys)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
