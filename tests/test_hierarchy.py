"""Arrays pay their shares of what they share: a chip full of them pays for the chip, as ISAAC and PUMA tell it."""

import json
from dataclasses import replace
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pim
from pim.costs.ledger import Ledger
from pim.costs.macro_cost import leakage_power, matrix_cost
from pim.costs.operands import Operands
from pim.devices.catalogue import preset
from pim.devices.components.block import Block
from pim.devices.cost_factors import CostFactors
from pim.devices.device import replace as replaced
from pim.devices.errors import DeviceError
from pim.devices.hierarchy import Hierarchy, Level
from pim.devices.loader import load_device
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast, replace_at
from pim.devices.supply import SupplyPolynomial
from pim.llm_workloads.families.llama import llama_config
from pim.mapping.plan import place
from pim.mapping.system import inference_system

RATED = Operands(jnp.float32(1.0), jnp.float32(3.75e-4), jnp.float32(1.0), jnp.float32(0.5))
"""All word lines driven, cells half way: what the tables rate."""
FULL = (128, 16)
"""A matrix that fills one array of either chip."""
MILLI, MM2 = 1e-3, 1e-6

ALONE = preset("rram-techC").model
"""A macro without anything that its arrays share: 64 rows, 64 outputs."""
SMALL = cast(
    Hierarchy(
        core=Level(holds=4.0, registers=Block(power=2e-3, area=4e-9, leakage=0.4e-3)),
        chip=Level(holds=5.0, router=Block(power=10e-3, area=20e-9), links=Block(power=0.3, area=1e-6, leakage=0.02)),
    )
)
SHARES = {
    "core_registers": (2e-3 / 4, 4e-9 / 4),
    "chip_router": (10e-3 / 20, 20e-9 / 20),
    "chip_links": (0.3 / 20, 1e-6 / 20),
}
"""Power (W) and area (m^2) of one array's share of each block: four to a core, twenty to a chip."""
TOGETHER = replace(ALONE, hierarchy=SMALL)


def figures(ledger: Ledger) -> dict[str, tuple[float, float, float]]:
    rows = zip(ledger.energy, ledger.latency, ledger.area, strict=True)
    return {name: (float(e), float(t), float(a)) for name, (e, t, a) in zip(ledger.components, rows, strict=True)}


def steady(
    macro: AnalogMacro, arrays: float, level: str = "chip"
) -> tuple[float, float, dict[str, tuple[float, float]]]:
    """Power (W) and area (m^2) of so many full arrays that never rest, with what stands around them up to a level.

    And those of each component: what one more vector adds, over the time it adds.
    """
    names = ("core", "tile", "cluster", "chip")
    for outer in names[names.index(level) + 1 :]:
        macro = replace_at(macro, f"hierarchy.{outer}", lambda *_: None)
    one, two = (matrix_cost(macro, *FULL, vectors, RATED) for vectors in (1, 2))
    time = float(jnp.sum(two.latency - one.latency))
    power, area = (two.energy - one.energy) / time * arrays, one.area * arrays
    each = {name: (float(p), float(a)) for name, p, a in zip(one.components, power, area, strict=True)}
    return float(power.sum()), float(area.sum()), each


def test_an_array_pays_its_share_of_each_block():
    """128 rows are two tiles of 64, 100 outputs two arrays side by side: four arrays."""
    n_in, n_out, arrays = 128, 100, 4
    alone, together = matrix_cost(ALONE, n_in, n_out, 3), matrix_cost(TOGETHER, n_in, n_out, 3)
    rows, before = figures(together), figures(alone)
    time = float(alone.latency.sum())
    assert set(rows) - set(before) == set(SHARES)
    for name, (power, area) in SHARES.items():
        assert rows[name] == pytest.approx((power * time * arrays, 0.0, area * arrays), rel=1e-6)
    leakage = (0.4e-3 / 4 + 0.02 / 20) * arrays * float(ALONE.environment.leakage(ALONE.vdd))
    assert rows["leakage"][0] == pytest.approx(before["leakage"][0] + leakage * time, rel=1e-6)
    assert {name: row for name, row in rows.items() if name in before and name != "leakage"} == {
        name: row for name, row in before.items() if name != "leakage"
    }
    assert float(leakage_power(TOGETHER, n_in, n_out) - leakage_power(ALONE, n_in, n_out)) == pytest.approx(
        leakage, rel=1e-5
    )


