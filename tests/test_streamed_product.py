"""A matrix programmed tile by tile while it is multiplied by: the same cells and reads as of one that is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim import crossbar, streamed_product
from pim.devices.array_wires import ArrayWires
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.random import chip_key, name_id, root_key, site_key
from pim.devices.record import cast
from pim.formulation import choose
from pim.holding import reading_time
from pim.streamed_product import Unprogrammed
from pim.tile_programming import program_tiles

N_IN, N_OUT, VECTORS = 150, 20, 7  # the last tile of 64 rows is partly filled
LAYER, OPERATOR = jnp.int32(3), jnp.uint32(name_id("ffn.up"))
KEY = chip_key(root_key(0), 1)


def drawn(seed: int = 0):
    rng = np.random.default_rng(seed)
    weights, x = rng.standard_t(4, size=(N_IN, N_OUT)), rng.normal(size=(VECTORS, N_IN))
    ids = np.stack([np.full(VECTORS, 9), np.arange(VECTORS)], axis=1)
    return jnp.asarray(weights, jnp.float32), jnp.asarray(x, jnp.float32), jnp.asarray(ids, jnp.uint32)


@jax.jit
def measured(weights, macro, x):
    return crossbar.calibrate(program_tiles(weights, macro, None, None), macro, x)


@jax.jit
def resident(matrix, macro, x, rows, key):
    site = {"layer": matrix.layer, "operator": matrix.operator}
    kept = program_tiles(
        matrix.weights, macro, key, matrix.time, ranges=matrix.ranges, formulation=matrix.formulation, **site
    )
    return crossbar.matmul(kept, macro, x, rows, key)


streamed = jax.jit(streamed_product.matmul)


def to_stream(macro, weights, x, calibrated: bool):
    ranges = measured(weights, macro, x[:3]) if calibrated else None  # so that other inputs clip
    how = choose(macro, len(weights), calibrated=calibrated)
    return Unprogrammed(weights, LAYER, OPERATOR, reading_time(macro, None), ranges, formulation=how)


CASES = [
    ("rram-techC", {"weight_scale": "tile_column", "encoding": "offset"}, True),
    ("rram-wan2022", {"weight_scale": "matrix", "encoding": "offset_digital", "weight_bits": 6}, False),
    ("rram-techC", {"active_rows": 16, "read_phases": 4, "weight_scale": "tile", "draws": "packed16"}, True),
    ("rram-techC", {"slices": 2, "slicing": "residual"}, True),
    ("rram-isaac", {}, True),
    ("rram-cmo-hfox-tight", {}, True),
    ("sram-qs28", {}, True),
]


@pytest.mark.parametrize("name, changes, calibrated", CASES)
def test_the_cells_and_reads_are_those_of_a_matrix_that_is_kept(name, changes, calibrated):
    macro = replace(preset(name), changes).model
    weights, x, rows = drawn()
    matrix = to_stream(macro, weights, x, calibrated)
    assert matrix.formulation.kind == "analog"
    for key in (KEY, chip_key(root_key(0), 2)):
        kept, found = resident(matrix, macro, x, rows, key), streamed(matrix, macro, x, rows, key)
        near = np.isclose(found, kept, rtol=1e-4, atol=1e-4 * float(np.abs(kept).max()))
        assert near.mean() > 0.98, "a code may flip at a tie, and few do"


NOISELESS = ("cell.relaxation", "cell.read_noise", "cell.reference_time", "environment")
EXACT = {"weight_bits": 4, "slices": 3, **dict.fromkeys(NOISELESS)}


@pytest.mark.parametrize("kind, changes", [
    ("integer", {"dac.bits": 6}),
    ("lossless", {"dac.bits": 3, "adc.bits": 14, "adc.range_rule": "granular"}),
])  # fmt: skip
def test_whole_numbers_are_streamed_too(kind, changes):
    macro = replace(preset("rram-wan2022"), {**EXACT, **changes}).model
    weights, x, rows = drawn(1)
    matrix = to_stream(macro, weights, x, calibrated=True)
    assert matrix.formulation.kind == kind
    kept = np.asarray(resident(matrix, macro, x, rows, KEY))
    np.testing.assert_allclose(streamed(matrix, macro, x, rows, KEY), kept, rtol=1e-5, atol=1e-6 * np.abs(kept).max())


def test_circuits_are_solved_on_the_tile_at_hand():
    macro = replace(preset("rram-wan2022"), {"rows": 8, "active_rows": 4}).model
    macro = dataclasses.replace(macro, wires=cast(ArrayWires(2.0, 2.0, reads="solved")))
    assert macro.solved_at_reads
    weights, x, rows = drawn(2)
    matrix = to_stream(macro, weights[:20, :3], x[:, :20], calibrated=True)
    args = macro, x[:, :20], rows, KEY
    np.testing.assert_allclose(streamed(matrix, *args), resident(matrix, *args), rtol=1e-3, atol=1e-3)


def test_a_digital_holder_takes_the_matrix_whole():
    device = preset("sram-digital28").model
    weights, x, rows = drawn(3)
    held = device.hold(weights, lambda use: site_key(KEY, layer=LAYER, operator=OPERATOR, use=use))
    found = streamed(Unprogrammed(weights, LAYER, OPERATOR), device, x, rows, KEY)
    np.testing.assert_allclose(found, device.multiply(held, x), rtol=1e-6)


def test_cells_of_one_tile_live_at_a_time():
    """All memory beside arguments and result is a small part of what the cells alone would take."""
    macro = replace(preset("rram-wan2022"), {"weight_bits": 9, "slices": 4}).model
    n_in, n_out = 16384, 256
    matrix = Unprogrammed(jnp.ones((n_in, n_out)), LAYER, OPERATOR, reading_time(macro, None))
    x, rows = jnp.ones((2, n_in)), jnp.zeros((2, 2), jnp.uint32)
    temporary = lambda run: run.lower(matrix, macro, x, rows, KEY).compile().memory_analysis().temp_size_in_bytes
    cells = 2 * 4 * 4 * n_in * n_out  # float32, in pairs and slices
    assert temporary(resident) > cells / 2  # of a pair the difference is kept
    assert temporary(streamed) < cells / 6


def test_vectors_take_turns_at_a_tile(monkeypatch):
    """Seven vectors in three turns, the last of them filled up; groups of rows whose last array is partly empty."""
    macro = replace(preset("rram-wan2022"), {"active_rows": 32, "encoding": "offset_digital", "weight_bits": 6}).model
    weights, x, rows = drawn(4)
    matrix = to_stream(macro, weights, x, calibrated=True)
    kept = np.asarray(resident(matrix, macro, x, rows, KEY))
    monkeypatch.setattr(crossbar, "vectors_at_once", lambda *_: 3)
    found = jax.jit(lambda *given: streamed_product.matmul(*given))(matrix, macro, x, rows, KEY)
    assert np.isclose(found, kept, rtol=1e-4, atol=1e-4 * np.abs(kept).max()).mean() > 0.98
