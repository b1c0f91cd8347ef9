"""Elasticities are those of repriced devices, and a call over configurations prices what single calls do."""

import json
import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pim
from pim.cli import main
from pim.costs import configurations
from pim.costs.configurations import continuous, with_leaves
from pim.costs.costing import cost
from pim.costs.elasticities import sensitivity
from pim.costs.ledger import FIGURES, Cost
from pim.costs.subject import Subject, product_ledger
from pim.devices.catalogue import preset
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import check, prepare, replace_at
from pim.errors import StudyError

SHAPE = (600, 300)


# Sensitivity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", ["rram-techC", "sram-digital28", "digital-28nm"])
def test_elasticities_are_those_of_repriced_devices(name, figure):
    device = preset(name)
    found = sensitivity(cost(device, SHAPE, vectors=3), figure)
    checked = 0
    for row in found.rows[:5]:
        if row.field.startswith("operands.") or np.ndim(row.value) or "columns_per_adc" in row.field:
            continue  # converters come in whole numbers: between two of them nothing changes
        ends = row.value * np.array([0.998, 1.002])
        low, high = np.asarray(getattr(cost(device, SHAPE, vectors=3, over={row.field: ends}), figure), float)
        assert row.elasticity == pytest.approx(np.log(high / low) / np.log(1.002 / 0.998), rel=0.02, abs=0.01), row
        checked += 1
    assert checked >= 1
    assert [abs(row.elasticity) for row in found.rows] == sorted((abs(r.elasticity) for r in found.rows), reverse=True)


def test_rows_say_what_is_known_of_a_value():
    device = pim.replace(preset("rram-techC"), {"adc.bits": 7})
    found = sensitivity(cost(device, (128, 128)), "area")
    row = next(row for row in found.rows if row.field == "adc.bits")
    assert (row.value, row.unit, row.grade, row.source) == (7.0, "1", "user", "user")
    assert len(sensitivity(cost(device, (128, 128)), "area", top=3).rows) == 3
    told = json.loads(json.dumps(found.to_dict()))
    assert told["figure"] == "area" and told["rows"][0]["field"] == found.rows[0].field
    text = str(found)
    assert "adc.bits" in text and "user" in text and "mm²" in text


def test_of_a_value_that_is_zero_the_derivative_is_given():
    device = preset("rram-techC")
    assert device["periphery.amplifier_area"] == 0
    found = sensitivity(cost(device, (128, 128)), "area")
    row = next(row for row in found.zeros if row.field == "periphery.amplifier_area")
    more = cost(pim.replace(device, {"periphery.amplifier_area": 1e-12}), (128, 128)).area
    assert row.elasticity is None
    assert row.derivative == pytest.approx(float(more - cost(device, (128, 128)).area) / 1e-12, rel=0.02)
    assert all(row.field != "periphery.amplifier_area" for row in found.rows)


def test_statistics_count_like_values_of_the_device():
    device = preset("rram-techC")
    measured = pim.program(jnp.ones((128, 128)), device, key=pim.root_key(0)).operands(jnp.ones((4, 128)))
    found = sensitivity(cost(device, (128, 128), operands=measured), "energy", top=100)
    row = next(row for row in found.rows if row.field == "operands.u2")
    more = cost(device, (128, 128), operands=replace(measured, u2=measured.u2 * 0.99)).energy
    base = cost(device, (128, 128), operands=measured).energy
    assert row.elasticity == pytest.approx(float(base / more - 1) / 0.01, rel=0.05)
    assert row.grade == "given" and row.source == "measured on inputs"
    assert all(not row.field.startswith("cell.g_") for row in found.rows)  # given statistics hold still


def test_what_a_cost_is_of_stays_with_it_and_what_cannot_be_asked_is_said():
    device = preset("rram-techC")
    found = cost(device, (128, 128))
    assert isinstance(found.subject, Subject) and found.subject.device is device
    with pytest.raises(StudyError, match="points"):
        sensitivity(cost(device, (np.array([64, 128]), 128)))
    with pytest.raises(StudyError, match="none of energy"):
        sensitivity(found, "power")
    with pytest.raises(StudyError, match="number of rows"):
        sensitivity(found, top=0)
    with pytest.raises(StudyError, match="zero"):
        sensitivity(cost(preset("ideal"), (128, 128)))
    with pytest.raises(StudyError, match="unknown"):
        sensitivity(cost(preset("npu-int8"), (128, 128)), "area")
    with pytest.raises(StudyError, match="what it is the cost of"):
        sensitivity(Cost(found.ledger, ()))