def test_a_full_chip_pays_for_its_blocks_once():
    """20 arrays: five cores with registers each, one router, one set of links."""
    hierarchy = SMALL
    assert float(hierarchy.arrays()) == 20
    assert [(shared.name, float(shared.arrays)) for shared in hierarchy.shared()] == [
        ("core_registers", 4.0),
        ("chip_router", 20.0),
        ("chip_links", 20.0),
    ]
    extra = pim.cost(TOGETHER, (64, 64), vectors=2).area - pim.cost(ALONE, (64, 64), vectors=2).area
    assert any("share of what 20 arrays have in common" in note for note in pim.cost(TOGETHER, (64, 64)).notes)
    assert float(extra) * 20 == pytest.approx(5 * 4e-9 + 20e-9 + 1e-6, rel=1e-4)
    assert float(cast(Hierarchy()).arrays()) == 1.0


def test_more_tiles_make_the_share_of_the_links_smaller_and_nothing_else():
    changed = replaced(preset("rram-isaac"), {"hierarchy.chip.holds": 84}).model
    before, after = (figures(matrix_cost(macro, *FULL)) for macro in (preset("rram-isaac").model, changed))
    energy, time, area = before.pop("chip_links")
    assert after.pop("chip_links") == pytest.approx((energy / 2, time, area / 2))
    assert after == before


def test_factors_and_supply_are_on_shares_too():
    factors = cast(CostFactors(energy=2.0, latency=3.0, area=5.0))
    plain, scaled = (figures(matrix_cost(replace(TOGETHER, cost_factors=f), 64, 64)) for f in (None, factors))
    for name in SHARES:
        np.testing.assert_allclose(scaled[name], np.array([2.0, 1.0, 5.0]) * plain[name], rtol=1e-6)
    square, line = np.array([0.0, 0.0, 1.0]), np.array([1.8, -1.0, 0.0, 0.0])  # E ~ V^2, t ~ 1.8 - V
    law = cast(SupplyPolynomial(0.9, square, line, 0.5, 1.2))  # type: ignore[arg-type]
    low = replace(TOGETHER, supply=law, vdd=jnp.float32(0.72))
    slower, less = 1.08 / 0.9, 0.64
    assert float(law.delay(0.72)) == pytest.approx(slower)
    lowered = figures(matrix_cost(low, 64, 64))
    time = sum(row[1] for row in lowered.values())
    assert lowered["chip_links"][0] == pytest.approx(0.3 / 20 * time * less / slower, rel=1e-5)


def test_shapes_in_one_call_and_gradients():
    n_in = np.array([64, 100, 4096])
    swept = matrix_cost(TOGETHER, n_in, 64, 2)
    for i, size in enumerate(n_in):
        single = matrix_cost(TOGETHER, int(size), 64, 2)
        np.testing.assert_allclose(swept.at(i).energy, single.energy, rtol=1e-6)
        np.testing.assert_allclose(single.total().energy[0], sum(e for e, _, _ in figures(single).values()), rtol=1e-6)
    for macro in (TOGETHER, preset("rram-isaac").model, preset("rram-puma").model):
        slopes = jax.grad(lambda macro: matrix_cost(macro, 256, 64, 2, RATED).energy.sum())(macro)
        assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    slope = jax.grad(lambda macro: matrix_cost(macro, 64, 64).energy.sum())(TOGETHER)
    time = float(matrix_cost(TOGETHER, 64, 64).latency.sum())
    assert float(slope.hierarchy.chip.links.power) == pytest.approx(time / 20, rel=1e-5)
    shares = sum(power for power, _ in SHARES.values()) + float(leaking(TOGETHER) - leaking(ALONE))
    assert float(slope.hierarchy.core.holds) == pytest.approx(-shares * time / 4, rel=1e-4)


def leaking(macro: AnalogMacro) -> Any:
    """Static power (W) of one array."""
    return leakage_power(macro, 64, 64)


def rows_of(ledger: Ledger) -> list[tuple[str, str, float, float]]:
    """Operator, component, energy and area of each row."""
    columns = (np.asarray(ledger.energy, np.float64), np.asarray(ledger.area, np.float64))
    return list(zip(ledger.operators, ledger.components, *columns, strict=True))


