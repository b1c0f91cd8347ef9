"""Wire resistance in whole products: which cells share wires, and what that does to results, noise and errors."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few
from nodal import nodal_conductance

import pim
from pim import crossbar
from pim.circuit.arrays import layout, to_arrays, to_tile
from pim.devices.array_wires import ArrayWires
from pim.devices.bit_line import Saturation
from pim.devices.cells.cell import Cell
from pim.devices.cells.conduction import Sinh
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.converters.pulse_width_dac import PulseWidthDAC
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast, prepare
from pim.mapping.encoding import ENCODINGS, encoding_of
from pim.tile_programming import program_tiles

G_MIN, G_MAX = 2e-6, 100e-6
KEY = root_key(5)
SERIAL = BitSerialDAC(6, 100.0, 0.0, 0.0)


def macro(wires=None, conduction=None, read_noise=None, **fields) -> AnalogMacro:
    """A macro whose cells are exact, and which has no ADC."""
    given = {
        "rows": 12,
        "columns": 16,
        "slices": 1,
        "encoding": "differential",
        "weight_scale": "matrix",
        "input_range": "token",
        "dac": ExactDAC(),
        "v_read": 0.2,
    }
    cell = Cell(G_MIN, G_MAX, 1e-13, conduction=conduction, read_noise=read_noise)
    return prepare(cast(AnalogMacro(**{**given, **fields}, t_read=1e-8, vdd=0.9, cell=cell, wires=wires)))


def matrix(n_in: int, n_out: int):
    rng = np.random.default_rng(n_in)
    return rng.uniform(-1, 1, (n_in, n_out)).astype(np.float32), rng.uniform(-1, 1, (5, n_in)).astype(np.float32)


def row_ids(n: int):
    return jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)


@jax.jit
def product(w, x, m, key=None):
    return crossbar.matmul(program_tiles(w, m, None, None), m, x, row_ids(len(x)), key)


PAIRS = ["separate", "interleaved", "shared_bit_line"]


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize(("pair", "columns"), [(2, 7), (1, 10)], ids=["pair", "offset"])
def test_every_cell_has_a_place_of_its_own(pairs, pair, columns):
    """7 outputs on 3 arrays, in slices of two, and without pairs a reference column in each array."""
    shape = (pair, 2, columns)
    where = layout(ArrayWires(1.0, 1.0, pairs=pairs), shape, 7, 3)
    g = jnp.arange(1.0, 1 + 5 * pair * 2 * columns).reshape(5, pair, 2, columns).transpose(1, 2, 0, 3)
    held = to_arrays(g, where)
    np.testing.assert_array_equal(to_tile(held, where, shape), g)
    assert (np.asarray(held) > 0).sum() == g.size
    ends = [np.flatnonzero(array.any(axis=(0, 1)))[-1] + 1 for array in np.asarray(held)]
    np.testing.assert_array_equal(ends, where.used)
    if pair == 2:
        first = {"separate": [[(0, 0), (0, 1)]], "interleaved": [[(0, 0), (1, 0), (0, 1), (1, 1)]]}
        first["shared_bit_line"] = [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
        for line, row in enumerate(first[pairs]):  # (cell of the pair, slice) of the first output, side by side
            expected = [g[p, s, :, 0] for p, s in row]
            np.testing.assert_array_equal(held[0, line, :, : len(row)].T, expected)
    else:
        np.testing.assert_array_equal(held[1, 0, :, -2:].T, g[0, :, :, 8], "the reference of an array comes last")


SMALL = {
    "differential": ("separate", 1), "differential_two_sided": ("interleaved", 2), "offset": ("separate", 2),
    "offset_reference": ("separate", 1), "differential_digital": ("interleaved", 1), "offset_digital": ("separate", 2),
}  # fmt: skip


@pytest.mark.parametrize("encoding", first_few(3, [*SMALL]))  # of pairs, of pairs side by side, and of single columns
def test_products_are_those_of_arrays_solved_node_by_node(encoding):
    """A matrix of 17 x 9 on arrays of 12 rows: two tiles, the second in part, several arrays side by side."""
    pairs, slices = SMALL[encoding]
    resistances = (20.0, 30.0, 5.0, 9.0)
    fields = {"encoding": encoding, "slices": slices, "weight_bits": 5.0}
    m = macro(ArrayWires(*resistances, pairs=pairs), **fields)
    holding = macro(ArrayWires(0.0, 0.0, pairs=pairs, input="gate"), **fields, dac=SERIAL)
    w, program = jnp.asarray(matrix(17, 9)[0]), jax.jit(program_tiles)
    g = np.array(program(w, holding, None, None).cells.conductance, np.float64)
    tiles, pair, _, _, columns = g.shape
    where = layout(m.wires, (pair, slices, columns), 9, -(-9 // encoding_of(m).outputs_per_array(16, slices)))
    programmed, expected = program(w, m, None, None), []
    assert tiles == 2
    for tile, rows in enumerate((12, 5)):
        held = np.array(to_arrays(jnp.asarray(g[tile]), where), np.float64)[:, :, :rows]
        solved = np.zeros((*held.shape[:2], 12, held.shape[3]))
        for a, used in enumerate(where.used):
            solved[a, 0, :rows, :used] = nodal_conductance(held[a, :, :, :used], *resistances)
        effective = to_tile(jnp.asarray(solved, jnp.float32), where, (pair, slices, columns))
        signal = jax.vmap(lambda c: encoding_of(m).signal(c, G_MIN, G_MAX), in_axes=1, out_axes=1)(effective)
        expected.append(signal.reshape(12, -1) / (G_MAX - G_MIN))
    for tile, rows in enumerate((12, 5)):
        np.testing.assert_allclose(programmed.weights[tile, :rows], expected[tile][:rows], atol=3e-6)


KINDS = {
    "gate": ({"input": "gate"}, {"dac": SERIAL}),
    "gate, two reads of groups": ({"input": "gate"}, {"dac": SERIAL, "read_phases": 2, "active_rows": 4}),
    "non-linear at gates": ({"input": "gate"}, {"conduction": Sinh(0.15), "dac": SERIAL}),
    "non-linear groups of rows": ({}, {"conduction": Sinh(0.15), "active_rows": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        *((kind, "differential") for kind in KINDS),
        *(("gate", name) for name in ENCODINGS if name != "differential"),
        ("non-linear at gates", "offset_reference"),
    ],
)
def test_wires_without_resistance_change_nothing(kind, encoding):
    wired, fields = KINDS[kind]
    w, x = matrix(30, 9)
    m = macro(ArrayWires(0.0, 0.0, **wired), encoding=encoding, slices=2, weight_bits=5.0, **fields)
    without = product(jnp.asarray(w), jnp.asarray(x), replace(m, wires=None))
    np.testing.assert_allclose(product(jnp.asarray(w), jnp.asarray(x), m), without, atol=3e-5 * np.abs(without).max())


@pytest.mark.parametrize("pairs", first_few(1, PAIRS[::-1]))  # lines in common are the hardest
def test_linear_cells_have_the_same_product_folded_and_by_vector(pairs):
    w, x = matrix(30, 9)
    wires = ArrayWires(10.0, 20.0, 3.0, 4.0, pairs=pairs, drive_side="far", sense_side="near")
    once = product(jnp.asarray(w), jnp.asarray(x), macro(wires))
    each = product(jnp.asarray(w), jnp.asarray(x), macro(replace(wires, reads="solved")))
    np.testing.assert_allclose(each, once, atol=1e-5 * np.abs(once).max())


@pytest.mark.slow
def test_a_law_that_is_straight_has_the_product_of_linear_cells():
    """Hyperbolic sine on a scale of 1 kV, by Newton's method."""
    w, x = matrix(30, 9)
    wires = ArrayWires(10.0, 20.0, 3.0, 4.0)
    once = product(jnp.asarray(w), jnp.asarray(x), macro(wires))
    each = product(jnp.asarray(w), jnp.asarray(x), macro(wires, conduction=Sinh(1e3)))
    np.testing.assert_allclose(each, once, atol=1e-5 * np.abs(once).max())


