"""Encodings, scales, slices and groups of rows: every way to put a matrix on cells computes the same product."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim import crossbar
from pim.devices.cells.cell import Cell
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.read_noise import AdditiveReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast, prepare
from pim.mapping.encoding import ENCODINGS, encoding_of
from pim.mapping.errors import MappingError
from pim.mapping.weights import weight_scale
from pim.tile_programming import program_tiles

KEY = root_key(3)
G_MIN, G_MAX = 2e-6, 40e-6


def macro(**fields) -> AnalogMacro:
    """A macro whose cells are exact, and which has no ADC, but for what is asked."""
    cell = {name: fields.pop(name) for name in ("write_error", "read_noise", "levels", "faults") if name in fields}
    given = {
        "rows": 16,
        "columns": 64,
        "slices": 1,
        "encoding": "differential",
        "weight_scale": "column",
        "input_range": "token",
        "dac": MultibitDAC(12.0, 100.0, 0.0, 0.0),
    }
    return cast(
        AnalogMacro(**{**given, **fields}, v_read=0.2, t_read=1e-8, vdd=0.9, cell=Cell(G_MIN, G_MAX, 1e-13, **cell))
    )


def matrix(n_in: int, n_out: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_in, n_out)).astype(np.float32), rng.normal(size=(5, n_in)).astype(np.float32)


def rows(n: int):
    return jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)


@jax.jit
def product(w, x, m, program_key=None, key=None):
    return crossbar.matmul(program_tiles(w, m, program_key, None), m, x, rows(len(x)), key)


def integer_product(w, x, bits: int, input_bits: int, scale) -> np.ndarray:
    """The product of rounded weights and inputs, in float64."""
    top, input_top = 2 ** (bits - 1) - 1, 2 ** (input_bits - 1) - 1
    full = np.abs(x).max(axis=1, keepdims=True)
    codes = np.rint(np.clip(w / scale, -1, 1) * top)
    return np.rint(x / full * input_top) @ (codes * scale) / top / input_top * full


# n_in, n_out, slices, bits, (rows, active_rows), scale
SIZES = {
    "differential": (70, 40, 4, 8, (16, 4), "column"),
    "differential_two_sided": (33, 5, 2, 7, (33, 11), "matrix"),
    "differential_digital": (20, 40, 1, 5, (16, None), "tile_column"),
    "offset": (41, 23, 3, 8, (16, 8), "tile"),
    "offset_reference": (9, 31, 2, 6, (7, None), "column"),
    "offset_digital": (3, 1, 1, 5, (1, None), "matrix"),
}


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_is_the_integer_product(encoding):
    is_the_integer_product(encoding, *SIZES[encoding])


@pytest.mark.slow  # each shape compiles
@settings(max_examples=25)
@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    n_in=st.integers(1, 70),
    n_out=st.integers(1, 40),
    slices=st.integers(1, 4),
    bits=st.integers(5, 8),
    rows_and_active=st.sampled_from([(1, None), (7, None), (33, 11), (16, None), (16, 1), (16, 4), (16, 8)]),
    scale=st.sampled_from(["matrix", "column", "tile", "tile_column"]),
)
def test_every_encoding_of_any_sizes_is_the_integer_product(
    encoding, n_in, n_out, slices, bits, rows_and_active, scale
):
    is_the_integer_product(encoding, n_in, n_out, slices, bits, rows_and_active, scale)


def is_the_integer_product(encoding, n_in, n_out, slices, bits, rows_and_active, scale):
    (w, x), (tall, active) = matrix(n_in, n_out), rows_and_active
    m = macro(
        encoding=encoding,
        slices=slices,
        weight_bits=float(bits),
        rows=tall,
        active_rows=active,
        weight_scale=scale,
        dac=BitSerialDAC(6, 100.0, 0.0, 0.0),
    )
    block = -(-n_out // -(-n_out // encoding_of(m).outputs_per_array(64, slices)))
    scales = np.asarray(weight_scale(jnp.asarray(w), scale, "largest", tall, block), np.float64)
    wide = scales if len(scales) == 1 else np.repeat(scales, tall, axis=0)[:n_in]
    expected = integer_product(w.astype(np.float64), x.astype(np.float64), bits, 6, wide)
    np.testing.assert_allclose(product(w, x, m), expected, atol=3e-5 * max(np.abs(expected).max(), np.abs(w).max()))


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_states_lie_in_the_window_and_decode_to_the_weight(encoding):
    w, _ = matrix(7, 5)
    law = ENCODINGS[encoding]
    digits, gains, offset = law.digits(jnp.asarray(w / np.abs(w).max()), jnp.float32(8.0), 2)
    cells = jnp.stack([law.fractions(digit, 1) for digit in digits])
    assert cells.min() >= 0 and cells.max() <= 1
    g = G_MIN + (G_MAX - G_MIN) * cells
    seen = jnp.stack([law.signal(part, G_MIN, G_MAX) for part in g]) / (G_MAX - G_MIN)
    assert np.abs(seen).max() <= float(law.largest_signal(G_MIN, G_MAX)) * (1 + 1e-6)
    decoded = sum(gain * law.combine(part, 5, 1) for gain, part in zip(gains, seen, strict=True))
    leak = 0.0 if offset is None else offset + gains.sum() * G_MIN / (G_MAX - G_MIN)
    np.testing.assert_allclose(decoded - leak, np.rint(w / np.abs(w).max() * 127) / 127, atol=1e-5)


def test_a_two_sided_pair_meets_in_the_middle_and_errors_do_not_spare_small_weights():
    cells = np.asarray(ENCODINGS["differential_two_sided"].fractions(jnp.asarray([[0.5, 0.0, -1.0]]), 1))
    np.testing.assert_allclose(cells[:, 0], [[0.75, 0.5, 0.0], [0.25, 0.5, 1.0]])
    w, x = np.zeros((16, 8), np.float32) + 1e-3, np.ones((1, 16), np.float32)
    w[0] = 1.0
    error = {}
    for encoding in ("differential", "differential_two_sided"):
        m = macro(encoding=encoding, write_error=GaussianWriteError(Polynomial(jnp.array([0.0, 1.0])), 1e-6, G_MAX))
        error[encoding] = np.asarray(product(w, x, m, KEY) - product(w, x, m)).std()
    assert error["differential_two_sided"] > 2 * error["differential"]


@pytest.mark.parametrize("encoding", ["differential_two_sided", "differential_digital", "offset_digital"])
def test_read_noise_is_that_of_the_cells(encoding):
    """Against the variance of cells that are each drawn anew, worked out by hand: sigma^2 sum x^2 of all cells."""
    w, x = matrix(16, 3)
    m = macro(encoding=encoding, read_noise=AdditiveReadNoise(1e-6))
    x = np.repeat(x[:1], 4000, axis=0)
    noisy = np.asarray(product(w, x, m, KEY, root_key(5)))
    cells = 1 if encoding == "offset_digital" else 2
    gain = 2.0 if encoding == "offset_digital" else 1.0  # one window is a weight from -1 to 1
    sigma = gain * 1e-6 / (G_MAX - G_MIN) * np.sqrt(cells * (x[0] ** 2).sum()) * np.abs(w).max(axis=0)
    np.testing.assert_allclose(noisy.std(axis=0), sigma, rtol=5 / np.sqrt(2 * 4000))


def test_scales_by_tile_are_those_of_matrices_of_their_own():
    w, x = matrix(40, 24)
    w[:16] *= 10
    m = macro(weight_scale="tile_column", weight_bits=4.0, input_range="token", columns=16)
    parts = [(w[i : i + 16], x[:, i : i + 16]) for i in range(0, 40, 16)]
    full = np.abs(x).max(axis=1, keepdims=True)
    top = 2**11 - 1
    levels = [np.rint(part / full * top) * full / top for _, part in parts]  # the inputs' scale is of the whole token
    own = []
    for (part, _), level in zip(parts, levels, strict=True):
        scale = np.abs(part).max(axis=0)
        own.append(level @ (np.rint(part / scale * 7) / 7 * scale))
    np.testing.assert_allclose(product(w, x, m), sum(own), rtol=1e-4, atol=1e-3)
    one_scale = np.asarray(product(w, x, replace(m, weight_scale="column")))
    missed = [np.square(np.asarray(y) - x @ w).mean() ** 0.5 for y in (product(w, x, m), one_scale)]
    # steps of 16 rows are ten times those of 24, where with one scale all are as coarse
    assert missed[0] / missed[1] == pytest.approx(np.sqrt((16 * 100 + 24) / (40 * 100)), rel=0.2)


def test_a_tile_shares_one_scale_among_the_outputs_of_an_array():
    w, _ = matrix(20, 10)
    scale = np.asarray(weight_scale(jnp.asarray(w), "tile", "largest", 16, 4))
    assert scale.shape == (2, 10)
    for tile, top in enumerate(range(0, 20, 16)):
        for left in range(0, 10, 4):
            part = np.abs(w[top : top + 16, left : left + 4]).max()
            np.testing.assert_array_equal(scale[tile, left : left + 4], part)


def test_ternary_weights_are_those_of_the_mean_magnitude():
    w, x = matrix(32, 6)
    m = macro(weight_range="mean", weight_scale="matrix", weight_bits=2.0)
    scale = np.abs(w).mean()
    ternary = np.clip(np.rint(w / scale), -1, 1) * scale
    full = np.abs(x).max(axis=1, keepdims=True)
    np.testing.assert_allclose(product(w, x, m), np.rint(x / full * 2047) / 2047 * full @ ternary, rtol=1e-4, atol=1e-4)
    per_tile = weight_scale(jnp.asarray(w), "tile", "mean", 24, 6)
    np.testing.assert_allclose(per_tile[:, 0], [np.abs(w[:24]).mean(), np.abs(w[24:]).mean()], rtol=1e-5)


@settings(max_examples=6)
@given(st.permutations(range(3)), st.sampled_from(["differential", "offset", "offset_digital"]))
def test_the_order_of_tiles_changes_nothing(order, encoding):
    w, x = matrix(48, 9)
    place = np.concatenate([np.arange(16) + 16 * tile for tile in order])
    m = macro(encoding=encoding, adc=ADC(6.0, 100.0, 8.0), weight_bits=6.0, dac=BitSerialDAC(4, 100.0, 0.0, 0.0))
    np.testing.assert_allclose(product(w[place], x[:, place], m), product(w, x, m), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_groups_of_rows_are_the_same_cells_read_in_turns():
    w, x = matrix(40, 9)
    errors = {"write_error": GaussianWriteError(Polynomial(jnp.array([1.0])), 2e-6, G_MAX)}
    errors["faults"] = StuckFaults(0.02, 0.02, rows_stuck_hrs=0.05)
    m = macro(**errors)
    np.testing.assert_allclose(
        product(w, x, m, KEY), product(w, x, replace(m, active_rows=4), KEY), rtol=1e-4, atol=1e-4
    )
    converter = cast(ADC(4.0, 100.0, 8.0))
    whole, turns = (replace(m, adc=converter, active_rows=active) for active in (None, 4))
    exact = np.asarray(product(w, x, m, KEY))
    # ten conversions of a quarter of the range each: sqrt(3) less noise of the steps, as three whole arrays have
    ratio = np.abs(product(w, x, turns, KEY) - exact).std() / np.abs(product(w, x, whole, KEY) - exact).std()
    assert ratio == pytest.approx(np.sqrt(10 / 16 / 3), rel=0.35)


def test_residual_slices_correct_what_the_ones_before_have_missed():
    w, x = matrix(64, 24)
    # An error that depends on the cell alone, not on what it is to take: the last slice's own is what is left.
    errors = {"write_error": GaussianWriteError(Polynomial(jnp.array([1.0])), 1e-6, G_MAX)}
    left = {}
    for slices in (1, 2, 3):
        m = macro(slices=slices, slicing="residual", residual_gain=8.0, rows=64, **errors)
        left[slices] = float(np.std(np.asarray(product(w, x, m, KEY)) - np.asarray(product(w, x, m))))
    assert left[2] == pytest.approx(left[1] / 8, rel=0.25)
    assert left[3] == pytest.approx(left[1] / 64, rel=0.25)
    bits = macro(slices=2, weight_bits=7.0, rows=64, **errors)
    plain = float(np.std(np.asarray(product(w, x, bits, KEY)) - np.asarray(product(w, x, bits))))
    assert left[2] < plain / 5, "slices of bits leave the error of the first one"


def test_residual_slices_see_stuck_cells():
    w, x = matrix(64, 24)
    stuck = StuckFaults(0.0, 0.05)
    one, two = (
        macro(slices=slices, slicing="residual", residual_gain=2.0, rows=64, encoding="offset_reference", faults=stuck)
        for slices in (1, 2)
    )
    missed = [np.std(np.asarray(product(w, x, m, KEY)) - np.asarray(product(w, x, m))) for m in (one, two)]
    assert missed[1] < 0.9 * missed[0], "half of a weight's range can be made good"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"active_rows": 5}, r"active_rows = 5 does not divide rows = 16"),
        ({"slicing": "residual", "weight_bits": 8.0}, r"slicing = 'residual' .* weight_bits = none"),
        ({"slices": 2}, r"slices = 2 cut the bits of a weight: set weight_bits, or slices = 1"),
        ({"slicing": "residual", "encoding": "offset_digital"}, r"encoding = 'offset_digital' does not give one"),
        ({"read_phases": 4, "encoding": "offset"}, r"read_phases = 4 .* encoding = 'offset' has no pair"),
    ],
)
def test_what_makes_no_sense_is_said(fields, message):
    w, x = matrix(4, 3)
    with pytest.raises((DeviceError, MappingError), match=message):
        product(w, x, prepare(macro(**fields)))