def test_of_a_plan_the_devices_count_side_by_side():
    system = pim.inference_system(preset("rram-techC"), preset("digital-28nm"))
    plan = pim.place(pim.load_model("tiny-stories"), system)
    run = cost(plan, prompt=8, generate=4)
    found = sensitivity(run, "latency")
    assert found.total == pytest.approx(run.latency, rel=1e-5)
    names = {row.field.partition(".")[0] for row in found.rows}
    assert names <= set(system.devices) and found.rows[0].grade
    row = next(row for row in found.rows if row.field.endswith("adc.bits"))
    ends = [cost(plan.replace({row.field: row.value * by}), prompt=8, generate=4).latency for by in (0.998, 1.002)]
    assert row.elasticity == pytest.approx(np.log(ends[1] / ends[0]) / np.log(1.002 / 0.998), rel=0.02)
    with pytest.raises(StudyError, match="resident"):
        sensitivity(cost(plan, prompt=8, generate=4, weights="streamed"))


def test_the_command_line_prints_the_table(capsys):
    assert main(["cost", "rram-techC", "128", "128", "--sensitivity", "latency"]) == 0
    out = capsys.readouterr().out
    assert "adc.bits" in out and "d ln(latency) / d ln(value)" in out and "total" in out
    assert main(["cost", "rram-techC", "128", "128", "--sensitivity", "latency", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["latency"] > 0 and told["sensitivity"]["rows"][0]["grade"]


# Many configurations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,over",
    [
        ("rram-techC", {"adc.bits": [4.0, 6.0, 8.0], "vdd": [0.8, 0.9, 1.0]}),
        ("rram-techC", {"dac.bits": [2.0, 8.0, 2.0], "cell.g_max": [2e-5, 3e-5, 2e-5], "t_read": [1e-9, 2e-9, 3e-9]}),
        ("sram-sinangil2021", {"dac.bits": [2.0, 3.0, 4.0], "vdd": [0.8, 0.9, 1.0]}),
        ("sram-digital28", {"input_bits": [4.0, 8.0, 6.0], "input_toggle": [0.1, 0.2, 0.3]}),
        ("digital-28nm", {"buffer.bytes": [1e5, 1e6, 1e7]}),
        ("dram-aim", {"energy.cell": [1e-13, 2e-13, 3e-13]}),
        ("gpu-h100", {"compute_share": [0.2, 0.5, 1.0]}),
    ],
)
def test_one_call_prices_what_single_ones_do(name, over):
    device = preset(name)
    together = cost(device, SHAPE, vectors=2, over=over)
    for i in range(3):
        changes = {path: values[i] for path, values in over.items()}
        alone = cost(pim.replace(device, changes), SHAPE, vectors=2)
        assert together.ledger.components == alone.ledger.components
        for figure in FIGURES:
            ours, single = (np.asarray(getattr(c, figure)) for c in (together.ledger.at(i), alone.ledger))
            np.testing.assert_allclose(ours, single, rtol=2e-6, err_msg=f"{figure} of {changes}")


def test_shapes_run_along_with_the_configurations():
    device, n_in = preset("rram-techC"), np.array([64, 600])
    together = cost(device, (n_in, 300), vectors=np.array([1, 5]), over={"vdd": [0.8, 1.0]})
    alone = [cost(pim.replace(device, {"vdd": v}), (n, 300), vectors=b) for v, n, b in ((0.8, 64, 1), (1.0, 600, 5))]
    np.testing.assert_allclose(np.asarray(together.energy), [float(c.energy) for c in alone], rtol=2e-6)
    assert together.notes[0].startswith("2 configurations, over vdd")


def test_given_statistics_serve_every_configuration():
    device = preset("rram-techC")
    operands = pim.program(jnp.ones((128, 128)), device, key=pim.root_key(0)).operands(jnp.ones((4, 128)))
    together = cost(device, (128, 128), operands=operands, over={"vdd": [0.8, 1.0]})
    alone = cost(pim.replace(device, {"vdd": 1.0}), (128, 128), operands=operands)
    assert float(together.energy[1]) == pytest.approx(float(alone.energy), rel=2e-6)
    assert "measured on inputs" in together.notes[1]


@pytest.mark.parametrize(
    "over,error,message",
    [
        ({"rows": [64, 128]}, DeviceError, "rows sets a structure.*vdd"),
        ({"adc.bit": [4.0]}, DeviceError, "did you mean adc.bits"),
        ({"adc.enob": [4.0]}, DeviceError, "adc.enob is absent"),
        ({"adc.bits": [4.0, 99.0]}, DeviceError, r"adc.bits = 99 is out of range"),
        ({"adc.bits": [4.0, float("nan")]}, DeviceError, "not finite"),
        ({"adc.bits": 4.0}, DeviceError, r"takes an array of the shape \(n\)"),
        ({"adc.bits": [4.0, 5.0], "vdd": [0.9]}, StudyError, "several lengths"),
        ({}, StudyError, "runs over nothing"),
    ],
)
def test_what_cannot_be_run_over_is_said(over, error, message):
    with pytest.raises(error, match=message):
        cost(preset("rram-techC"), (128, 128), over=over)


def test_a_supply_beyond_its_law_is_an_error():
    with pytest.raises(DeviceError, match=r"vdd = 0\.45 V"):
        cost(preset("sram-jia2020"), (128, 64), over={"vdd": [1.0, 0.45, 0.9]})


def test_a_structure_compiles_once():
    device = preset("rram-techC")
    cost(device, (128, 128), over={"vdd": [0.8, 0.9, 1.0, 1.1]})
    before = configurations._priced._cache_size()
    cost(pim.replace(device, {"adc.bits": 6}), (300, 77), vectors=9, over={"vdd": [1.0, 1.0, 0.9, 0.8]})
    assert configurations._priced._cache_size() == before


def test_costs_come_at_once():
    """An idle machine takes 1, 12 and 37 ms, and for as many single calls as configurations 500 s."""
    device, layer = preset("rram-techC"), (4096, 4096)
    rng = np.random.default_rng(0)
    over = {"adc.bits": rng.integers(4, 9, 100_000), "vdd": rng.uniform(0.8, 1.0, 100_000)}
    shapes = tuple(rng.integers(1, 16384, (2, 100_000)))
    calls = {
        "layer": lambda: cost(device, layer),
        "shapes": lambda: cost(device, shapes),
        "configurations": lambda: cost(device, layer, over=over),
    }
    taken = {}
    for name, call in calls.items():
        taken[name] = min(seconds(call) for _ in range(10))
    assert taken["layer"] < 0.010 and taken["shapes"] < 2 and taken["configurations"] < 2, taken
    assert taken["configurations"] < 100_000 * taken["layer"] / 100, taken


def seconds(call) -> float:
    start = time.perf_counter()
    found = call()
    jax.block_until_ready((found.energy, found.latency, found.area))
    return time.perf_counter() - start


# Gradients --------------------------------------------------------------------------------------------------------

PRICED = [row.name for row in pim.presets() if row.family != "ideal"]
QUICK = ("rram-techC", "sram-c2c22", "rram-isaac", "sram-colonnade", "digital-28nm", "dram-attacc", "gpu-h100")
"""Presets of different structures; the others take minutes to compile."""


@partial(jax.jit, static_argnames="figure")
def slopes(model, figure):
    """A figure and its gradient; of one alone, since that of a figure which is unknown is no number."""
    return jax.value_and_grad(lambda model: getattr(product_ledger(model, *SHAPE, 3), figure).sum())(model)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PRICED])
