"""Formats keep what NumPy and ml_dtypes keep, bit for bit, and what their specifications say."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.floats import FLOATS, floor_log2
from pim.llm_workloads.formats.format import joined, quantised, split
from pim.llm_workloads.formats.integers import Integer
from pim.llm_workloads.formats.microscaling import ELEMENTS
from pim.llm_workloads.formats.names import NUMBERS, parse_format

TYPES = {
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
}
MATRICES = arrays(np.float32, (70, 3), elements=st.floats(-100, 100, width=32))


def every_value(name):
    """All finite values of a format, from all its codes."""
    codes = np.arange(2 ** FLOATS[name].bits, dtype=np.uint8)
    values = codes.view(TYPES[name]).astype(np.float32)
    return np.unique(values[np.isfinite(values)])


# Floating-point numbers


@pytest.mark.parametrize("name", TYPES)
def test_every_value_of_a_float_is_kept(name):
    values = every_value(name)
    assert values.max() == FLOATS[name].maximum
    assert floor_log2(jnp.float32(values.max())) == FLOATS[name].emax
    np.testing.assert_array_equal(FLOATS[name].rounded(jnp.asarray(values)), values)


@pytest.mark.parametrize("name", TYPES)
def test_floats_are_rounded_as_ml_dtypes_casts(name):
    """Halfway between neighbours, beside it, at random over all exponents, and nothing else happens under jit."""
    values = every_value(name)
    middles = ((values[:-1].astype(np.float64) + values[1:]) / 2).astype(np.float32)
    beside = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    rng = np.random.default_rng(0)
    many = rng.normal(size=20000) * 2.0 ** rng.integers(-20, 9, 20000)
    x = np.concatenate([middles, *beside, many.astype(np.float32)]).clip(values.min(), values.max())
    expected = x.astype(TYPES[name]).astype(np.float32)
    np.testing.assert_array_equal(FLOATS[name].rounded(jnp.asarray(x)), expected)
    np.testing.assert_array_equal(jax.jit(FLOATS[name].rounded)(x), expected)


@pytest.mark.parametrize("name", TYPES)
def test_what_is_too_large_takes_the_largest_value(name):
    found = FLOATS[name].rounded(jnp.array([1e6, -1e6, jnp.inf, 1.01 * FLOATS[name].maximum]))
    np.testing.assert_array_equal(found, FLOATS[name].maximum * np.array([1.0, -1.0, 1.0, 1.0], np.float32))


# Integers


def textbook(x, limit, axis):
    """Symmetric rounding in float64, and where a last bit of the scale cannot turn it."""
    scale = np.maximum(np.abs(x).max(axis=axis, keepdims=True) / limit, np.finfo(np.float32).tiny).astype(np.float64)
    ratio = x / scale
    return np.round(ratio) * scale, np.abs(np.abs(ratio - np.floor(ratio)) - 0.5) > 1e-4


@given(MATRICES, st.integers(2, 8))
def test_symmetric_integers_are_the_textbook_formula(x, bits):
    found = np.asarray(quantised(jnp.asarray(x), parse_format(f"int{bits}:channel"), -2))
    expected, clear = textbook(x, 2 ** (bits - 1) - 1, 0)
    np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-6, atol=1e-37)


@given(MATRICES, st.integers(2, 8), st.sampled_from(["_asym", "_min"]))
def test_asymmetric_integers_miss_by_half_a_step_and_have_few_values(x, bits, ending):
    found = np.asarray(quantised(jnp.asarray(x), parse_format(f"int{bits}{ending}:channel"), -2))
    low, high = x.min(axis=0), x.max(axis=0)
    if ending == "_asym":
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    step = (high - low) / (2**bits - 1)
    # An integer zero moves the range by half a step at most, and the last code may then lie a step and a half off.
    room = 0.5 if ending == "_min" else 1.0
    assert (np.abs(found - x) <= room * step + 1e-4 * np.abs(x).max() + 1e-37).all()
    assert all(len(np.unique(column)) <= 2**bits for column in found.T)


def test_an_offset_costs_the_integers_from_the_least_value_nothing():
    x = jnp.linspace(0.0, 3.0, 4)[:, None]
    np.testing.assert_allclose(quantised(x + 100.0, parse_format("int2_min:channel"), -2), x + 100.0, rtol=1e-6)
    assert float(jnp.abs(quantised(x + 100.0, parse_format("int2:channel"), -2) - x - 100.0).max()) > 1.0


def test_zero_is_a_code_of_asymmetric_integers():
    x = jnp.array([[-0.37], [0.0], [0.9]])
    assert float(quantised(x, parse_format("int4_asym:channel"), -2)[1, 0]) == 0.0


@pytest.mark.parametrize("name", [*(f"{n}:channel" for n in NUMBERS), *ELEMENTS, "fp8_e4m3"])
def test_equal_values_of_any_size_give_finite_ones(name):
    values = np.array([0.0, 1e-42, 3.0e-38, 1e-30, 1e30], np.float32)
    x = np.broadcast_to(values, (32, 5))
    found = np.asarray(quantised(jnp.asarray(x), parse_format(name), -2))
    assert np.isfinite(found).all()
    if ":" in name:  # the only magnitude is a code
        np.testing.assert_allclose(found[:, 3:], x[:, 3:], rtol=1e-6)


# Scales


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("int4:tensor", [(slice(0, 70), slice(0, 3))]),
        ("int4:channel", [(slice(0, 70), slice(k, k + 1)) for k in range(3)]),
        ("int4:group32", [(slice(a, a + 32), slice(k, k + 1)) for a in (0, 32, 64) for k in range(3)]),
    ],
)
def test_what_shares_a_scale(name, blocks):
    """Each block on its own gives what the whole gives; the last group is short."""
    x = np.random.default_rng(1).normal(size=(70, 3)).astype(np.float32) * np.array([[1.0, 10.0, 100.0]], np.float32)
    found = np.asarray(quantised(jnp.asarray(x), parse_format(name), -2))
    for rows, columns in blocks:
        expected, clear = textbook(x[rows, columns], 7, None)
        assert clear.mean() > 0.9
        np.testing.assert_allclose(found[rows, columns][clear], expected[clear], rtol=1e-6)


def test_stacked_matrices_have_scales_of_their_own():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, 8, 4)).astype(np.float32))
    for name in ("int3:tensor", "int3:channel", "int3:group3", "mxfp4"):
        whole = quantised(x, parse_format(name), -2)
        alone = quantised(x[1, 2], parse_format(name), -2)
        np.testing.assert_array_equal(whole[1, 2], alone)


def test_inputs_share_a_scale_along_their_last_axis():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 40)).astype(np.float32))
    for name in ("int3:token", "int3:group16", "mxfp4", "fp8_e4m3"):
        by_column = quantised(jnp.swapaxes(x, -1, -2), parse_format(name), -2)
        np.testing.assert_array_equal(quantised(x, parse_format(name), -1), jnp.swapaxes(by_column, -1, -2))


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_splitting_and_joining_are_inverse(axis):
    x = jnp.arange(7 * 5 * 9, dtype=jnp.float32).reshape(7, 5, 9)
    for size in (1, 2, 4, 20):
        np.testing.assert_array_equal(joined(split(x, size, axis), x.shape[axis], axis), x)


# Microscaling


def by_the_specification(block, element):
    """Algorithm 1 of arXiv 2310.10537 on one block, in float64 and by search among an element's values."""
    if element == "mxint8":
        values, emax = np.arange(-127, 128) / 64, 0
    else:
        kind = {"mxfp8": "fp8_e4m3", "mxfp6": "fp6_e2m3", "mxfp4": "fp4_e2m1"}.get(element, element.removeprefix("mx"))
        values, emax = every_value(kind).astype(np.float64), int(np.floor(np.log2(every_value(kind).max())))
    scale = 2.0 ** (np.floor(np.log2(np.abs(block).max())) - emax)
    return values, scale


