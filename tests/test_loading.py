"""Loading weights: counts by hand and against programmed cells, resident and streamed apart, wear and lifetimes."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pim
from pim.cli import main
from pim.costs.costing import cost
from pim.costs.ledger import LOADING, quantity
from pim.costs.lifetime import DEAD, endurance_of, kv_lifetime, lifetime, printed_time
from pim.costs.loading_cost import loading
from pim.devices.array_wires import ArrayWires
from pim.devices.buffer import Buffer
from pim.devices.cells.cell import Cell
from pim.devices.cells.cell_facts import CellFacts
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.wear import Wear
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.cells.write_verify import WriteVerify
from pim.devices.components.memory_interface import MemoryInterface
from pim.devices.components.write_driver import WriteDriver
from pim.devices.converters.dac import MultibitDAC
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.devices.roofline import Roofline
from pim.devices.writing import cell_writing
from pim.errors import StudyError
from pim.tile_programming import program_tiles


def made(cls: Any, *values: Any, **fields: Any) -> Any:
    """A record with float32 leaves."""
    return cast(cls(*values, **fields))


FACTS = made(CellFacts, write_energy=2e-12, write_latency=3e-9, endurance=1000.0)


def macro(
    encoding: str = "differential", slices: int = 1, facts: CellFacts | None = FACTS, **fields: Any
) -> AnalogMacro:
    """Arrays of 4 word lines and 8 columns; writing a cell takes 2 pJ and 3 ns, and it survives 1000 writes."""
    base = AnalogMacro(
        rows=4,
        columns=8,
        slices=slices,
        encoding=encoding,
        weight_scale="column",
        input_range="calibrated",
        v_read=0.2,
        t_read=1e-8,
        vdd=0.9,
        cell=Cell(g_min=1e-6, g_max=40e-6, area=1e-13),
        dac=MultibitDAC(bits=8.0, percentile=99.99, capacitance_per_bit=5e-14, area=2e-10),
        weight_bits=4.0,
    )
    base = replace(cast(base), **fields)
    return replace(base, cell=replace(base.cell, facts=facts))  # `cast` leaves them out


VERIFIED = made(
    WriteVerify,
    attempt=GaussianWriteError(Polynomial(np.array([1.0])), 2e-6, 1e-6),
    window=Polynomial(np.array([1.0])),
    window_unit=1e-6,
    g_reference=1e-6,
    max_pulses=30,
    pulse_width=1e-6,
    pulse_energy=1e-12,
    verify_time=5e-7,
    verify_energy=1e-13,
)
QUICK = made(MemoryInterface, 1e-12, 1e-12, 1e15)
"""A memory that keeps nobody waiting."""
ENCODINGS = [("differential", 1), ("differential_digital", 2), ("offset", 1), ("offset", 2), ("offset_reference", 3)]


# What is written ---------------------------------------------------------------------------------------------------


def test_a_small_matrix_by_hand():
    """6 x 5 in pairs: 2 x 2 arrays, 5 pairs as 3 and 2; 60 cells; four word lines of an array one after another."""
    found = loading(macro(), (6, 5), memory=QUICK)
    assert float(found.cells) == 60
    assert float(found.bits) == 6 * 5 * 4
    assert float(found.write_energy) == pytest.approx(60 * 2e-12)
    assert float(found.write_time) == pytest.approx(4 * 3e-9)  # all cells of a word line and all arrays at once
    assert float(found.memory_energy) == pytest.approx(120e-12)
    assert float(found.energy) == pytest.approx(240e-12) and float(found.time) == pytest.approx(12e-9)
    assert found.loadings == 1000 and found.wear == pytest.approx(1e-3)
    by_one = loading(macro(), (6, 5), memory=QUICK, parallel=4, arrays=1)
    assert float(by_one.write_time) == pytest.approx(4 * 4 * 2 * 3e-9)  # arrays x lines x (4 and 2 cells of a line)
    assert float(by_one.write_energy) == float(found.write_energy)


@pytest.mark.parametrize(("encoding", "slices"), ENCODINGS)
@pytest.mark.parametrize("shape", [(4, 2), (9, 7), (3, 11)])
def test_as_many_cells_as_a_chip_has(encoding, slices, shape):
    """Against the cells that programming makes, less those in rows that the matrix does not have."""
    wired = ArrayWires(word_line=1.0, bit_line=1.0, reads="solved")
    device = macro(encoding, slices, wires=cast(wired))
    weights = jax.numpy.linspace(-1.0, 1.0, shape[0] * shape[1]).reshape(shape)
    held = program_tiles(weights, device, root_key(0), None).cells
    assert held is not None
    arrays, pair, slices_, rows, columns = held.conductance.shape
    assert float(loading(device, shape).cells) == pair * slices_ * columns * shape[0]
    assert arrays * rows >= shape[0]


def test_arrays_of_shapes_equal_single_calls():
    n_in, n_out = np.array([[3], [17]]), np.array([5, 8, 40])
    for device in (macro("offset"), macro(cell=made(Cell, 1e-6, 41e-6, levels=2.0, write_error=VERIFIED))):
        together = loading(device, (n_in, n_out), copies=2, parallel=3, arrays=5)
        for i, rows in enumerate(n_in[:, 0]):
            for j, columns in enumerate(n_out):
                alone = loading(device, (rows, columns), copies=2, parallel=3, arrays=5)
                for figure in ("cells", "write_energy", "write_time", "memory_time", "energy", "time"):
                    assert getattr(together, figure)[i, j] == getattr(alone, figure), figure


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(ENCODINGS), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_bounds_and_monotony(n_in, n_out, encoding, parallel):
    device = macro(*encoding)
    some = loading(device, (n_in, n_out), parallel=parallel, memory=QUICK)
    taller, wider = (loading(device, shape, parallel=parallel) for shape in ((n_in + 1, n_out), (n_in, n_out + 1)))
    assert some.cells >= n_in * n_out * encoding[1]
    for more in (taller, wider):
        assert more.cells > some.cells and more.write_energy > some.write_energy
    in_turn = loading(device, (n_in, n_out), parallel=parallel, arrays=1, memory=QUICK)
    slow = loading(device, (n_in, n_out), parallel=1, arrays=1, memory=QUICK)
    assert some.write_time <= in_turn.write_time * (1 + 1e-9)
    assert in_turn.write_time <= slow.write_time * (1 + 1e-9)
    assert slow.write_time >= some.cells * 3e-9 * (1 - 1e-6)  # nothing is written twice as fast as one by one


def test_pulses_are_those_of_the_device_and_a_word_line_waits_for_its_slowest():
    device = macro(cell=made(Cell, 1e-6, 41e-6, levels=2.0, write_error=VERIFIED))
    report = cell_writing(device.cell)
    assert report.mean is not None and report.mean > 1.5
    found = loading(device, (4, 4))  # one full array: four lines of eight cells
    assert float(found.pulses) == pytest.approx(32 * report.mean)
    assert float(found.write_energy) == pytest.approx(32 * report.mean * 1.1e-12, rel=1e-5)
    assert float(found.write_time) == pytest.approx(4 * (report.for_cells(8, parallel=8).time or 0.0))
    one_by_one = loading(device, (4, 4), parallel=1)
    assert float(one_by_one.write_time) == pytest.approx(32 * report.mean * 1.5e-6, rel=1e-5)
    assert float(found.write_time) > float(one_by_one.write_time) / 8  # the slowest of eight takes longer than the mean


def test_a_driver_prices_pulses_that_have_no_price():
    law = replace(VERIFIED, pulse_width=None, pulse_energy=None, verify_time=None, verify_energy=None)
    device = macro(cell=made(Cell, 1e-6, 41e-6, levels=2.0, write_error=law))
    driver = made(WriteDriver, 2.0, 1e-8, 1e-13, 0.5, 1e-11)
    unknown, known = loading(device, (4, 4)), loading(device, (4, 4), driver=driver)
    assert np.isnan(unknown.write_energy) and np.isnan(unknown.write_time) and np.isnan(unknown.energy)
    pulse = (1e-13 * 4 + 4 * 21e-6 * 1e-8) / 0.5
    assert float(known.write_energy) == pytest.approx(float(known.pulses) * pulse, rel=1e-5)
    assert float(known.pulses) == float(unknown.pulses)
    with pytest.raises(StudyError, match="prices pulses"):
        loading(macro(), (4, 4), driver=driver)


def test_a_digital_macro_writes_a_word_line_a_cycle():
    device = made(DigitalMacro, rows=8, outputs=4, weight_bits=6.0, input_bits=8.0, clock=1e8, vdd=0.9, row_groups=2)
    known = replace(device, facts=made(CellFacts, write_energy=1e-14))
    found = loading(known, (20, 5), memory=QUICK)  # 3 groups of 8 rows in 2 x 2 arrays of 16 word lines
    assert float(found.cells) == float(found.bits) == 20 * 5 * 6
    assert float(found.write_energy) == pytest.approx(600e-14)
    assert float(found.write_time) == pytest.approx(16e-8)
    assert float(loading(known, (20, 5), arrays=1).write_time) == pytest.approx(4 * 16e-8)
    assert np.isnan(loading(device, (20, 5)).write_energy)


def test_memories_take_bytes():
    flat = made(Buffer, 1e6, 1.0, 1e6, 2e-12, 1e-8, 1e-6, 0.5, 1.0, 1.0)
    unit = made(DigitalUnit, 1e-12, 1e-12, 2.0, 1e12, 1e12, 1e9, 1.0, 1e-7, 1e-6, flat)
    found = loading(unit, (10, 20), memory=QUICK)
    assert float(found.write_energy) == pytest.approx(400 * 2e-12)
    assert float(found.write_time) == pytest.approx(400e-9) and float(found.bits) == 3200
    bare = pim.preset("gpu-a100").model
    assert isinstance(bare, Roofline)
    gpu = loading(bare, (1024, 1024), memory=QUICK)
    assert float(gpu.write_time) == pytest.approx(2 * 2**20 / float(bare.bandwidth))
    assert float(gpu.write_energy) == pytest.approx(2 * 2**20 * float(bare.energy_per_byte))
    assert float(loading(Ideal(), (10, 20)).energy) == 0.0


def test_rows_of_a_dram_are_filled_through_its_pins():
    device = pim.preset("dram-aim").model
    values = 4096 * 4096
    commands = device.filling(float(values))
    banks, energy, timing = device.banks, device.energy, device.timing
    assert float(commands.columns) == values * 2 / float(banks.column_bytes)
    assert float(commands.activations) == values * 2 / float(banks.row_bytes)
    found = loading(device, (4096, 4096), memory=QUICK)
    bits = values * 16
    least = bits * float(energy.cell + energy.pins) + float(commands.activations * energy.activation)
    assert float(found.write_energy) >= least
    pins = float(banks.channels * banks.column_bytes / (timing.n_bl * timing.t_ck))  # bytes a second
    assert 1.0 <= float(found.write_time) / (values * 2 / pins) < 2.0
    assert found.wear is None


def test_a_memory_outside_is_waited_for():
    slow = made(MemoryInterface, 1e-12, 1e-12, 1e6)
    found = loading(macro(), (6, 5), memory=slow)
    assert float(found.time) == float(found.memory_time) == pytest.approx(15e-6)
    waits = dict(zip(found.ledger.components, np.asarray(found.ledger.latency), strict=True))
    assert waits["memory"] + waits["write"] == pytest.approx(15e-6) and waits["write"] == pytest.approx(12e-9)
    assert set(found.ledger.operators) == {LOADING}


# Unknown -----------------------------------------------------------------------------------------------------------


def test_what_is_not_known_stays_unknown():
    device = macro(facts=CellFacts())
    found = loading(device, (6, 5))
    assert np.isnan(found.write_energy) and np.isnan(found.write_time) and np.isnan(found.pulses)
    assert found.wear is None and found.loadings is None and found.lifetime(1.0).seconds is None
    assert "unknown" in str(found) and any("write_energy" in note for note in found.notes)
    assert float(found.cells) == 60 and float(found.memory_energy) > 0  # and what is known, known
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["write_energy"] is None and read["endurance"] is None and read["cells"] == 60
    streamed = cost(device, (6, 5)).streamed
    assert np.isnan(streamed.energy) and "streamed (loaded for this vector): unknown" in str(cost(device, (6, 5)))
    assert not np.isnan(cost(device, (6, 5)).energy)


def test_figures_come_with_the_notes_of_their_sources():
    notes = loading(pim.preset("rram-wan2022"), (64, 64)).notes
    assert any("8.52 pulses" in note for note in notes)
    assert "lowest of the survey" in endurance_of(pim.preset("rram-wan2022")).basis


# Resident and streamed ---------------------------------------------------------------------------------------------


def test_weights_are_not_streamed_unless_asked_for():
    """ZigZag's stock macros take 1.47 mJ for a vector and 4096 x 4096, nearly all of it DRAM at 700 pJ for 64 bits."""
    device = pim.preset("sram-digital28")
    memory = made(MemoryInterface, 700e-12 / 64, 700e-12 / 64, 25.6e9)
    found = cost(device, (4096, 4096), memory=memory)
    streamed = cost(device, (4096, 4096), memory=memory, weights="streamed")
    rows = dict(
        zip(
            zip(streamed.ledger.operators, streamed.ledger.components, strict=True), streamed.ledger.energy, strict=True
        )
    )
    assert float(rows[LOADING, "memory"]) == pytest.approx(1.468e-3, rel=1e-3)
    assert float(rows[LOADING, "memory"] / streamed.energy) == pytest.approx(0.998, abs=2e-3)
    assert float(found.energy) < 0.01 * float(streamed.energy)
    assert float(found.energy) == pytest.approx(float(streamed.resident.energy))
    assert float(streamed.energy) == pytest.approx(float(found.energy + found.loading.energy), rel=1e-5)
    assert float(streamed.latency) == pytest.approx(float(found.latency + found.loading.time), rel=1e-5)
    assert float(streamed.area) == pytest.approx(float(found.area))
    assert float(found.streamed.energy) == float(streamed.energy) == float(streamed.streamed.energy)