@settings(max_examples=8)
@given(data=st.data())
def test_gradients_are_finite_around_every_preset_zeros_included(name, data):
    device = preset(name)
    if isinstance(device.model, AnalogMacro) and device.model.cell.area is None:
        device = pim.replace(device, {"cell.area": 1e-13})
    model, leaves = device.model, continuous(device.model)
    known = [figure for figure in FIGURES if np.isfinite(float(slopes(model, figure)[0]))]
    zeros = [path for path in leaves if may_be_zero(model, path)]
    chosen = dict.fromkeys(data.draw(st.lists(st.sampled_from(zeros), unique=True, max_size=4)), 0.0)
    moved = data.draw(st.lists(st.sampled_from(sorted(leaves)), unique=True, max_size=8))
    chosen |= {path: data.draw(st.floats(0.5, 1.5)) for path in moved}
    for path, factor in chosen.items():
        model = if_it_may(with_leaves(model, {path: leaves[path] * jnp.float32(factor)}), model)
    assert known
    for figure in known:
        found, slope = slopes(model, figure)
        assert np.isfinite(float(found)), f"{figure} with factors {chosen}"
        bad = [path for path, value in continuous(slope).items() if not np.isfinite(np.asarray(value)).all()]
        assert not bad, f"{figure} by {bad} is not finite with factors {chosen}"


def test_gradients_are_finite_where_gates_and_cells_have_no_area():
    """The root of an area, the length of a wire, has no derivative there."""
    nothing = {"gates.area": 0.0, "gates.xor_area": 0.0, "gates.flip_flop_area": 0.0, "cell_area": 0.0}
    found, slope = slopes(pim.replace(preset("sram-colonnade"), nothing).model, "energy")
    assert np.isfinite(float(found)) and all(np.isfinite(np.asarray(v)).all() for v in continuous(slope).values())


def if_it_may(model, otherwise):
    """The model, if its values lie in their ranges and its laws hold there; else the other."""
    try:
        check(model, "drawn")
        prepare(model)
    except DeviceError:
        return otherwise
    return model


def may_be_zero(model, path) -> bool:
    found = []
    replace_at(model, path, lambda value, field: found.append(field.metadata) or value)
    return found[0]["low"] <= 0 <= found[0]["high"]