def test_a_plan_charges_shares_while_arrays_work_and_their_leakage_all_the_time():
    config = llama_config(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
    )  # fmt: skip
    plans = [
        place(config, inference_system(replaced(preset("rram-techC"), {"hierarchy": chip}), preset("digital-28nm")))
        for chip in (None, SMALL)
    ]
    alone, together = (pim.cost(plan, prompt=4, generate=3).decode for plan in plans)
    assert float(together.latency) == pytest.approx(float(alone.latency))
    ledger, arrays = together.ledger, 0.0
    rows = rows_of(ledger)
    busy = {operator: float(ledger.latency[np.array(ledger.operators) == operator].sum()) for operator, *_ in rows}
    for operator, component, energy, area in rows:
        if component == "chip_router":
            power, of_one = SHARES[component]
            assert energy == pytest.approx(power * area / of_one * busy[operator], rel=1e-4)
            arrays += area / of_one
    assert arrays == pytest.approx(7, rel=1e-5)  # q, k, v, o, gate, up, down, one array each
    resting = [sum(e for _, c, e, _ in of_rows if c == "leakage") for of_rows in (rows, rows_of(alone.ledger))]
    leakage = float(leaking(TOGETHER) - leaking(ALONE)) * arrays
    assert resting[0] - resting[1] == pytest.approx(leakage * float(together.latency), rel=1e-3)


# Published architectures ----------------------------------------------------------------------------------------


def test_isaac_adds_up_to_its_table(shared):
    """Totals of the golden table, in mW and mm^2, from the lines of the preset."""
    table = json.loads((shared / "golden" / "component_tables.json").read_text())["components"][
        "isaac_tile_32nm_1p2GHz"
    ]
    macro = preset("rram-isaac").model
    assert float(macro.hierarchy.arrays()) == 168 * 12 * 8
    power, area, each = steady(macro, 8, "core")
    totals = table["ima"]["TOTAL one IMA"]
    assert (power / MILLI, area / MM2) == pytest.approx(totals, rel=3e-3)
    lines = {
        "adc": "ADC 8b 1.28GS/s x8", "dac": "DAC 1b x 8x128", "sample_hold": "S+H 8x128",
        "cells": "array 8x 128x128 2b/cell",
    }  # fmt: skip
    for component, line in lines.items():
        assert (each[component][0] / MILLI, each[component][1] / MM2) == pytest.approx(table["ima"][line], rel=0.025), (
            line
        )
    registers = np.add(table["ima"]["IR 2KB"], table["ima"]["OR 256B"])
    assert (each["core_registers"][0] / MILLI, each["core_registers"][1] / MM2) == pytest.approx(registers, rel=1e-3)
    assert each["adc"][0] / power == pytest.approx(0.66, abs=0.01)
    assert each["adc"][1] / area == pytest.approx(0.73, abs=0.01)
    for level, arrays, totals in (("cluster", 96, table["chip"]["tile"]), ("chip", 16128, table["chip"]["chip"])):
        power, area, _ = steady(macro, arrays, level)
        assert (power / MILLI, area / MM2) == pytest.approx(totals, rel=3e-3), level


def test_isaacs_rate_is_that_of_its_samples():
    """128 columns at 1.28 GS/s are the 100 ns of a read: a sample is a conversion, no cycle of one."""
    macro = preset("rram-isaac").model
    assert float(macro.adc.cost.latency(8.0, 128) * 128) == pytest.approx(100e-9)
    assert float(macro.adc.cost.energy(8.0, 0.9, 0.5)) == pytest.approx(1.5625e-12)
    peak = pim.peak(preset("rram-isaac"))
    assert float(peak.rate) == pytest.approx(2.56e9, rel=1e-4)
    one = pim.cost(preset("rram-isaac"), FULL)
    assert float(one.latency) == pytest.approx(16 * 100e-9 + 100e-9 + 0.83e-9, rel=1e-4)  # the last bit's conversion
    density = 16128 * float(peak.rate) / (16128 * float(peak.area))
    assert density == pytest.approx(4.79e17, rel=0.1)