@pytest.mark.slow
def test_a_vector_by_itself_has_the_same_product():
    """40 vectors and reads take turns, and each has its own draws."""
    w, _ = matrix(30, 9)
    x = np.random.default_rng(0).uniform(-1, 1, (40, 30)).astype(np.float32)
    m = macro(ArrayWires(0.0, 20.0, input="gate"), dac=SERIAL, read_noise=ProportionalReadNoise(0.05))
    programmed = jax.jit(program_tiles)(jnp.asarray(w), m, None, None)
    multiply = jax.jit(crossbar.matmul)
    together = multiply(programmed, m, jnp.asarray(x), row_ids(40), KEY)
    for i in (0, 21, 39):
        alone = multiply(programmed, m, jnp.asarray(x[i : i + 1]), row_ids(40)[i : i + 1], KEY)
        np.testing.assert_allclose(alone[0], together[i], atol=2e-5 * np.abs(together).max())
    assert np.abs(multiply(programmed, m, jnp.asarray(x), row_ids(40), root_key(6)) - together).max() > 1e-3


@pytest.mark.parametrize("pairs", ["separate", pytest.param("shared_bit_line", marks=pytest.mark.slow)])
def test_read_noise_to_first_order_is_that_of_cells_drawn_anew_in_the_circuit(pairs):
    """Spread of many reads of one vector, at once a column, and with a circuit solved for each read."""
    wires = ArrayWires(8.0, 8.0, 2.0, 2.0, pairs=pairs)
    noise = ProportionalReadNoise(0.1)
    w, x = matrix(12, 6)
    reads = 3000
    x = jnp.tile(jnp.asarray(x[:1]), (reads, 1))
    folded, drawn, ideal = (
        np.asarray(product(jnp.asarray(w), x, macro(read_noise=noise, **fields), KEY)).std(axis=0)
        for fields in ({"wires": wires}, {"wires": replace(wires, reads="solved")}, {})
    )
    np.testing.assert_allclose(folded, drawn, rtol=5 * 1.5 / np.sqrt(2 * reads))
    assert (drawn < ideal).all() and np.mean(drawn / ideal) < 0.97


