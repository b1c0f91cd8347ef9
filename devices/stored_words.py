"""Numbers as the bits that a memory holds: words of a format, and numbers of words."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from pim.devices.number_format import FLOATS, INTEGERS

WORD_BITS = {name: 1 + exponent + mantissa for name, (exponent, mantissa) in FLOATS.items()} | INTEGERS
"""Bits of a word, by format."""

_TYPES = {"fp16": (jnp.float16, jnp.uint16), "bf16": (jnp.bfloat16, jnp.uint16), "fp32": (jnp.float32, jnp.uint32)}


def float_words(values: Float[Array, "*n"], name: str) -> UInt32[Array, "*n"]:
    """The words of values of a floating-point format, sign first; of others, those of the nearest ones."""
    kind, word = _TYPES[name]
    return jax.lax.bitcast_convert_type(values.astype(kind), word).astype(jnp.uint32)


def float_values(words: UInt32[Array, "*n"], name: str) -> Float[Array, "*n"]:
    """The values of words, in float32, which holds those of each format exactly."""
    kind, word = _TYPES[name]
    return jax.lax.bitcast_convert_type(words.astype(word), kind).astype(jnp.float32)


def code_words(codes: Int8[Array, "*n"], name: str) -> UInt32[Array, "*n"]:
    """The words of integer codes in two's complement, in the lowest bits."""
    mask = (1 << INTEGERS[name]) - 1
    return jnp.bitwise_and(codes.astype(jnp.int32), mask).astype(jnp.uint32)


def code_values(words: UInt32[Array, "*n"], name: str) -> Int8[Array, "*n"]:
    """The integer codes of words; the lowest, without a positive twin, is one that no weight is rounded to."""
    half = 1 << (INTEGERS[name] - 1)
    return (jnp.bitwise_xor(words.astype(jnp.int32), half) - half).astype(jnp.int8)


def finite_words(words: UInt32[Array, "*n"], name: str) -> UInt32[Array, "*n"]:
    """Words of a format with infinity and NaN replaced by the largest finite value of their sign; codes as they are."""
    if name not in FLOATS:
        return words
    exponent, mantissa = FLOATS[name]
    ones = jnp.uint32(((1 << exponent) - 1) << mantissa)
    sign = jnp.uint32(1 << (exponent + mantissa))
    largest = ones - jnp.uint32(1)  # one exponent less, and all bits of the mantissa
    return jnp.where(words & ones == ones, words & sign | largest, words)