def test_loading_is_shared_by_the_vectors():
    device, vectors = pim.preset("sram-qs28"), np.array([1, 10, 1000])
    found = cost(device, (512, 256), vectors=vectors)
    added = np.asarray(found.streamed.energy - found.energy, np.float64)
    np.testing.assert_allclose(added, float(found.loading.energy), rtol=1e-3)
    assert "loaded once for these 10 vectors" in str(cost(device, (512, 256), vectors=10))
    assert "loaded for this vector" in cost(device, (512, 256))._repr_html_()


def test_a_cost_prints_joules_and_seconds_of_both():
    found = cost(macro(), (6, 5), vectors=3, memory=QUICK)
    resident, streamed = (
        f"{quantity(float(each.energy), 'J')}, {quantity(float(each.latency), 's')}"
        for each in (found, cost(macro(), (6, 5), vectors=3, memory=QUICK, weights="streamed"))
    )
    assert resident != streamed
    assert f"weights resident: {resident}; streamed (loaded once for these 3 vectors): {streamed}" in str(found)


def test_costs_say_both_in_json(capsys):
    assert main(["cost", "sram-qs28", "256", "64", "--json"]) == 0
    resident = json.loads(capsys.readouterr().out)
    assert main(["cost", "sram-qs28", "256", "64", "--weights", "streamed", "--json"]) == 0
    streamed = json.loads(capsys.readouterr().out)
    assert resident["total"]["energy"] == pytest.approx(resident["resident"]["energy"])
    assert streamed["total"]["energy"] == pytest.approx(resident["streamed"]["energy"])
    assert streamed["resident"]["energy"] == pytest.approx(resident["resident"]["energy"])
    assert resident["loading"]["cells"] > 256 * 64
    assert main(["cost", "sram-qs28", "256", "64"]) == 0
    assert "weights resident: " in capsys.readouterr().out


