"""Number formats are those of NumPy and ml_dtypes, bit for bit, and integer codes miss by half a step at most."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.devices.number_format import (
    integer_codes,
    integer_limit,
    integer_scale,
    represented,
    rounded,
    sum_to_odd,
)

TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
jitted = partial(jax.jit, static_argnames="name")(rounded)


def every_value(dtype) -> np.ndarray:
    """All finite values of a 16-bit format, sorted, but for those that are subnormal in float32."""
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    return np.unique(values[np.isfinite(values) & ((abs(values) >= 2.0**-126) | (values == 0))])


def as_cast(x: np.ndarray, dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype).astype(np.float32)


@pytest.mark.parametrize("name", TYPES)
def test_rounding_is_that_of_a_cast_everywhere(name):
    values = every_value(TYPES[name])
    with np.errstate(over="ignore"):
        ties = ((values[1:].astype(np.float64) + values[:-1]) / 2).astype(np.float32)
    rng = np.random.default_rng(0)
    scattered = rng.normal(size=200_000).astype(np.float32) * np.exp2(rng.integers(-30, 20, 200_000)).astype(np.float32)
    beyond = np.array([65504, 65519.99, 65520, 1e30, 3.4e38, np.inf, -np.inf, np.nan, -0.0, 2.0**-25, 3e-8], np.float32)
    x = np.concatenate([values, ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9)), scattered,
                        beyond])  # fmt: skip
    found, wanted = np.asarray(jitted(jnp.asarray(x), name=name)), as_cast(x, TYPES[name])
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


@pytest.mark.parametrize("name", TYPES)
def test_products_and_sums_are_those_of_the_format(name):
    """Rounded to float32 first, which is innocuous."""
    rng = np.random.default_rng(1)
    spread = lambda: rng.normal(size=300_000) * np.exp2(rng.integers(-9, 9, 300_000))
    a, b = (as_cast(spread().astype(np.float32), TYPES[name]) for _ in range(2))
    narrow = a.astype(TYPES[name]), b.astype(TYPES[name])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(jitted(jnp.asarray(a * b), name=name), (narrow[0] * narrow[1]).astype(np.float32))
        np.testing.assert_array_equal(jitted(jnp.asarray(a + b), name=name), (narrow[0] + narrow[1]).astype(np.float32))


def nearest_of(exact: Fraction, dtype) -> np.ndarray:
    """The value of a format that is nearest to a fraction, ties to even, found among three neighbours."""
    word = int(np.float32(float(exact)).astype(dtype).view(np.uint16))
    near = [np.array(word + step, np.uint16).view(dtype) for step in (-1, 0, 1) if 0 <= word + step < 1 << 16]
    near = [value for value in near if np.isfinite(value)]
    return min(near, key=lambda value: (abs(Fraction(float(value)) - exact), int(value.view(np.uint16)) & 1))


@pytest.mark.parametrize("name", TYPES)
def test_a_sum_rounded_to_odd_and_then_to_a_format_was_rounded_once(name):
    """Sums of a value and an unrounded product; the first ones lie just beside a tie, which float32 does not see."""
    rng, dtype = np.random.default_rng(2), TYPES[name]
    tie = 2.0**-11 if name == "fp16" else 2.0**-8
    value = lambda n: as_cast((rng.normal(size=n) * np.exp2(rng.integers(-7, 7, n))).astype(np.float32), dtype)
    total = np.concatenate([np.float32([2.0**-24, -(2.0**-24), 2.0**-24, 1.0]), value(3000)])
    b = np.concatenate([np.float32([1 + tie, 1 + 3 * tie, -1 - 3 * tie, tie]), value(3000) * value(3000)])
    found = np.asarray(jitted(jax.jit(sum_to_odd)(jnp.asarray(total), jnp.asarray(b)), name=name))
    wanted = [nearest_of(Fraction(float(x)) + Fraction(float(y)), dtype) for x, y in zip(total, b, strict=True)]
    np.testing.assert_array_equal(found, np.array(wanted, np.float32))
    twice = np.asarray(jitted(jnp.asarray(total + b), name=name))
    assert (twice != found)[:3].all(), "rounded to the nearest float32 first, these sums become ties"


def test_a_sum_to_odd_keeps_what_is_exact_or_infinite():
    a, b = np.array([1.5, -2.0, np.inf, 0.0, -0.0, 3e38], np.float32), np.array([0.25, 2.0, 1.0, 0.0, -0.0, 3e38])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(sum_to_odd(jnp.asarray(a), jnp.asarray(b, jnp.float32)), a + b.astype(np.float32))


def test_float32_is_left_alone():
    x = jnp.asarray([1 / 3, 1e-40, -7.0])
    assert rounded(x, "fp32") is x


@given(
    bits=st.integers(2, 8), shape=st.sampled_from([(1, 1), (3, 4)]),
    per=st.sampled_from(["matrix", "column", "row"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_codes_miss_by_half_a_step_and_reach_the_largest(bits, shape, per, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    scale = integer_scale(jnp.asarray(x), float(bits), per)
    codes = np.asarray(integer_codes(jnp.asarray(x), scale, float(bits)), int)
    limit = 2 ** (bits - 1) - 1
    assert float(integer_limit(bits)) == limit and abs(codes).max() == limit
    assert (abs(codes * np.asarray(scale) - x) <= np.asarray(scale) * (0.5 + 1e-5)).all()
    assert scale.shape == {"matrix": (1, 1), "column": (1, shape[1]), "row": (shape[0], 1)}[per]


def test_zeros_have_codes_too():
    zero = jnp.zeros((2, 3))
    assert not np.any(represented(zero, "int4", "row")) and float(integer_scale(zero, 8, "matrix")[0, 0]) == 1.0


def test_what_a_format_keeps():
    x = jnp.asarray([[1.0, 0.126, -0.25]])
    np.testing.assert_allclose(represented(x, "int8"), [[1.0, 16 / 127, -32 / 127]], rtol=1e-6)
    np.testing.assert_allclose(represented(x, "int4", "row"), [[1.0, 1 / 7, -2 / 7]], rtol=1e-6)
    np.testing.assert_array_equal(represented(x, "bf16"), as_cast(np.asarray(x), ml_dtypes.bfloat16))


def test_one_compilation_serves_all_widths():
    codes = jax.jit(lambda x, bits: integer_codes(x, integer_scale(x, bits, "column"), bits))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    largest = [int(abs(np.asarray(codes(x, jnp.float32(bits)), int)).max()) for bits in (2, 5, 8)]
    assert largest == [1, 15, 127] and codes._cache_size() == 1
