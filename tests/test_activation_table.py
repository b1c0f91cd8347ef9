"""Activation functions by table err as their interpolation does, go on beyond their ends, and compile once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices import activation_table
from pim.devices.activation_table import FUNCTIONS, ActivationTable
from pim.devices.errors import DeviceError
from pim.devices.number_format import rounded
from pim.devices.record import cast, check, prepare
from pim.devices.registry import TYPES

SMOOTH = ("sigmoid", "tanh", "gelu", "silu", "exp")
MONOTONE = ("relu", "leaky_relu", "sigmoid", "tanh", "exp")


def made(function: str, segments: int = 512, **fields) -> ActivationTable:
    fields = {"low": -4.0, "high": 4.0, "entry": "fp32", "result": "fp32"} | fields
    return cast(ActivationTable(function, segments, **fields))


def worst(function: str, segments: int, interpolation: str) -> float:
    table = made(function, segments, interpolation=interpolation)
    x = jnp.linspace(-4, 4, 20_001)
    return float(jnp.abs(table(x) - table.exact(x)).max())


@pytest.mark.parametrize("function", SMOOTH)
def test_a_line_errs_with_the_square_of_a_segment_and_a_step_with_its_width(function):
    """h^2 / 8 of the largest curvature, h of the largest slope, and half of that to the nearer end."""
    x = jnp.linspace(-4, 4, 4001)
    one = lambda x: made(function).exact(x)
    slope = float(jnp.abs(jax.vmap(jax.grad(one))(x)).max())
    curvature = float(jnp.abs(jax.vmap(jax.grad(jax.grad(one)))(x)).max())
    for segments in (32, 64, 128):
        h = 8 / segments
        assert worst(function, segments, "linear") == pytest.approx(h**2 / 8 * curvature, rel=0.15)
        assert worst(function, segments, "lower") == pytest.approx(h * slope, rel=0.2)
        assert worst(function, segments, "nearest") == pytest.approx(h / 2 * slope, rel=0.2)


@pytest.mark.parametrize("interpolation", ["linear", "lower", "nearest"])
def test_a_table_is_a_loop_over_its_segments(interpolation):
    table = made("tanh", 10, interpolation=interpolation)
    ends = np.tanh(np.linspace(-4, 4, 11))
    rng = np.random.default_rng(0)
    x = rng.uniform(-4.5, 4.5, 300)
    wanted = []
    for value in x:
        place = min(max((value + 4) / 0.8, 0.0), 10.0)
        k = min(int(place), 9)
        if interpolation == "linear":
            wanted.append(ends[k] + (place - k) * (ends[k + 1] - ends[k]))
        else:
            wanted.append(ends[int(place) if interpolation == "lower" else round(place)])
    np.testing.assert_allclose(table(jnp.asarray(x, jnp.float32)), wanted, atol=1e-6)


def test_the_sigmoid_of_cent_is_a_lookup_of_the_lower_entry():
    """512 segments of [-10, 10]: its slope lacks the division by 20/512, so that it moves a 25th of a step at most."""
    table, lower = (made("sigmoid", low=-10.0, high=10.0, interpolation=name) for name in ("linear", "lower"))
    x = jnp.linspace(-10, 10, 9973)
    knots = np.linspace(-10, 10, 513)
    k = np.clip(np.searchsorted(knots, np.asarray(x, np.float64), side="right") - 1, 0, 511)
    ends = 1 / (1 + np.exp(-knots))
    cent = ends[k] + (np.asarray(x, np.float64) - knots[k]) * (ends[k + 1] - ends[k])
    step = 20 / 512 / 4
    assert np.abs(np.asarray(lower(x)) - cent).max() < 0.05 * step
    assert np.abs(np.asarray(table(x)) - cent).max() > 0.9 * step
    assert float(jnp.abs(table(x) - table.exact(x)).max()) < 1e-4 * 1.3


@pytest.mark.parametrize("function", MONOTONE)
@pytest.mark.parametrize("interpolation", ["linear", "lower", "nearest"])
def test_a_monotone_function_stays_monotone(function, interpolation):
    x = jnp.linspace(-6, 6, 5001)
    for name in ("bf16", "fp16"):
        found = np.asarray(made(function, 37, interpolation=interpolation, entry=name, result=name)(x))
        assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    ("function", "below", "above"),
    [
        ("relu", [0.0, 0.0], [50.0, np.inf]),
        ("leaky_relu", [-0.5, -np.inf], [50.0, np.inf]),
        ("sigmoid", [0.0179862, 0.0179862], [0.9820138, 0.9820138]),
        ("tanh", [-0.9993293, -0.9993293], [0.9993293, 0.9993293]),
        ("gelu", [-0.0001267, -0.0001267], [49.99987, np.inf]),
        ("silu", [-0.0719448, -0.0719448], [49.92805, np.inf]),
        ("exp", [0.0, 0.0], [54.59815, 54.59815]),
    ],
)
def test_beyond_its_ends_a_table_goes_on_as_its_function_does(function, below, above):
    table = made(function)
    np.testing.assert_allclose(table(jnp.array([-50.0, -np.inf])), below, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(table(jnp.array([50.0, np.inf])), above, rtol=1e-5)
    np.testing.assert_allclose(table(jnp.array([-4.0, 4.0])), table.exact(jnp.array([-4.0, 4.0])), rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(table(jnp.array([np.nan, 0.0]))), [True, False])


def test_a_leak_of_nothing_is_no_nan():
    assert float(made("leaky_relu", leak=0.0)(jnp.float32(-np.inf))) == 0


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_entries_and_results_are_of_their_formats(name):
    x = jnp.linspace(-4, 4, 777).reshape(7, 111)
    table = made("silu", entry=name, result=name)
    found = table(x)
    assert found.shape == x.shape
    np.testing.assert_array_equal(found, rounded(found, name))
    np.testing.assert_array_equal(table.entries(), rounded(made("silu").entries(), name))
    half = {"bf16": 2.0**-7, "fp16": 2.0**-10}[name]  # half a step below 4, of an entry and again of the result
    assert float(jnp.abs(found - table.exact(x)).max()) < 2.05 * half


def test_changed_ends_share_a_compilation():
    compiled = activation_table._applied
    x = jnp.linspace(-1, 1, 13)
    made("gelu", 11)(x)
    before = compiled._cache_size()
    for high in (1.0, 2.0, 3.0):
        made("gelu", 11, high=high)(x)
    assert compiled._cache_size() == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low": 4.0, "high": 4.0}, "low must be smaller than high"),
        ({"function": "softmax"}, "none of relu, leaky_relu, sigmoid, tanh, gelu, silu, exp"),
        ({"segments": 0}, "too small"),
        ({"interpolation": "cubic"}, "none of linear, lower, nearest"),
        ({"entry": "fp8"}, "none of fp32"),
        ({"leak": 2.0}, "out of range"),
    ],
)
def test_a_table_that_is_none_is_refused(fields, words):
    with pytest.raises(DeviceError, match=words):
        table = made(**({"function": "tanh"} | fields))
        check(table, "device: activation")
        prepare(table)
    assert TYPES["ActivationTable"] is ActivationTable and set(SMOOTH + MONOTONE) == set(FUNCTIONS)