def test_a_cost_is_differentiable_beside_its_loading():
    device = macro()
    slope = jax.grad(lambda energy: cost(replace(device, vdd=energy), (6, 5)).energy)(0.9)
    assert np.isfinite(slope)
    with pytest.raises(StudyError, match="outside jit"):
        jax.jit(lambda v: loading(replace(device, vdd=v), (6, 5)).energy)(0.9)


# A model -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan():
    system = pim.inference_system(pim.preset("rram-wan2022"), pim.preset("digital-28nm"))
    return pim.place("tiny-stories", system)


def test_a_model_is_loaded_matrix_by_matrix(plan):
    found = pim.loading(plan)
    assert set(found.loadings) == {"weights", "digital"} and found.operators["digital"] == ("head",)
    shapes = plan.config.matrix_shapes
    alone = [pim.loading(pim.preset("rram-wan2022"), shape) for shape in shapes.values()]
    alone = alone * plan.config.num_hidden_layers
    head = pim.loading(pim.preset("digital-28nm"), (plan.config.hidden_size, plan.config.vocab_size))
    for figure in ("cells", "bits", "energy", "time"):
        assert getattr(found, figure) == pytest.approx(sum(float(getattr(each, figure)) for each in [*alone, head]))
    assert found.wear == pytest.approx(1e-4) and found.lifetime(1.0).seconds == pytest.approx(1e4)
    assert found.endurance.basis.endswith("; not known of digital")  # the head's device says nothing of its life
    assert float(found.ledger.energy.sum()) == pytest.approx(found.energy, rel=1e-5)
    assert float(found.ledger.latency.sum()) == pytest.approx(found.time, rel=1e-5)


