"""How numbers are represented: rounding to a floating-point format, and integer codes with a scale.

Everything is computed in float32, which holds each value of the narrower formats exactly. A product or a sum of two
float16 values, rounded to float32 and then to float16, is what float16 arithmetic gives, as 24 bits are at least
2 * 11 + 2 (Figueroa, When is double rounding innocuous?, SIGNUM 30(3), 1995); the same holds for bfloat16. It does not
hold for the sum of a float16 value and an unrounded product, of 22 bits: `sum_to_odd` is for that.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

FLOATS = {"fp32": (8, 23), "bf16": (8, 7), "fp16": (5, 10)}
"""Bits of exponent and of mantissa."""

INTEGERS = {"int8": 8, "int4": 4}
"""Bits, sign included."""

FP16_SUBNORMAL = 2.0**-14
"""Below it float16 has steps of 2^-24."""


def rounded(x: Float[Array, "*n"], name: str) -> Float[Array, "*n"]:
    """The nearest values of a floating-point format, ties to even; beyond its largest value, infinity.

    `reduce_precision` and not a cast to and fro: the compiler may drop the latter, as it may keep excess precision.
    """
    if name == "fp32":
        return x
    exponent, mantissa = FLOATS[name]
    near = jax.lax.reduce_precision(x, exponent, mantissa)
    if name != "fp16":
        return near
    small = jnp.abs(x) < FP16_SUBNORMAL  # which reduce_precision flushes to zero
    steps = jnp.where(small, x, 0.0) * 2.0**24
    return jnp.where(small, jnp.round(steps) * 2.0**-24, near)


def sum_to_odd(a: Float[Array, "*n"], b: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The sum, rounded to odd: what is not exact ends in a one, so that rounding it again is as good as rounding once.

    Rounded to a narrower format it is the exact sum rounded to that format, provided float32 has two bits more (Boldo
    and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd, IEEE TC 57(4),
    2008). To the nearest first, 1 + (2^-11 + 2^-30) would become 1 + 2^-11 in float32, a tie, and 1 in float16.
    """
    near = a + b
    of_b = near - a
    missing = (a - (near - of_b)) + (b - of_b)  # what float32 lost (Knuth's two-sum, exact)
    word = jax.lax.bitcast_convert_type(near, jnp.int32)
    away = jnp.where((missing > 0) == (near > 0), 1, -1)  # to the neighbour on the other side of the exact sum
    even = jnp.bitwise_and(word, 1) == 0
    inexact = (missing != 0) & jnp.isfinite(near) & jnp.isfinite(missing)
    return jax.lax.bitcast_convert_type(jnp.where(inexact & even, word + away, word), jnp.float32)


def integer_limit(bits: Any) -> Float[Array, ""]:
    """The largest code of so many bits, sign included; codes are symmetric about zero."""
    return 2.0 ** (jnp.asarray(bits, jnp.float32) - 1.0) - 1.0


def integer_scale(x: Float[Array, "rows columns"], bits: Any, per: str) -> Float[Array, "#rows #columns"]:
    """What a code of one is worth, so that the largest magnitude is the largest code.

    Args:
        x: values.
        bits: bits of a code, sign included, at least 2; may be traced.
        per: what shares a scale: "matrix", "column" or "row" (a token's vector).

    Where all values are zero the scale is 1.
    """
    axis = {"matrix": None, "column": 0, "row": 1}[per]
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return jnp.where(largest == 0, 1.0, largest / integer_limit(bits))


def integer_codes(
    x: Float[Array, "rows columns"], scale: Float[Array, "#rows #columns"], bits: Any
) -> Int8[Array, "rows columns"]:
    """The nearest integer codes of up to 8 bits, ties to even; what does not fit takes the largest code."""
    limit = integer_limit(bits)
    return jnp.clip(jnp.round(x / scale), -limit, limit).astype(jnp.int8)


def represented(x: Float[Array, "rows columns"], name: str, per: str = "matrix") -> Float[Array, "rows columns"]:
    """What a format keeps of values: of a floating-point one the rounded value, of an integer one code times scale."""
    if name in FLOATS:
        return rounded(x, name)
    scale = integer_scale(x, INTEGERS[name], per)
    return integer_codes(x, scale, INTEGERS[name]).astype(jnp.float32) * scale