@pytest.mark.parametrize("name", ELEMENTS)
def test_microscaling_is_the_nearest_value_at_the_shared_power_of_two(name):
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(8, 32)) * 2.0 ** rng.integers(-8, 8, (8, 1))).astype(np.float32)
    found = np.asarray(quantised(jnp.asarray(x), parse_format(name), -1))
    for block, kept in zip(x.astype(np.float64), found, strict=True):
        values, scale = by_the_specification(block, name)
        codes = kept / scale
        assert np.isin(codes, values).all()
        best = np.abs(values[None, :] - block[:, None] / scale).min(axis=1)
        np.testing.assert_allclose(np.abs(codes - block / scale), best, rtol=0, atol=1e-12)


def test_a_block_of_mxfp4_by_hand():
    """Largest 7: floor(log2 7) = 2 = emax, so the scale is 1, and 7 saturates at 6; 2.5 ties to the even 2."""
    x = jnp.zeros((1, 32)).at[0, :5].set(jnp.array([7.0, 2.5, -0.25, 0.26, 5.0]))
    expected = np.zeros((1, 32), np.float32)
    expected[0, :5] = [6.0, 2.0, 0.0, 0.5, 4.0]
    np.testing.assert_array_equal(quantised(x, parse_format("mxfp4"), -1), expected)


# Names


def test_names_say_number_and_scale():
    how = parse_format("int4_asym:group128", "weights")
    assert (how.number, how.per, how.size, how.microscaled) == (Integer(4, "code"), "group", 128, False)
    assert parse_format("fp8").number == parse_format("fp8_e4m3:token").number
    assert (parse_format("mxfp4").per, parse_format("mxfp4").size) == ("group", 32)
    assert (parse_format("int2_min:channel32", "cache").size, str(parse_format("int8:token"))) == (32, "int8:token")


@pytest.mark.parametrize(
    ("name", "use", "message"),
    [
        ("int9:channel", "weights", "no number is called 'int9': did you mean int8"),
        ("int4", "weights", "does not say what shares a scale: write one like 'int4:channel'"),
        ("int4:", "weights", "does not say what shares a scale"),
        ("fp8:", None, "does not say what shares a scale"),
        ("int4:group", None, "'group' does not say what shares a scale"),
        ("int4:group0", None, "'group0' does not say"),
        ("int4:token8", None, "'token8' does not say"),
        ("mxfp4:channel", None, "mxfp4 has a scale for each 32 values by itself"),
        ("int8:tensor", "inputs", "makes no sense for inputs: use one like 'int8:token'"),
        ("int8:token", "weights", "makes no sense for weights"),
        ("int8:channel32", "weights", "makes no sense for weights"),
        ("int8:channel", "cache", r"makes no sense for cache: use one like .*'int2_min:channel32'"),
        ("nonsense", None, "no number is called 'nonsense'"),
        (4, None, "named by a text"),
    ],
)
def test_bad_names_say_what_would_be_right(unchecked, name, use, message):
    with pytest.raises(WorkloadError, match=message):
        parse_format(name, use)


def test_integers_of_other_widths_are_refused():
    with pytest.raises(WorkloadError, match="9 bits are not modelled; 2 to 8"):
        Integer(9)
    with pytest.raises(WorkloadError, match="none of symmetric, code, minimum"):
        Integer(4, "odd")