def test_a_run_says_what_loading_takes_and_may_stream(plan):
    resident = cost(plan, prompt=8, generate=4, batch=2)
    streamed = cost(plan, prompt=8, generate=4, batch=2, weights="streamed")
    once = resident.loading
    assert once is not None
    assert streamed.energy - resident.energy == pytest.approx(5 * once.energy, rel=1e-4)  # a prompt and four steps
    assert float(streamed.decode.latency) == pytest.approx(float(resident.decode.latency) + 4 * once.time, rel=1e-4)
    assert streamed.area == pytest.approx(resident.area)
    printed = dict(resident.summary())
    assert printed["loading the model"].endswith("0.0001 of the endurance")
    assert printed["energy per written token, streamed"] == dict(streamed.summary())["energy per written token"]
    assert "loading the model" in str(resident) and "loading the model" in resident._repr_html_()
    assert json.loads(json.dumps(streamed.to_dict(), allow_nan=False))["weights"] == "streamed"
    assert "the whole model" in str(once)


# Lifetime ----------------------------------------------------------------------------------------------------------


def test_lifetimes_follow_from_the_endurance():
    assert loading(macro(), (4, 4)).lifetime(0.5).seconds == 2000.0
    assert kv_lifetime(macro(), 100.0, 256).seconds == pytest.approx(1000 * 256 / 100)
    rram = pim.kv_lifetime(pim.preset("rram-wan2022"), 100.0, 2048)
    assert rram.seconds is not None and 24 < rram.seconds / 3600 < 72  # keys and values wear ReRAM out in days
    assert "2.37 days" in str(rram) and "survey" in str(rram)
    sram = pim.kv_lifetime(pim.preset("sram-digital28"), 100.0, 2048)
    assert sram.seconds == np.inf and "without end" in str(sram) and "no wear" in str(sram)
    assert pim.kv_lifetime(pim.preset("sram-qs28"), 100.0, 2048).seconds is None
    held = loading(pim.preset("sram-digital28"), (64, 64))
    told = json.loads(json.dumps(held.to_dict(), allow_nan=False))
    assert held.wear == told["wear"] == 0.0 and told["endurance"] is None