def test_cells_without_conductance_have_noise_behind_wires_too():
    w, x = matrix(12, 6)
    x = jnp.tile(jnp.asarray(x[:1]), (2000, 1))
    noise = AdditiveReadNoise(1e-6)
    models = (macro(wires, read_noise=noise) for wires in (None, ArrayWires(1e-4, 1e-4)))
    models = (replace(m, cell=replace(m.cell, g_min=jnp.float32(0.0))) for m in models)
    without, behind = (np.asarray(product(jnp.asarray(w), x, m, KEY)).std(axis=0) for m in models)
    np.testing.assert_allclose(behind, without, rtol=1e-3)


def device(m: AnalogMacro) -> Device:
    return Device("wired", "test", "a macro with wires", m, {}, {})


def test_a_circuit_that_is_not_solved_is_an_error():
    w, x = matrix(12, 6)
    m = macro(ArrayWires(10.0, 20.0, tolerance=1e-14), conduction=Sinh(0.05))
    chip = pim.program(w, device(m), key=KEY)
    with pytest.raises(DeviceError, match=r"not solved for 5 of 5 vectors.*wires\.tolerance"):
        chip.matmul(x, key=None)


def test_ranges_are_calibrated_on_currents_of_the_circuit():
    w, x = matrix(12, 6)
    m = macro(ArrayWires(0.0, 300.0, input="gate"), dac=SERIAL)
    ranges = [
        pim.program(w, device(each), key=KEY, calibration=x).crossbar.ranges.adc for each in (m, replace(m, wires=None))
    ]
    assert (ranges[0] < 0.9 * ranges[1]).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"wires": ArrayWires(1.0, 1.0, pairs="shared_bit_line"), "encoding": "offset"}, "reads each column"),
        ({"wires": ArrayWires(1.0, 1.0, input="gate"), "dac": MultibitDAC(6.0, 100.0, 0.0, 0.0)}, "BitSerialDAC"),
        (
            {"wires": ArrayWires(1.0, 1.0), "conduction": Sinh(0.1), "dac": PulseWidthDAC(6.0, 100.0, 0.0, 0.0)},
            "another circuit at every moment",
        ),
        ({"wires": ArrayWires(1.0, 1.0), "conduction": Sinh(0.1), "bit_line": Saturation(8.0)}, "virtual grounds"),
    ],
)
def test_wires_that_cannot_be_with_the_rest_are_named(fields, words):
    with pytest.raises(DeviceError, match=words):
        macro(**fields)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"dac": SERIAL}], ids=["source", "gate"])
def test_the_product_has_a_gradient_with_respect_to_the_wires(fields):
    w, x = matrix(12, 6)
    m = macro(ArrayWires(0.0, 0.0, input="gate" if fields else "source"), **fields)

    @jax.jit
    @jax.value_and_grad
    def loss(ohm):
        wired = replace(m, wires=replace(m.wires, word_line=ohm, bit_line=ohm))
        return jnp.sum(product(jnp.asarray(w), jnp.asarray(x), wired) ** 2)

    below, (_, slope), above = (loss(jnp.float32(ohm)) for ohm in (9.0, 10.0, 11.0))
    assert slope < 0 and slope == pytest.approx(float(above[0] - below[0]) / 2, rel=2e-2)