def test_puma_adds_up_from_the_simulators_constants():
    """Powers (dynamic and static) and areas as the simulator itself adds them up: core, tile, chip; mW and mm^2."""
    root8 = sqrt(8.0)
    core = np.array([
        16 * 0.3, 256 * (0.00350625 + 0.000390625), 16 * (1.8 + 0.2), 2048 * 9.7e-6, 16 * 0.05,  # the matrix units
        2 * (0.16 + 1.7 / 128 + 0.04), 2 * (0.16 + 0.04), 0.33 + 0.147,  # input, output and data memory
        (0.46 + 0.078) * root8, 1.25 * 0.2, (2.4 + 0.27) * 32 / 45, 0.26,  # instructions, control, arithmetic, sigmoid
    ]).sum()  # fmt: skip
    tile = 8 * core + sum([
        8.6 + 0.46, 8.96 + 0.18, (0.325 + 0.165) * root8, 3 + 0.5, 0.475 + 0.05, (0.65 + 0.33) * root8, 0.25 * 0.2,
    ])  # fmt: skip
    chip = 168 * (tile + (16.13 + 0.41) / 4) + 10400.0
    core_area = sum([
        16 * 2.5e-5, 256 * 1.67e-7, 16 * 0.0012, 0.00004 / 8 / 128 * 2048, 16 * 6e-5,
        4 * 0.00078, 0.00192, 0.00108 * root8, 0.00145 * 2.25, 0.00567 * 32 / 45, 0.0003,
    ])  # fmt: skip
    tile_area = 8 * core_area + sum([0.086, 0.0022 * 2, 0.0041 * root8, 0.090, 0.00145, 0.0041 * root8, 0.00145])
    chip_area = 168 * (tile_area + 0.047 / 4) + 22.88
    macro = preset("rram-puma").model
    assert float(macro.hierarchy.arrays()) == 168 * 8 * 16
    for level, arrays, power, area in (
        ("core", 16, core, core_area),
        ("tile", 128, tile, tile_area),
        ("chip", 21504, chip, chip_area),
    ):
        ours = steady(macro, arrays, level)
        assert (ours[0] / MILLI, ours[1] / MM2) == pytest.approx((power, area), rel=3e-3), level


def test_pumas_peak_is_within_fifteen_percent():
    """577 GOPS/mm^2 and 837 GOPS/W: products alone, of all 168 tiles, one bit of the inputs each 100 ns."""
    peak = pim.peak(preset("rram-puma"), operands=RATED)
    assert float(peak.density) == pytest.approx(5.77e17, rel=0.15)
    assert float(peak.efficiency) == pytest.approx(8.37e11, rel=0.15)
    for chip in ("isaac", "puma"):
        found = pim.validate(chip, progress=False)
        assert found.predicted and all(row.within for row in found.predicted)
        assert not found.unexplained


@pytest.mark.parametrize("name", [pytest.param("rram-isaac", marks=pytest.mark.slow), "rram-puma"])
def test_eight_bits_hold_the_sums_of_two_bit_digits(name):
    """16-bit weights and inputs come out to the rounding of 16 bits, and no sum clips."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(200, 20)).astype(np.float32)
    x = rng.normal(size=(16, 200)).astype(np.float32)
    chip = pim.program(weights, preset(name), key=root_key(0), calibration=x)
    exact = x @ weights
    assert np.linalg.norm(chip.matmul(x, key=None) - exact) / np.linalg.norm(exact) < 2e-4
    assert float(chip.diagnose(x, key=None).conversions.clipped_share) == 0.0


CHIP = """
name = "mine"
family = "reram"
summary = "arrays on a chip of mine"
base = "macro-28nm"

[device.cell]
type = "Cell"
g_min = 1e-6
g_max = 50e-6
area = 1e-13

[device.hierarchy]
type = "Hierarchy"

[device.hierarchy.tile]
type = "Level"
holds = 16

[device.hierarchy.tile.buffer]
type = "Block"
power = 1e-3
area = 1e-8
"""


def test_a_users_chip(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(CHIP)
    device = load_device(file)
    assert device["hierarchy.tile.holds"] == 16
    assert device["hierarchy.tile.buffer.leakage"] == 0
    rows = figures(pim.cost(device, (64, 64)).ledger)
    assert rows["tile_buffer"][2] == pytest.approx(1e-8 / 16)
    without = replaced(device, {"hierarchy": None})
    assert "tile_buffer" not in figures(pim.cost(without, (64, 64)).ledger)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tile.buffer]", "tile.bufer]", "unknown field 'hierarchy.tile.bufer' of Level; did you mean buffer"),
        ("hierarchy.tile", "hierarchy.tyle", "unknown field 'hierarchy.tyle' of Hierarchy; did you mean tile"),
        ("holds = 16", "", "the field 'holds' is missing.*units of the next smaller level"),
        ("holds = 16", "holds = 0", r"hierarchy\.tile\.holds = 0 is out of range"),
        ("power = 1e-3", "power = -1e-3", r"hierarchy\.tile\.buffer\.power = -0\.001 is out of range.*W"),
        ("power = 1e-3", 'power = {value = 1, unit = "mW"}', "has the unit 'mW'; the field is in 'W'"),
    ],
)
def test_a_bad_hierarchy_names_the_place_and_the_remedy(tmp_path, old, new, words):
    file = tmp_path / "mine.toml"
    file.write_text(CHIP.replace(old, new))
    with pytest.raises(DeviceError, match=words):
        load_device(file)