def test_a_law_of_wear_says_when_cells_die():
    worn = Wear(cycles=100.0, life=1e6, shape=2.0)
    device = macro(cell=made(Cell, 1e-6, 40e-6, wear=worn))
    writes = endurance_of(device).writes
    assert writes is not None
    assert float(cast(replace(worn, cycles=writes + 100.0)).dead_share()) == pytest.approx(DEAD, rel=1e-3)
    assert writes == pytest.approx(1e6 * (-np.log1p(-DEAD)) ** 0.5 - 100, rel=1e-5)
    spent = macro(cell=made(Cell, 1e-6, 40e-6, wear=replace(worn, cycles=1e9)))
    assert loading(spent, (4, 4)).loadings == 0.0 and loading(spent, (4, 4)).wear == 1.0
    ageless = macro(cell=made(Cell, 1e-6, 40e-6, wear=Wear(cycles=0.0)))
    assert endurance_of(ageless).writes == 1000.0  # without a life the facts speak


def test_times_are_printed_for_people():
    assert [printed_time(t) for t in (None, 3.0, 7200.0, 3.2e8)] == ["unknown", "3 s", "2 hours", "10.1 years"]


def test_bad_requests_are_refused(plan, unchecked):
    for call, message in (
        (lambda: loading(macro(), (0, 4)), "n_in must be"),
        (lambda: loading(macro(), (4, 4), parallel=0), "parallel must be"),
        (lambda: loading(macro(), (4, 4), memory=macro()), "give a MemoryInterface"),
        (lambda: loading(macro(), (4, 4), driver=QUICK), "give a WriteDriver"),
        (lambda: loading(macro()), "needs the shape"),
        (lambda: loading(plan, (4, 4)), "shapes? .*of its own|matrices of its own"),
        (lambda: loading(SimpleNamespace(), (4, 4)), "not known"),
        (lambda: lifetime(endurance_of(macro()), 0.0), "positive number"),
        (lambda: kv_lifetime(macro(), 1.0, 0), "at least one position"),
        (lambda: kv_lifetime(macro(), -1.0, 8), "positive number"),
        (lambda: cost(macro(), (4, 4), weights="here"), "none of resident, streamed"),
        (
            lambda: cost(pim.preset("dram-aim"), (128, 64), operation="score", weights="streamed"),
            "no weights to load",
        ),
    ):
        with pytest.raises((StudyError, DeviceError), match=message):
            call()
    assert cost(pim.preset("dram-aim"), (128, 64), operation="score").loading is None
