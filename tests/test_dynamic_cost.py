"""What attention costs in arrays: tokens written, matrices read, room for the context, and wear.

The oracles are plain loops over sequences, heads, tiles and tokens.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.costs import digital_macro_cost, macro_cost
from pim.costs import dynamic_cost as module
from pim.costs.costing import cost
from pim.costs.dynamic_cost import dynamic_cost, dynamic_notes, sizes_of, standing_power, written_token
from pim.costs.ledger import Ledger
from pim.costs.lifetime import kv_lifetime
from pim.costs.matrix_writing import Shape, written
from pim.costs.operands import uniform_operands
from pim.costs.plan_cost import PlanCost
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.cell_facts import CellFacts
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.cells.write_verify import WriteVerify
from pim.devices.converters.dac import MultibitDAC
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import cast
from pim.devices.writing import cell_writing
from pim.errors import StudyError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, products
from pim.mapping.plan import place
from pim.mapping.system import System

CONFIG = llama_config(100, 48, 96, 2, 6, 2, 8, max_position_embeddings=4096)
DIM, HEADS, GROUP = 8, 2, 3
DEVICES = ("rram-wan2022", "sram-digital28")
UNIT = preset("digital-28nm")
ENERGY, TIME = 2e-12, 3e-9


def facts(**known: float) -> CellFacts:
    return cast(CellFacts(**({"write_energy": ENERGY, "write_latency": TIME, "endurance": 1000.0} | known)))


def device(model: Any) -> Device:
    return Device("made", "test", "for tests", model, {}, {})


def arrays(encoding: str = "differential", told: CellFacts | None = None, **fields: Any) -> Device:
    """Arrays of 4 word lines and 12 columns, without converters: writing a cell takes 2 pJ and 3 ns."""
    base = AnalogMacro(
        rows=4,
        columns=12,
        slices=1,
        encoding=encoding,
        weight_scale="column",
        input_range="calibrated",
        v_read=0.2,  # type: ignore[arg-type]
        t_read=1e-8,  # type: ignore[arg-type]
        vdd=0.9,  # type: ignore[arg-type]
        cell=Cell(0.0, 4e-5, 1e-13),  # type: ignore[arg-type]
        dac=MultibitDAC(8.0, 99.9, 5e-14, 2e-10),  # type: ignore[arg-type]
    )
    macro = cast(replace(base, **fields))
    return device(replace(macro, cell=replace(macro.cell, facts=told or facts())))  # which `cast` leaves out


def at(context: Any, batch: Any = 1, tokens: Any = 1) -> Phase:
    return Phase(batch=batch, tokens=tokens, context=context)


def attention(phase: Phase) -> list[Product]:
    """The products with keys and with values of a layer."""
    return [p for p in products(CONFIG, phase) if p.path.startswith("layers.0.") and p.path.endswith(DYNAMIC)]


def each(found: Device, phase: Phase) -> list[Ledger]:
    """The ledgers of both at one point."""
    return [dynamic_cost(found, product).at((0, 0)) for product in attention(phase)]


def row(ledger: Ledger, component: str, figure: str = "energy") -> np.ndarray:
    return np.asarray(getattr(ledger, figure), np.float64)[ledger.components.index(component)]


# Against plain loops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEVICES)
def test_a_step_is_a_write_and_a_read_of_every_head(name):
    """Against loops over sequences and heads, each with a matrix of its own."""
    found = preset(name)
    costs = macro_cost if name.startswith("rram") else digital_macro_cost
    for product in attention(at(130, batch=3)):
        keys = product.path.endswith("qk")
        energy = area = latency = power = 0.0
        for _ in range(3 * HEADS):
            shape = (DIM, 130) if keys else (130, DIM)
            read = costs.matrix_cost(found.model, *shape, GROUP).without("leakage")
            one = written(found, Shape(*((8.0, 1.0) if keys else (1.0, 8.0)), 1.0))
            energy += float(read.energy.sum()) + float(one.energy)
            area += float(read.area.sum())
            latency = float(read.latency.sum()) + float(one.time)
            power += float(costs.leakage_power(found.model, *shape))
        ledger = dynamic_cost(found, product, 1)
        assert float(ledger.energy.sum()) == pytest.approx(energy, rel=1e-5)
        assert float(ledger.area.sum()) == pytest.approx(area, rel=1e-5)
        assert float(ledger.latency.sum()) == pytest.approx(latency, rel=1e-5)
        assert float(standing_power(found, product, 1)[0]) == pytest.approx(power, rel=1e-5) and power > 0


@pytest.mark.parametrize("context", [1, 4, 6, 7, 23])
def test_reading_is_a_sum_over_tiles(context):
    found, batch = arrays(), 2
    macro = found.model
    seen = uniform_operands(macro)
    of_a_cell = float(macro.t_read * macro.v_read**2 * seen.u2 * seen.g)
    of_a_line = float(macro.dac.energy(macro.vdd, seen.active))
    shapes = ((DIM, context), (context, DIM))
    for ledger, (n_in, n_out) in zip(each(found, at(context, batch)), shapes, strict=True):
        cells = lines = area = 0.0
        for _sequence_and_head in range(batch * HEADS):
            for top in range(0, n_in, 4):
                for left in range(0, n_out, 6):
                    area += 4 * 12 * float(macro.cell.area)
                    for _query in range(GROUP):
                        rows = min(4, n_in - top)
                        cells += rows * 2 * min(6, n_out - left) * of_a_cell
                        lines += rows * of_a_line
        assert row(ledger, "cells") == pytest.approx(cells, rel=1e-5)
        assert row(ledger, "dac") == pytest.approx(lines, rel=1e-5)
        assert row(ledger, "cells", "area") == pytest.approx(area, rel=1e-5)
        assert row(ledger, "cells", "latency") == pytest.approx(GROUP * 1e-8, rel=1e-5)  # side by side


@pytest.mark.parametrize(("encoding", "cells"), [("differential", 2), ("offset_reference", 1), ("offset", 1)])
def test_writing_is_a_loop_over_new_tokens(encoding, cells):
    batch, tokens = 2, 7
    keys, values = each(arrays(encoding), at(20, batch, tokens))
    energy = 0.0
    for _sequence_and_head in range(batch * HEADS):
        for _token in range(tokens):
            for _number in range(DIM):
                energy += cells * ENERGY  # reference columns stay as they are
    assert row(keys, "write") == pytest.approx(energy, rel=1e-5)
    assert row(values, "write") == pytest.approx(energy, rel=1e-5)
    for ledger, lines in ((keys, DIM), (values, tokens)):  # in turn, those of an array of four
        assert row(ledger, "write", "latency") == pytest.approx(min(lines, 4) * TIME, rel=1e-5)


def test_a_key_is_a_column_and_a_value_a_row():
    """Cells of a word line are written at once, word lines in turn: a key takes as many times as a head is wide."""
    keys, values = attention(at(10))
    one = [written_token(preset("rram-wan2022"), sizes_of(product)) for product in (keys, values)]
    assert one[0].cells == one[1].cells and one[0].energy == pytest.approx(one[1].energy)
    assert one[0].time == pytest.approx(8 * one[1].time)
    macro = preset("sram-digital28").model
    for ledger, cycles in zip(each(preset("sram-digital28"), at(100)), (DIM, 1), strict=True):
        assert row(ledger, "write", "latency") == pytest.approx(cycles / float(macro.frequency()), rel=1e-5)


def test_cells_with_write_verify_wait_for_the_slowest_of_a_word_line():
    law = WriteVerify(
        attempt=GaussianWriteError(Polynomial(np.array([1.0])), 2e-6, 1e-6),  # type: ignore[arg-type]
        window=Polynomial(np.array([1.0])),  # type: ignore[arg-type]
        window_unit=1e-6,  # type: ignore[arg-type]
        g_reference=1e-6,  # type: ignore[arg-type]
        max_pulses=30,
        pulse_width=1e-6,  # type: ignore[arg-type]
        pulse_energy=1e-12,  # type: ignore[arg-type]
        verify_time=5e-7,  # type: ignore[arg-type]
        verify_energy=1e-13,  # type: ignore[arg-type]
    )
    found = arrays(cell=Cell(1e-6, 4e-5, 1e-13, write_error=law))  # type: ignore[arg-type]
    report = cell_writing(found.model.cell)
    assert report.mean is not None and report.mean > 1 and report.time and report.energy
    keys, values = each(found, at(9))
    for ledger, cells, lines in ((keys, 2, 4), (values, 2 * 4, 1)):  # the eight numbers of a value lie in two arrays
        line = report.for_cells(cells, parallel=cells).time
        assert line is not None and line > report.time
        assert row(ledger, "write", "latency") == pytest.approx(lines * line, rel=1e-5)
        assert row(ledger, "write") == pytest.approx(HEADS * DIM * 2 * report.energy, rel=1e-5)


# Conservation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_tokens_one_by_one_are_written_as_often_as_a_prompt(encoding):
    found, tokens = arrays(encoding), 37
    steps, prompt = attention(at(np.arange(1, tokens + 1), 2)), attention(at(tokens, 2, tokens))
    for step, whole in zip(steps, prompt, strict=True):
        written_in_turn = row(dynamic_cost(found, step, tokens), "write").sum()
        assert np.sum(step.written * np.ones(tokens)) == whole.written == whole.held
        assert written_in_turn == pytest.approx(float(row(dynamic_cost(found, whole), "write").sum()), rel=1e-5)
        assert written_in_turn == pytest.approx(
            whole.held * ENERGY * (2 if encoding == "differential" else 1), rel=1e-5
        )


def test_area_is_that_of_what_is_kept_and_energy_of_what_is_seen():
    """The mean token of a causal prompt sees half of what is kept; that stands there whole, as for the last token."""
    found = arrays()
    for prompt, last in zip(each(found, at(24, 1, 24)), each(found, at(24)), strict=True):
        np.testing.assert_allclose(prompt.area, last.area, rtol=1e-6)
        assert row(prompt, "cells") < 24 * row(last, "cells")
    keys, _ = each(found, at(24, 1, 24))
    seen = macro_cost.matrix_cost(found.model, DIM, 13, 24 * GROUP)  # the mean of 1 to 24 is 12.5
    assert row(keys, "cells") == pytest.approx(HEADS * float(row(seen, "cells")), rel=1e-5)


def test_a_window_is_read_and_kept_and_no_more():
    windowed = replace(CONFIG, attention=replace(CONFIG.attention, windows=(16, None)))
    near, far = (
        [dynamic_cost(arrays(), p) for p in products(windowed, at(context)) if p.dynamic] for context in (16, 1000)
    )
    for i, (one, other) in enumerate(zip(near, far, strict=True)):
        assert (float(one.energy.sum()) == float(other.energy.sum())) == (i < 2)  # of the first layer
        assert (float(one.area.sum()) == float(other.area.sum())) == (i < 2)


# Arrays of points ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEVICES)
def test_many_points_are_one_call(name):
    batch, context, tokens = np.array([1, 2, 5, 9]), np.array([3, 64, 65, 900]), np.array([1, 1, 3, 20])
    for i, product in enumerate(attention(at(context, batch, tokens))):
        many, power = dynamic_cost(preset(name), product, 4), standing_power(preset(name), product, 4)
        assert many.energy.shape[1:] == (1, 4) and power.shape == (4,)
        for j in range(4):
            one = attention(at(int(context[j]), int(batch[j]), int(tokens[j])))[i]
            single = dynamic_cost(preset(name), one, 1)
            for figure in ("energy", "latency", "area"):
                np.testing.assert_allclose(getattr(many, figure)[:, 0, j], getattr(single, figure)[:, 0, 0], rtol=1e-5)
            np.testing.assert_allclose(power[j], standing_power(preset(name), one)[0], rtol=1e-5)


def test_one_compilation_serves_many_calls_and_devices():
    compiled: tuple[Any, Any] = (module._priced, module._standing)

    def priced(context: Any, points: int = 1, **fields: Any) -> None:
        for product in attention(at(context, 4)):
            dynamic_cost(arrays(**fields), product, points)
            standing_power(arrays(**fields), product, points)

    priced(3)
    before = [each._cache_size() for each in compiled]
    for context, points in ((1, 1), (9, 100), (np.arange(1, 99), 98), (np.arange(1, 7), 6)):
        for v_read, energy in ((0.1, 1e-12), (0.3, 5e-12)):
            priced(context, points, v_read=v_read, told=facts(write_energy=energy))
    assert [each._cache_size() for each in compiled] == before


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 64))
def test_more_tokens_behind_never_cost_less(context, more, batch):
    for product in attention(at(np.array([context, context + more]), batch)):
        ledger = dynamic_cost(arrays(), product, 2)
        for figure in ("energy", "latency", "area"):
            values = np.asarray(getattr(ledger, figure))[:, 0]
            assert (values[:, 1] >= values[:, 0] * (1 - 1e-6)).all()


# Unknown -------------------------------------------------------------------------------------------------------------


def test_what_writing_takes_is_not_nothing_where_it_is_not_known():
    found = preset("rram-techC")  # nobody gives an energy and a time of writing
    for product, ledger in zip(attention(at(10)), each(found, at(10)), strict=True):
        assert np.isnan(row(ledger, "write")) and np.isnan(row(ledger, "write", "latency"))
        assert np.isnan(ledger.energy.sum()) and "unknown" in str(ledger)
        assert np.isfinite(ledger.without("write").energy).all()  # reading is known
        assert any("unknown" in note for note in dynamic_notes(found, product))


def test_slopes_pass_through_what_is_read():
    """Facts of cells are no values that can be traced: what writing takes is unknown there."""
    found = arrays()
    keys, _ = attention(at(50))

    def energies(macro: AnalogMacro) -> dict[str, jax.Array]:
        ledger = dynamic_cost(device(macro), keys)
        return {name: ledger.energy[i, 0, 0] for i, name in enumerate(ledger.components)}

    slope = jax.grad(lambda macro: energies(macro)["cells"])(found.model).v_read
    assert float(slope) == pytest.approx(2 * float(energies(found.model)["cells"]) / 0.2, rel=1e-4)
    assert np.isnan(jax.jit(energies)(found.model)["write"])


def test_notes_say_what_is_assumed():
    keys, values = attention(at(100))
    told = dynamic_notes(preset("rram-wan2022"), keys)
    assert any("word line by word line" in note for note in told)
    assert any("one word line" in note for note in dynamic_notes(preset("rram-wan2022"), values))
    assert any("8.52 pulses" in note for note in told)  # where a figure comes from
    assert not any("rounded up" in note for note in told)
    assert any("rounded up" in note for note in dynamic_notes(preset("rram-wan2022"), attention(at(10, 1, 10))[0]))
    fading = dynamic_notes(preset("gaincell-leroux2025"), keys)
    assert any("refreshing is not counted" in note and "6.25 s" in note for note in fading)
    assert any("their queries" in note and "bits toggle" in note for note in dynamic_notes(preset(DEVICES[1]), keys))


def test_bad_requests_are_refused(unchecked):
    static, (keys, _) = products(CONFIG, at(4))[0], attention(at(4))
    calls: list[tuple[Any, str]] = [
        (lambda: dynamic_cost(arrays(), static), "matrix of weights"),
        (lambda: standing_power(arrays(), static), "matrix of weights"),
        (lambda: dynamic_cost(arrays(cell=Cell(0.0, 4e-5)), keys), "cell.area is unknown"),  # type: ignore[arg-type]
        (lambda: kv_lifetime(arrays(), 0.0, 8), "positive number"),
        (lambda: kv_lifetime(arrays(), 1e3, 0), "at least one position"),
    ]
    for call, message in calls:
        with pytest.raises((StudyError, DeviceError), match=message):
            call()


# Wear ----------------------------------------------------------------------------------------------------------------


def test_writing_is_most_of_attention_on_reram_and_wears_it_out():
    found, wide = preset("rram-wan2022"), llama_config(32000, 4096, 11008, 1, 32, 32, 128)
    for product in (p for p in products(wide, at(2048)) if p.dynamic):
        ledger = dynamic_cost(found, product).at((0, 0))
        assert row(ledger, "write") > 0.5 * float(ledger.energy.sum())
        assert row(ledger, "write", "latency") > 0.9 * float(ledger.latency.sum())
    life = kv_lifetime(found, 1e4, 2048)
    assert life.seconds == pytest.approx(1e4 * 2048 / 1e4)  # 1e4 writes of each of 2048 slots, 1e4 a second
    assert "34.1 minutes" in str(life)


def test_a_slot_is_written_once_around_the_ring():
    slots, endurance, period = 5, 7, 1e-3
    found = arrays(told=facts(endurance=float(endurance)))
    writes, steps = [0] * slots, 0
    while writes[steps % slots] < endurance:
        writes[steps % slots] += 1
        steps += 1
    assert kv_lifetime(found, 1 / period, slots).seconds == pytest.approx(steps * period)


def test_sram_never_wears_out():
    life = kv_lifetime(preset("sram-digital28"), 1e6, 64)
    assert life.seconds == np.inf and "without end" in str(life)
    fragile = device(replace(preset("sram-digital28").model, facts=facts(endurance=10.0)))
    assert kv_lifetime(fragile, 1.0, 64).seconds == 640.0


def test_weights_come_with_their_reference_columns():
    weights, keys = (written(arrays("offset"), Shape(8.0, 12.0, 1.0, activations=kept)) for kept in (False, True))
    assert (weights.cells, keys.cells) == (8 * (12 + 2), 8 * 12)  # 11 fit beside a reference
    assert any("come as 8 bits" in note for note in weights.notes)
    assert not any("come as 8 bits" in note for note in keys.notes)


# In plans ------------------------------------------------------------------------------------------------------------


@cache
def on(name: str) -> PlanCost:
    system = System({"arrays": preset(name), "digital": UNIT}, [("head", "digital")])
    return cost(place(CONFIG, system), prompt=1000, generate=1000)


def test_keys_and_values_wear_out_resistive_cells_in_less_than_a_day():
    """Not so those of SRAM; matrices of weights are written once. Two layers are soon through a token."""
    run = on("rram-wan2022")
    life = run.lifetimes()["arrays"]
    writes = float(preset("rram-wan2022")["cell.facts.endurance"])
    assert life.seconds == pytest.approx(writes * 2000 * run.decode_latency)
    assert life.seconds is not None and 0.5 < life.seconds / 3600 < 24
    assert "life of keys and values in arrays" in str(run) and run.to_dict()["kv_lifetime"]["arrays"] == life.seconds
    assert on("sram-digital28").lifetimes() == {}
    write = run.decode.ledger.by_component()
    attention_energy = run.decode.ledger.by_operator()
    whole = sum(float(attention_energy.energy[attention_energy.operators.index(name)]) for name in DYNAMIC)
    assert float(write.energy[write.components.index("write")]) > 0.5 * whole, "writing is most of attention"


def test_the_run_holds_the_rows_of_attention():
    run = on("sram-digital28")
    operators = set(run.decode.ledger.operators)
    assert {f"layers.{i}.{name}" for i in (0, 1) for name in DYNAMIC} <= operators
    assert float(run.decode.energy) == pytest.approx(sum(map(float, run.decode.ledger.energy)), rel=1e-5)
