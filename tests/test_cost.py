"""Costs are sums of ledgers, follow the published laws, and agree with sums over single cells."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pim
from pim.costs.costing import cost
from pim.costs.digital_cost import digital_cost, product_values
from pim.costs.ledger import Ledger, join, kind, quantity
from pim.costs.macro_cost import leakage_power, matrix_cost
from pim.costs.operands import Operands, measure_operands, uniform_operands
from pim.devices.buffer import Buffer
from pim.devices.cells.cell import Cell
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.components.adc_andrulis import AndrulisADCCost
from pim.devices.components.adc_zigzag import ZigzagADCCost
from pim.devices.components.special_functions import norm, softmax
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.pulse_width_dac import PulseWidthDAC
from pim.devices.digital_unit import DigitalUnit
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.periphery import Periphery
from pim.devices.random import root_key
from pim.devices.record import cast, replace_at
from pim.errors import StudyError
from pim.mapping.errors import MappingError
from pim.tile_programming import program_tiles

PUBLISHED_FIT = (213.78, 2.872, 128.31, 3.2205, 24.58, 1.880, 2.829, 1.346, 0.993, 0.181, 0.299)


def made(cls: Any, *values: Any, **fields: Any) -> Any:
    """A record with float32 leaves."""
    return cast(cls(*values, **fields))


ZIGZAG = made(ZigzagADCCost, 100e-15, 1e-18, 0.640e-9, 6.53e-12, 10**1.206 * 1e-12, -0.0369)


def buffer(size: float, banks: float = 1.0) -> Buffer:
    return made(Buffer, size, banks, 65536.0, 0.594e-12, 1.138e-7, 10.3e-6, 0.553, 0.916, 0.952)


MACRO = made(
    AnalogMacro,
    rows=64,
    columns=128,
    slices=1,
    encoding="differential",
    weight_scale="column",
    input_range="calibrated",
    v_read=0.2,
    t_read=10e-9,
    vdd=0.9,
    cell=made(Cell, g_min=1e-6, g_max=40e-6, area=9.86e-14),
    dac=made(MultibitDAC, bits=8.0, percentile=99.99, capacitance_per_bit=50e-15, area=212e-12),
    adc=made(ADC, bits=6.0, percentile=99.99, columns_per_adc=8.0, cost=ZIGZAG),
    periphery=made(
        Periphery,
        wordline_capacitance=0.35e-15,
        select_capacitance=0.35e-15,
        select_voltage=0.9,
        bitline_capacitance=0.35e-15,
        settle=0.83e-9,
        sample_hold_energy=0.98e-15,
        sample_hold_area=3.9e-14,
        shift_add_energy=16.6e-15,
        shift_add_area=47.5e-12,
        shift_add_latency=0.83e-9,
        buffer=buffer(512.0),
        input_bytes=1.0,
        output_bytes=2.0,
        bus_energy_per_byte=0.342e-12,
        bus_area=743e-12,
        leakage_density=28.0,
    ),
)
UNIT = made(
    DigitalUnit,
    1e-12,
    1.2e-12,
    2.0,
    2.56e11,
    6.4e10,
    5.12e11,
    reuse=16.0,
    area=0.8e-6,
    leakage=23e-6,
    buffer=buffer(2.0**20, 16.0),
)
SERIAL = replace(MACRO, dac=made(BitSerialDAC, bits=8, percentile=99.99, capacitance_per_bit=1e-15, area=1e-13))
OFFSET = replace(MACRO, encoding="offset")


def rows_of(ledger: Ledger) -> dict[str, tuple[float, float, float]]:
    figures = zip(ledger.energy, ledger.latency, ledger.area, strict=True)
    return {name: (float(e), float(t), float(a)) for name, (e, t, a) in zip(ledger.components, figures, strict=True)}


# Converters -----------------------------------------------------------------------------------------------------


def test_zigzag_gives_the_published_figures():
    bits = jnp.array([4.0, 5.0, 6.0, 8.0])
    np.testing.assert_allclose(ZIGZAG.energy(bits, 0.9, 0.5) * 1e12, [0.324, 0.406, 0.489, 0.701], atol=6e-4)
    np.testing.assert_allclose(ZIGZAG.area(bits) * 1e12, [183, 336, 618, 2085], rtol=2e-3)
    np.testing.assert_allclose(ZIGZAG.latency(bits, 128) * 1e9, [5.9, 7.4, 8.9, 11.8], atol=0.05)


def test_andrulis_gives_the_values_of_its_plug_in(shared):
    tables = json.loads((shared / "golden" / "component_tables.json").read_text())["adc_survey_fit"]
    for row in tables["plugin_eval"]:
        law = made(AndrulisADCCost, row["node_nm"] * 1e-9, row["fs"], 0.0, *PUBLISHED_FIT)
        bits = jnp.float32(row["enob"])
        assert float(law.energy(bits, 0.9, 0.5)) * 1e12 == pytest.approx(row["e_pJ"], rel=2e-3)
        assert float(law.area(bits)) * 1e12 == pytest.approx(row["area_um2"], rel=6e-3)
        assert float(law.latency(bits, 64)) == pytest.approx(1 / row["fs"])


def test_the_converter_is_swappable_and_lost_bits_are_cheaper():
    lossless, lossy = (made(AndrulisADCCost, 28e-9, 1e9, loss, *PUBLISHED_FIT) for loss in (0.0, 1.8))
    cheap, dear = (
        rows_of(cost(replace_at(MACRO, "adc.cost", lambda *_, law=law: law), (64, 64)).ledger)
        for law in (lossy, lossless)
    )
    assert cheap["adc"][0] < dear["adc"][0]
    assert dear["adc"][1] == pytest.approx(8e-9)  # eight columns, 1 ns each
    assert dear["cells"] == rows_of(cost(MACRO, (64, 64)).ledger)["cells"]


# The sum ---------------------------------------------------------------------------------------------------------


def test_a_small_product_by_hand():
    """6 x 5 on arrays of 4 x 8, two columns an ADC: 2 row tiles x 2 arrays (4 pairs each) side by side."""
    flat = made(Buffer, 1.0, 1.0, 1.0, 1e-13, 1e-10, 1e-6, 0.5, 1.0, 1.0)
    around = made(Periphery,
        wordline_capacitance=1e-15, select_capacitance=2e-15, select_voltage=1.0, bitline_capacitance=3e-15,
        settle=1e-9, sample_hold_energy=1e-15, sample_hold_area=1e-13, shift_add_energy=2e-14,
        shift_add_area=5e-11, shift_add_latency=1e-9, buffer=flat, input_bytes=1.0, output_bytes=2.0,
        bus_energy_per_byte=3e-13, bus_area=1e-9, leakage_density=10.0,
        amplifier_power=1e-6, amplifier_area=2e-13,
    )  # fmt: skip
    law = made(ZigzagADCCost, 1e-13, 0.0, 1e-9, 0.0, 1e-11, 0.0)
    macro = replace(
        MACRO,
        rows=4,
        columns=8,
        v_read=jnp.float32(0.5),
        vdd=jnp.float32(1.0),
        adc=made(ADC, 4.0, 100.0, 2.0, law),
        periphery=around,
        cell=made(Cell, g_min=0.0, g_max=1e-4, area=1e-13),
        dac=made(MultibitDAC, 8.0, 100.0, 5e-14, 2e-10),
    )
    found = cost(macro, (6, 5), vectors=3, operands=Operands(jnp.float32(0.1), jnp.float32(1e-5)))
    # two converters, four sample-and-holds, four amplifiers, a buffer
    array_leakage = 10.0 * (2 * (1.6e-10 + 5e-11) + 4 * 1e-13 + 4 * 2e-13) + 1e-6
    latency = 3 * (1e-9 + 10e-9 + 2 * 4e-9 + (1 + 1) * 1e-9)  # two turns of 4 bits; one shift-and-add, one tree level
    want = {
        # 3 vectors x 10 ns x (0.5 V)^2 x E[u^2] x E[G] x (6 rows x 10 columns)
        "cells": (3 * 10e-9 * 0.25 * 0.1 * 1e-5 * 60, 3 * 10e-9, 4 * 32 * 1e-13),
        # 6 inputs to 2 arrays: 12 lines of 8 cells; 2 tiles x 10 bit lines of 4 cells
        "lines": (3 * (12 * 8 * (1e-15 * 0.25 * 0.1 + 2e-15 * 1.0) + 20 * 4 * 3e-15 * 0.25 * 0.1), 0.0, 0.0),
        "dac": (3 * 12 * 8 * 5e-14, 3 * 1e-9, 4 * 4 * 2e-10),
        # 2 tiles x 5 outputs, while they settle, are read and converted; 4 pairs an array
        "amplifiers": (3 * 10 * (1e-9 + 10e-9 + 2 * 4e-9) * 1e-6, 0.0, 4 * 4 * 2e-13),
        "sample_hold": (3 * 10 * 1e-15, 0.0, 4 * 4 * 1e-13),
        "adc": (3 * 10 * 4e-13, 3 * 2 * 4e-9, 4 * 2 * 16e-11),  # 5 outputs x 2 tiles; 4 pairs = 2 converters an array
        "shift_add": (3 * 10 * 2e-14, 3 * 2 * 1e-9, 4 * 2 * 5e-11),
        "buffer": (3 * 2 * (12 * 1 + 10 * 2) * 1e-13, 0.0, 4 * 1e-10),
        "bus": (3 * (6 * 1 + 10 * 2) * 3e-13, 0.0, 4 * 1e-9),
        "leakage": (4 * array_leakage * latency, 0.0, 0.0),
    }
    rows = rows_of(found.ledger)
    assert rows.keys() == want.keys()
    for name, figures in want.items():
        assert rows[name] == pytest.approx(figures, rel=1e-5), name
    assert float(found.energy) == pytest.approx(sum(e for e, _, _ in want.values()), rel=1e-5)
    assert float(found.latency) == pytest.approx(latency, rel=1e-5)
    assert float(found.area) == pytest.approx(sum(a for _, _, a in want.values()), rel=1e-5)


shapes = st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(1, 40))
macros = st.sampled_from([MACRO, SERIAL, OFFSET, replace(MACRO, slices=2, weight_bits=jnp.float32(8.0))])


@given(macros, shapes)
def test_totals_are_the_sums_of_the_rows(macro, shape):
    found = cost(macro, shape[:2], vectors=shape[2])
    plain = found.to_dict()
    for name in ("energy", "latency", "area"):
        assert plain["total"][name] == np.sum([row[name] for row in plain["rows"]])
        assert float(getattr(found, name)) == pytest.approx(plain["total"][name], rel=1e-6)
        for grouped in (found.ledger.by_component(), found.ledger.by_operator(), found.ledger.total()):
            assert grouped.to_dict()["total"][name] == pytest.approx(plain["total"][name], rel=1e-6)
    assert all(row[name] >= 0 for row in plain["rows"] for name in ("energy", "latency", "area"))
    assert json.loads(json.dumps(plain)) == plain


@given(macros, shapes, st.integers(0, 2), st.integers(1, 200))
def test_more_is_never_cheaper(macro, shape, axis, extra):
    larger = tuple(size + extra * (i == axis) for i, size in enumerate(shape))
    small, large = (cost(macro, s[:2], vectors=s[2]) for s in (shape, larger))
    assert float(large.energy) > float(small.energy)
    assert float(large.latency) >= float(small.latency) * (1 - 1e-6)
    assert float(large.area) >= float(small.area) * (1 - 1e-6)


@pytest.mark.parametrize("path", ["adc.bits", "v_read", "t_read", "vdd", "dac.bits", "periphery.select_voltage"])
def test_more_of_a_resource_costs_more(path):
    more = replace_at(MACRO, path, lambda value, _: value * 1.2)
    assert float(cost(more, (128, 128)).energy) > float(cost(MACRO, (128, 128)).energy)


def test_sharing_a_converter_trades_area_for_time():
    shared, own = (replace_at(MACRO, "adc.columns_per_adc", lambda v, _, n=n: v * 0 + n) for n in (32.0, 1.0))
    assert float(cost(shared, (64, 64)).area) < float(cost(own, (64, 64)).area)
    assert float(cost(shared, (64, 64)).latency) > float(cost(own, (64, 64)).latency)


def test_steps_multiply_reads_and_conversions():
    whole, serial = (rows_of(cost(m, (128, 128)).ledger) for m in (MACRO, SERIAL))
    assert serial["adc"][0] == pytest.approx(7 * whole["adc"][0])
    assert serial["cells"][1] == pytest.approx(7 * whole["cells"][1])


# Arrays of shapes -------------------------------------------------------------------------------------------------


def test_arrays_of_shapes_equal_single_calls():
    n_in, n_out, vectors = np.array([1, 64, 65, 4096]), np.array([7, 64, 1000, 11008]), np.array([1, 3, 2, 5])
    together = cost(MACRO, (n_in, n_out), vectors=vectors)
    for i in range(4):
        alone = cost(MACRO, (int(n_in[i]), int(n_out[i])), vectors=int(vectors[i])).ledger
        for name in ("energy", "latency", "area"):
            np.testing.assert_allclose(getattr(together.ledger.at(i), name), getattr(alone, name), rtol=1e-6)


def test_a_hundred_thousand_shapes_take_well_under_two_seconds():
    draw = np.random.default_rng(0).integers(1, 16384, (2, 100_000))
    jax.block_until_ready(cost(MACRO, tuple(draw)).ledger)
    start = time.perf_counter()
    found = jax.block_until_ready(cost(replace_at(MACRO, "adc.bits", lambda v, _: v + 1), tuple(draw)).ledger)
    assert time.perf_counter() - start < 2
    assert found.energy.shape[1:] == (100_000,) and bool(jnp.isfinite(found.energy).all())


def test_large_matrices_do_not_overflow():
    huge, one = (rows_of(cost(MACRO, (size, size)).ledger) for size in (131072, 64))
    for component in ("cells", "lines", "dac", "adc", "shift_add", "buffer"):  # the bus alone shares its inputs
        assert huge[component][0] == pytest.approx(2048**2 * one[component][0], rel=1e-5)


# Operands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("macro", [MACRO, SERIAL, OFFSET], ids=["pair", "serial", "offset"])
def test_cells_take_what_a_loop_over_every_cell_says(macro):
    """Oracle: V^2 G t, cell by cell, step by step, from conductances that the oracle works out itself."""
    macro = replace(macro, rows=8, columns=16)
    rng = np.random.default_rng(1)
    weights, x = rng.standard_normal((11, 9)).astype(np.float32), rng.uniform(-1, 1, (3, 11)).astype(np.float32)
    crossbar = program_tiles(jnp.asarray(weights), macro, None, None)

    relative = weights / np.abs(weights).max(axis=0)
    window = 39e-6
    if macro.encoding == "differential":
        g = np.concatenate([np.maximum(relative, 0), np.maximum(-relative, 0)], axis=1) * window + 1e-6
    else:  # two arrays side by side, each with a reference column at mid-window
        g = np.concatenate([(relative + 1) / 2, np.full((11, 1), 0.5)], axis=1) * window + 1e-6
    scaled = x / np.abs(x).max(axis=1, keepdims=True)
    code = np.round(np.abs(scaled) * 127)
    if macro.dac.steps == 1:
        levels = [np.sign(scaled) * code / 127]
    else:
        levels = [np.sign(scaled) * ((code.astype(int) >> k) & 1) for k in range(7)]
    joules = 0.0
    for level in levels:
        for vector in level:
            for u, line in zip(vector, g, strict=True):
                for conductance in line:
                    joules += (0.2 * u) ** 2 * conductance * 10e-9

    operands = measure_operands(crossbar, macro, jnp.asarray(x))
    found = cost(macro, (11, 9), vectors=3, operands=operands)
    assert rows_of(found.ledger)["cells"][0] == pytest.approx(joules, rel=1e-4)
    assert found.notes[0] == "operand statistics measured on inputs"


def test_measured_statistics_contain_write_errors():
    write_error = made(GaussianWriteError, Polynomial(np.array([2.0])), 1e-6, 40e-6)
    noisy = replace_at(MACRO, "cell.write_error", lambda *_: write_error)
    weights, x = jnp.ones((64, 32)) * 0.01, jnp.ones((4, 64))
    exact, written = (
        float(measure_operands(program_tiles(weights, m, root_key(0), 1.0), m, x).g) for m in (MACRO, noisy)
    )
    assert exact == pytest.approx(20.5e-6, rel=1e-4)  # equal weights: one cell of a pair full, the other empty
    assert written > exact  # the empty cells cannot go below zero


def test_silent_inputs_have_no_energy_and_a_finite_conductance():
    crossbar = program_tiles(jnp.eye(64), MACRO, root_key(0), 1.0)
    silent = measure_operands(crossbar, MACRO, jnp.zeros((2, 64)))
    assert float(silent.u2) == 0 and 1e-6 <= float(silent.g) <= 40e-6


@pytest.mark.parametrize("macro,u2,g", [(MACRO, 1 / 3, 1 / 4), (SERIAL, 1 / 2, 1 / 4), (OFFSET, 1 / 3, 1 / 2)])
def test_without_statistics_operands_are_uniform_and_the_result_says_so(macro, u2, g):
    assumed = uniform_operands(macro)
    assert float(assumed.u2) == pytest.approx(u2, rel=0.02)
    assert float(assumed.g) == pytest.approx(1e-6 + g * 39e-6, rel=0.01)
    assert "assumed" in cost(macro, (64, 64)).notes[0]


# Gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("macro", [MACRO, SERIAL], ids=["multibit", "serial"])
def test_gradients_with_respect_to_the_device_are_finite_and_right(macro):
    slope = jax.grad(lambda m: cost(m, (100, 200), vectors=3).energy)(macro)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slope))
    assert float(slope.adc.bits) > 0 and float(slope.v_read) > 0

    # of the v_read parts alone: E = k v^2, so dE/dv = 2 E / v
    def charge(v):
        ledger = cost(replace(macro, v_read=v), (100, 200)).ledger
        return ledger.energy[ledger.components.index("cells")]

    assert float(jax.grad(charge)(macro.v_read)) == pytest.approx(2 * float(charge(macro.v_read)) / 0.2, rel=1e-5)


def test_one_compilation_serves_a_sweep_and_all_operators():
    from pim.costs import macro_cost

    compiled: Any = macro_cost._priced
    before = compiled._cache_size()
    for i, bits in enumerate((3.0, 4.0, 7.0)):
        matrix_cost(replace_at(MACRO, "adc.bits", lambda v, _, b=bits: v * 0 + b), 77, 33, operator=f"layers.{i}.x")
    assert compiled._cache_size() - before <= 1


# Leakage, digital, ideal ------------------------------------------------------------------------------------------


def test_leakage_is_power_times_latency():
    found = cost(MACRO, (300, 300), vectors=4)
    power = float(leakage_power(MACRO, 300, 300))
    assert rows_of(found.ledger)["leakage"][0] == pytest.approx(power * float(found.latency), rel=1e-5)


def test_a_digital_unit_pays_for_products_vectors_and_bytes():
    rows = rows_of(digital_cost(UNIT, macs=1e6, values=1e3, ops=1e4))
    assert rows["mac"][0] == pytest.approx(1e-6) and rows["vector"][0] == pytest.approx(1.2e-8)
    assert rows["buffer"][0] == pytest.approx(2e3 * float(UNIT.buffer.energy_per_byte()))
    assert rows["buffer"][1] == 0  # the multipliers are the slower part
    waiting = digital_cost(UNIT, macs=1e3, values=1e6)
    assert float(waiting.latency.sum()) == pytest.approx(2e6 / 5.12e11)


def test_a_digital_unit_reads_a_matrix_once_for_several_vectors():
    read = [float(product_values(UNIT, 1000, vectors, moved=7 * vectors)) for vectors in (1, 16, 17)]
    assert read == [1007, 1112, 2119]
    found = cost(UNIT, (100, 200), vectors=3)
    unit = UNIT.area + UNIT.buffer.area()
    assert float(found.area) == pytest.approx(float(unit))
    leaking = float((UNIT.leakage + UNIT.buffer.leakage()) * found.latency)
    assert float(found.energy) == pytest.approx(
        6e4 * 1e-12 + 2 * (2e4 + 900) * float(UNIT.buffer.energy_per_byte()) + leaking, rel=1e-5
    )


def test_a_buffer_follows_its_power_laws():
    small, large = buffer(1024.0), buffer(65536.0)
    assert float(large.energy_per_byte()) == pytest.approx(0.594e-12)
    assert float(large.area()) == pytest.approx(1.138e-7)
    assert float(large.energy_per_byte() / small.energy_per_byte()) == pytest.approx(64**0.553)
    assert float(large.leakage() / small.leakage()) == pytest.approx(64**0.952)
    banked = buffer(4 * 65536.0, banks=4.0)
    assert float(banked.energy_per_byte()) == pytest.approx(float(large.energy_per_byte()))
    assert float(banked.area()) == pytest.approx(4 * float(large.area()))


def test_a_buffer_that_is_too_small_is_told():
    assert any("do not fit" in note for note in cost(UNIT, (4096, 4096)).notes)
    assert cost(UNIT, (128, 128)).notes == ()


def test_ideal_costs_nothing_and_says_so():
    free = cost(Ideal(), (np.array([3, 4]), 5))
    assert free.energy.shape == (2,) and not np.any(free.energy) and not np.any(free.area)
    assert "ideal" in free.notes[0]


def test_what_is_left_out_is_told():
    bare = cost(replace(MACRO, periphery=None, adc=None), (64, 64))
    assert sum("free of charge" in note or "left out" in note for note in bare.notes) == 2
    assert rows_of(bare.ledger)["adc"] == (0, 0, 0) and float(bare.energy) > 0


# Errors, printing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 4), (4, -1), (4, 2.5), (float("nan"), 3), ("a", 3), (np.array([]), 3)])
def test_impossible_shapes_are_refused(shape, unchecked):
    with pytest.raises(StudyError, match="whole number"):
        cost(MACRO, shape)


def test_other_bad_input_is_refused(unchecked):
    with pytest.raises(StudyError, match="no cost is known"):
        cost(SimpleNamespace(), (4, 4))  # type: ignore[arg-type]
    with pytest.raises(MappingError, match="cannot hold"):
        cost(replace(MACRO, columns=1), (4, 4))
    with pytest.raises(StudyError, match="at"):
        cost(MACRO, (np.array([3, 4]), 5)).ledger._table()
    assert issubclass(DeviceError, ValueError)


def test_tables_print_totals_and_shares():
    found = cost(MACRO, (128, 128))
    text = str(found)
    assert text.splitlines()[0].split() == ["operator", "component", "energy", "share", "latency", "area"]
    assert "100.0%" in text and "note: operand statistics assumed" in text
    assert "<td>adc</td>" in found._repr_html_()
    assert "over (2,)" in str(cost(MACRO, (np.array([3, 4]), 5)))


def test_layers_of_one_kind_are_grouped():
    parts = [matrix_cost(MACRO, 64, 64, operator=f"layers.{i}.attention.q") for i in range(3)]
    both = join([*parts, matrix_cost(MACRO, 64, 512, operator="head")])
    grouped = both.by_operator()
    assert grouped.operators == ("attention.q", "head") and kind("layers.12.ffn.up") == "ffn.up"
    assert grouped.energy[0] == pytest.approx(3 * float(parts[0].energy.sum()), rel=1e-6)


@pytest.mark.parametrize(
    "value,text", [(0.0, "0 J"), (4.89e-13, "489 fJ"), (1.5e-3, "1.5 mJ"), (2.0, "2 J"), (1e-21, "0.001 aJ")]
)
def test_quantities_have_prefixes(value, text):
    assert quantity(value, "J") == text


# Phases and analog shift-and-add -------------------------------------------------------------------------------------


def priced(**fields) -> dict[str, tuple[float, float, float]]:
    """Energy, latency and area of each component."""
    dac = fields.pop("dac", SERIAL.dac)
    return rows_of(cost(replace(MACRO, dac=dac, weight_bits=jnp.float32(8.0), slices=2, **fields), (100, 40)).ledger)


def test_reads_by_the_signs_of_input_and_weight_take_four_times_as_long():
    one, two, four = (priced(read_phases=phases) for phases in (1, 2, 4))
    for component in ("adc", "cells", "dac"):
        assert four[component][1] == pytest.approx(4 * one[component][1]) == pytest.approx(2 * two[component][1])
    for component in ("adc", "sample_hold", "shift_add"):
        assert four[component][0] == pytest.approx(4 * one[component][0]) == pytest.approx(2 * two[component][0])
    assert four["cells"][0] == pytest.approx(one["cells"][0], rel=1e-4), "each product carries its current once"
    assert four["adc"][2] == one["adc"][2], "through the same converters"


def test_inputs_without_a_sign_take_no_phase_of_their_own():
    dac = made(BitSerialDAC, 8, 100.0, 1e-15, 1e-12, code="unsigned")
    one, two, four = (priced(read_phases=phases, dac=dac) for phases in (1, 2, 4))
    assert two["adc"][1] == one["adc"][1] and four["adc"][1] == pytest.approx(2 * one["adc"][1])


def test_sums_added_in_front_of_the_converter_are_converted_once():
    digital, steps, all_slices = (priced(shift_add=where) for where in ("digital", "steps", "all"))
    assert digital["adc"][0] == pytest.approx(7 * steps["adc"][0]) == pytest.approx(14 * all_slices["adc"][0])
    assert digital["adc"][1] == pytest.approx(7 * steps["adc"][1])
    assert all_slices["adc"][2] < steps["adc"][2] == digital["adc"][2], "slices share a converter"
    assert all_slices["cells"] == digital["cells"] and all_slices["sample_hold"] == digital["sample_hold"]
    twice = priced(shift_add="all", read_phases=2)
    assert twice["adc"][0] == pytest.approx(2 * all_slices["adc"][0])
    analog = cost(replace(SERIAL, shift_add="steps"), (100, 40))
    assert any("in front of the converters is free of charge" in note for note in analog.notes)


def test_wider_steps_are_fewer_and_a_pulse_is_one():
    wide = made(BitSerialDAC, 8, 100.0, 1e-15, 1e-12, slice_bits=4)
    pulse = made(PulseWidthDAC, 8.0, 100.0, 1e-15, 1e-12)
    one, two, seven = (priced(dac=dac)["adc"][0] for dac in (pulse, wide, SERIAL.dac))
    assert seven == pytest.approx(3.5 * two) == pytest.approx(7 * one)
    assert float(uniform_operands(replace(MACRO, dac=pulse)).u2) == pytest.approx(1 / 2, rel=0.02)
    short, high = (priced(dac=dac) for dac in (pulse, MACRO.dac))
    assert short["cells"][0] == pytest.approx(1.5 * high["cells"][0], rel=0.02), "half the time against a third of V^2"
    assert short["lines"][0] >= high["lines"][0], "lines are charged fully by the shortest pulse"


def test_groups_of_rows_are_read_one_after_another():
    whole, groups = priced(rows=32), priced(rows=32, active_rows=8)  # 100 inputs: four arrays, thirteen groups
    assert groups["cells"][0] == pytest.approx(whole["cells"][0]), "every cell carries its current once"
    assert groups["cells"][1] == pytest.approx(4 * whole["cells"][1])
    for row in ("adc", "sample_hold"):
        assert groups[row][0] == pytest.approx(13 / 4 * whole[row][0])
    assert groups["adc"][1] == pytest.approx(4 * whole["adc"][1])
    assert groups["adc"][2] == whole["adc"][2]


def test_a_digital_offset_takes_an_addition_an_input():
    one, column = priced(encoding="offset_digital"), priced(encoding="offset_reference")
    per_add = float(MACRO.periphery.shift_add_energy)
    assert one["shift_add"][0] - column["shift_add"][0] == pytest.approx(100 * per_add, rel=1e-3)


def test_reads_in_four_phases_cost_hermes_its_throughput(shared):
    """63.1 and 16.1 TOPS of one chip (Le Gallo et al., Nat. Electron. 2023): only the sum of tiles is not repeated."""
    chips = json.loads((shared / "golden" / "silicon_macros.json").read_text())
    tops = {row["id"]: row["tops"] for row in chips["silicon"] if row["id"].startswith("legallo23")}
    device = pim.replace(pim.preset("pcm-hermes-2"), {"cell.area": 1e-13})  # unknown, and of no account for the time
    one, four = (cost(pim.replace(device, {"read_phases": phases}), (256, 256)).latency for phases in (1, 4))
    assert float(four / one) == pytest.approx(tops["legallo23_1p"] / tops["legallo23_4p"], rel=0.01)


# Parts of the library in the place of single figures ----------------------------------------------------------------


def test_an_h_tree_takes_the_place_of_the_bus():
    """Inputs go to all its leaves, partial sums come from one."""
    tree = pim.component("htree-16").model
    wired = replace_at(MACRO, "periphery.htree", lambda *_: tree)
    plain, treed = (rows_of(cost(m, (130, 70)).ledger) for m in (MACRO, wired))
    per_bit = [float(law(0.9)) for law in (tree.broadcast_per_bit, tree.energy_per_bit)]
    assert treed["bus"][0] == pytest.approx(8 * (130 * per_bit[0] + 3 * 70 * 2 * per_bit[1]), rel=1e-5)
    assert {name for name in plain if plain[name] != treed[name]} == {"bus"}


def test_special_functions_take_the_place_of_a_mean_operation():
    """Softmax, norms and activations cost what they are made of, in energy, time, area and leakage."""
    functions = pim.component("special-functions-40nm").model
    unit = pim.replace(pim.preset("digital-28nm"), {"functions": pim.component("special-functions-40nm")})
    arrays = pim.preset("rram-techC")
    plans = [
        pim.place("tiny-stories", pim.inference_system(arrays, digital))
        for digital in (pim.preset("digital-28nm"), unit)
    ]
    runs = [pim.cost(plan, prompt=8, generate=4).prefill.ledger for plan in plans]
    energy = lambda ledger, of: sum(
        float(e) for o, c, e in zip(ledger.operators, ledger.components, ledger.energy, strict=True)
        if kind(o) == of and c == "vector"
    )  # fmt: skip
    config = plans[0].config
    layers, hidden = config.num_hidden_layers, config.hidden_size
    last = float(functions.energy(norm(hidden)))  # of the last token alone
    assert energy(runs[1], "norm") == pytest.approx(last, rel=1e-5)
    scores = config.num_attention_heads * 8 * 4.5  # a token is scored against those up to itself
    assert energy(runs[1], "attention.softmax") == pytest.approx(
        layers * float(functions.energy(softmax(scores))), rel=1e-4
    )
    assert float(runs[1].area.sum() - runs[0].area.sum()) == pytest.approx(float(functions.area()), rel=1e-3)
