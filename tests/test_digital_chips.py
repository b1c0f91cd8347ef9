"""Published digital macros: Colonnade's bits and voltages, and chips from node, array, bits and supply alone."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from pim.costs.array_peak import peak
from pim.costs.costing import cost
from pim.devices.adders import multiplier_capacitance, row_adders, shortest_cycle
from pim.devices.catalogue import preset
from pim.devices.components.logic import tree_adders
from pim.devices.cost_factors import CostFactors
from pim.devices.device import replace as changed
from pim.devices.digital_wiring import CLOCK_PATH, DigitalWiring
from pim.devices.errors import DeviceError
from pim.devices.generic_digital import cell_area, digital_macro, scaled_gates
from pim.devices.loader import load_device
from pim.devices.random import root_key
from pim.devices.supply import SupplyTable
from pim.devices.technology import supply_polynomial
from pim.emulation import program_model
from pim.llm_workloads.model import load_model
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.programming import program

OUTPUTS = {1: 16, 4: 11, 8: 8, 16: 5}
"""Outputs of Colonnade by the bits of a weight: 128 columns over as many bits and 7 for the sum."""


@pytest.fixture
def silicon(shared) -> dict[str, Any]:
    records = json.loads((shared / "golden" / "silicon_macros.json").read_text())["silicon"]
    return {record["id"]: record for record in records}


def rows_of(found) -> dict[str, float]:
    return dict(zip(found.ledger.components, np.asarray(found.ledger.energy, np.float64), strict=True))


# Colonnade ----------------------------------------------------------------------------------------------------------


def test_colonnade_comes_out_at_bits_from_which_nothing_was_set(silicon):
    """Nine points (1, 4 and 16 bits at three supplies) of constants set at 8 bits; published to 30 %."""
    device, published = preset("sram-colonnade"), silicon["colonnade21"]["fJ_per_mac"]
    ratios = {}
    for bits, outputs in OUTPUTS.items():
        for vdd in (0.6, 0.7, 0.8):
            change = {"weight_bits": bits, "input_bits": bits, "outputs": outputs, "vdd": vdd}
            ours = 1e15 * float(peak(changed(device, change)).energy_per_mac)
            ratios[bits, vdd] = ours / published[f"{bits}b"][f"{vdd:.1f}".lstrip("0")]
    print("Colonnade, ours/published:", {at: round(ratio, 3) for at, ratio in ratios.items()})
    predicted = [ratio for (bits, _), ratio in ratios.items() if bits != 8]
    assert all(0.7 < ratio < 1.3 for ratio in predicted)
    assert all(abs(ratio - 1) < 0.01 for (bits, _), ratio in ratios.items() if bits == 8)  # what it was set from
    steep = [ratios[bits, 0.6] / ratios[bits, 0.8] for bits in OUTPUTS]
    assert all(0.95 < ratio < 1.05 for ratio in steep)  # a table of one width holds for all


def test_the_energy_of_colonnade_goes_with_its_supply_and_its_clock_does_not():
    device = preset("sram-colonnade")
    low, high = (peak(changed(device, {"vdd": vdd})) for vdd in (0.6, 0.8))
    assert float(high.cost.ledger.without("leakage").energy.sum()) == pytest.approx(
        float(low.cost.ledger.without("leakage").energy.sum()) / 0.2497, rel=1e-4
    )
    assert float(low.interval) == float(high.interval) == pytest.approx(8 / 1e8)
    with pytest.raises(DeviceError, match=r"vdd = 0.5 V, but the supply's table was measured from 0.6 to 0.8 V"):
        changed(device, {"vdd": 0.5})


def test_a_chain_has_an_adder_in_each_cell_and_registers_on_the_way():
    device = preset("sram-colonnade")
    macro, gates = device.model, device.model.gates
    found = rows_of(cost(device, (128, 8), vectors=3))
    nand = float(gates.capacitance)
    each = 3 * 8 * 0.64 * 128 * 128
    assert float(row_adders(macro, 128)) == 128 * 16
    assert found["adder_chain"] == pytest.approx(each * 0.25 * float(macro.glitches) * 6 * nand, rel=1e-5)
    assert found["pipeline"] == pytest.approx(each / 8 * 3 * nand, rel=1e-5)
    assert found["multipliers"] == pytest.approx(3 * 8 * 0.64 * 128 * 64 * 0.25 * nand / 2, rel=1e-5)
    assert float(cost(device, (128, 8), vectors=3).latency) == pytest.approx((3 * 8 + 16) / 1e8)  # the way in once
    half = rows_of(cost(device, (64, 8), vectors=3))
    assert half["adder_chain"] == pytest.approx(found["adder_chain"] / 2, rel=1e-5)
    whole, single = (shortest_cycle(changed(device, {"pipeline_rows": rows}).model) for rows in (128, 1))
    assert float(whole - single) == pytest.approx(127 * 2 * 2.4 * 43.2e-12, rel=1e-5)


def test_weights_that_do_not_fit_into_the_columns_are_refused():
    device = preset("sram-colonnade")
    with pytest.raises(DeviceError, match=r"8 outputs of 23 bits do not fit into columns = 128: at most 5"):
        changed(device, {"weight_bits": 16})
    assert changed(device, {"weight_bits": 16, "outputs": 5})["outputs"] == 5


# Codes that are only priced -----------------------------------------------------------------------------------------


def test_wide_and_narrow_codes_are_priced_and_not_computed_with():
    device = changed(preset("sram-digital28"), {"weight_bits": 16, "input_bits": 1})
    assert float(cost(device, (64, 64)).energy) > 0
    with pytest.raises(DeviceError, match=r"weight_bits = 16: products are computed with codes of 2 to 8 bits"):
        program(np.ones((4, 4)), device, key=root_key(0))
    with pytest.raises(DeviceError, match=r"input_bits = 1: products"):
        program(np.ones((4, 4)), changed(device, {"weight_bits": 8}), key=root_key(0))
    plan = place(load_model("tiny-stories"), inference_system(device, preset("digital-28nm")))
    with pytest.raises(DeviceError, match="weight_bits = 16"):
        program_model(plan, None)


# Wiring, recoding, supplies, factors --------------------------------------------------------------------------------


def test_wiring_is_counted_wire_by_wire():
    """16 inputs of 4 bits by 4 outputs, one array: lines, an H-tree, clock and control by hand."""
    wiring = DigitalWiring(2e-10, 1.5, 0.5, 100.0)  # type: ignore[arg-type]
    change = {"rows": 16, "outputs": 4, "weight_bits": 4, "input_bits": 4}
    bare = changed(preset("sram-digital28"), change)
    device = changed(bare, {"wiring": wiring})
    found, without = cost(device, (16, 4)), cost(bare, (16, 4))
    rows, before = rows_of(found), rows_of(without)
    nand, v2, cycles = 0.7e-15, 0.81, 4
    area = float(found.area)
    assert area == pytest.approx(float(without.area) + 100 * 0.614e-12, rel=1e-5)
    lines = 16 * (np.sqrt(area) * 2e-10 + 16 * 1.5 * nand)
    driven = 4 / 3 * lines + 16 * 16 * nand / 2 / 3
    assert rows["drivers"] == pytest.approx(cycles * 0.5 * v2 / 2 * driven, rel=1e-5)
    pitch, length = np.sqrt(area / 64), 0.0
    for level in range(4):
        length += 16 / 2**level * (4 + level) * pitch * 2 ** (level / 2) / 2
    assert rows["wires"] == pytest.approx(cycles * 0.25 * v2 / 2 * 4 * length * 2e-10, rel=1e-5)
    flip_flops = 4 * 12 + 16 * 4 + 4 * 12
    clocked = flip_flops * nand / 2 + CLOCK_PATH * np.sqrt(flip_flops * area) * 2e-10
    assert rows["clock"] == pytest.approx(cycles * v2 * 4 / 3 * clocked, rel=1e-5)
    assert rows["control"] == pytest.approx(cycles * v2 * 100 * nand, rel=1e-5)
    same = ("cells", "multipliers", "adder_tree", "accumulators", "registers")
    assert all(rows[name] == before[name] for name in same)
    assert all(before[name] == 0 for name in ("wires", "drivers", "clock", "control"))
    assert "the device has no wiring" in " ".join(without.notes) and "no wiring" not in " ".join(found.notes)
    assert "control and decoders are not counted" in " ".join(cost(preset("sram-tu2022"), (32, 6)).notes)


def test_digits_after_booth_halve_the_trees():
    plain = changed(preset("sram-tu2022"), {"recoding": "none"})
    booth = preset("sram-tu2022")
    found, before = rows_of(cost(booth, (32, 6))), rows_of(cost(plain, (32, 6)))
    trees = float(tree_adders(32, 9)) / (2 * float(tree_adders(32, 8)))
    assert found["adder_tree"] == pytest.approx(before["adder_tree"] * trees, rel=1e-5)
    assert found["place_value"] == 0 < before["place_value"]
    selector = float(multiplier_capacitance(booth.model, booth.model.gates))
    assert selector == pytest.approx((1 + 1 + 1.5) * 0.7e-15, rel=1e-5)
    assert found["multipliers"] == pytest.approx(before["multipliers"] * 9 / 16 * selector / 0.35e-15, rel=1e-5)
    with pytest.raises(DeviceError, match=r"digits of two bits, but serial_bits = 1: make it even"):
        changed(booth, {"serial_bits": 1})


def test_a_supply_scales_every_energy_and_the_clock():
    bare = preset("sram-digital28")
    supply = supply_polynomial(28e-9, 0.8, "LP-HP")
    nominal, low = (changed(bare, {"supply": supply, "vdd": vdd}) for vdd in (0.8, 0.65))
    same = cost(changed(bare, {"vdd": 0.8}), (128, 128)).ledger.without("leakage")
    at, below = (cost(device, (128, 128)).ledger.without("leakage") for device in (nominal, low))
    np.testing.assert_allclose(at.energy, same.energy, rtol=1e-5)
    np.testing.assert_allclose(below.energy, np.asarray(at.energy) * float(supply.energy(0.65)), rtol=1e-5)
    np.testing.assert_allclose(below.latency, np.asarray(at.latency) * float(supply.delay(0.65)), rtol=1e-5)
    unnamed = SupplyTable(*(jnp.asarray(v) for v in ([0.6, 0.9], [0.4, 1.0], [1.5, 1.0])))
    with pytest.raises(DeviceError, match=r"supply.nominal is missing"):
        changed(bare, {"supply": unnamed})


def test_cost_factors_are_on_every_row():
    device = preset("sram-digital28")
    factors = CostFactors(1.22, 1.5, 2.0)  # type: ignore[arg-type]
    found, before = cost(changed(device, {"cost_factors": factors}), (200, 130)), cost(device, (200, 130))
    for name, factor in (("energy", 1.22), ("latency", 1.5), ("area", 2.0)):
        ours, theirs = (getattr(c.ledger.without("leakage"), name) for c in (found, before))
        np.testing.assert_allclose(ours, np.asarray(theirs) * factor, rtol=1e-5)
    leaking = [rows_of(c)["leakage"] for c in (found, before)]
    assert leaking[0] == pytest.approx(leaking[1] * 1.22, rel=1e-5)
    assert "cost factors on every row: energy x 1.22, latency x 1.5, area x 2" in found.notes


# From node, array, bits and supply alone ----------------------------------------------------------------------------

GENERIC = {
    "chih21": ((22e-9, 256, 64, 4, 4, 0.72), {}, 1),
    "tu22": ((28e-9, 32, 6, 8, 8, 0.9), {"serial_bits": 2, "recoding": "booth"}, 64),
    "guo23": ((28e-9, 128, 8, 8, 8, 0.9), {"serial_bits": 2, "row_groups": 8}, 1),
}


@pytest.mark.parametrize("chip", GENERIC)
def test_chips_come_out_within_a_factor_of_two_uncalibrated(chip, silicon):
    what, structure, copies = GENERIC[chip]
    found = peak(digital_macro(*what, **structure), copies=copies)
    energy = silicon[chip]["tops_per_w"] * 1e12 / float(found.efficiency)
    area = 1e6 * float(found.area) / silicon[chip]["area_mm2"]
    print(f"{chip}, ours/published: energy {energy:.2f}, area {area:.2f}")
    assert 0.5 < energy < 2 and 0.5 < area < 2


def test_colonnade_comes_out_within_a_factor_of_two_uncalibrated(silicon):
    structure = {"adders": "chain", "columns": 128, "pipeline_rows": 8, "clock": 1e8}
    found = peak(digital_macro(65e-9, 128, 8, 8, 8, 0.8, **structure))
    record = silicon["colonnade21"]
    energy = 1e15 * float(found.energy_per_mac) / record["fJ_per_mac"]["8b"][".8"]
    area = 1e12 * float(found.area) / record["area_um2_total"]
    print(f"Colonnade, ours/published: energy {energy:.2f}, area {area:.2f}")
    assert 0.5 < energy < 2 and 0.5 < area < 2


def test_files_of_chips_are_the_generic_macro_of_their_figures():
    """The efficiency of a chip's file is that of the function: the file holds no other constants."""
    for name, chip in (("sram-chih2021", "chih21"), ("sram-guo2023", "guo23"), ("sram-tu2022", "tu22")):
        what, structure, _ = GENERIC[chip]
        file = preset(name)
        generic = digital_macro(*what, **structure, clock=file["clock"])
        assert float(peak(file).efficiency) == pytest.approx(float(peak(generic).efficiency), rel=2e-3)


def test_the_headline_density_of_chih_is_no_figure_of_its_supply(silicon):
    """89 TOPS/W were measured at 0.72 V; 16.3 TOPS/mm2, printed beside it, were not."""
    record = silicon["chih21"]
    found = peak(preset("sram-chih2021"))
    assert 1e-12 * float(found.rate) == pytest.approx(record["tops"], rel=0.01)
    assert record["tops"] / record["area_mm2"] == pytest.approx(record["tops_per_mm2"], rel=0.01)
    assert float(found.density) == pytest.approx(float(found.rate / found.area))


def test_the_generic_macro_follows_bits_node_and_supply():
    energy = lambda *what: float(peak(digital_macro(*what)).energy_per_mac)
    base = energy(28e-9, 128, 64, 8, 8, 0.8)
    assert 1.7 < base / energy(28e-9, 128, 64, 4, 8, 0.8) < 2.3
    assert 1.5 < base / energy(28e-9, 128, 64, 8, 4, 0.8) < 2.3
    assert base > energy(28e-9, 128, 64, 8, 8, 0.7) > energy(16e-9, 128, 64, 8, 8, 0.7)
    gates = scaled_gates(28e-9, 0.9)
    figures = [float(value) for value in (gates.capacitance, gates.area, gates.delay)]
    assert figures == pytest.approx([0.7e-15, 0.614e-12, 47.8e-12], rel=1e-4)
    assert cell_area(65e-9) == pytest.approx(0.617e-12, rel=1e-3)
    fast = digital_macro(28e-9, 128, 64, 8, 8, 0.9)
    assert float(fast.clock * shortest_cycle(fast)) == pytest.approx(1.0, rel=1e-5)


def test_a_generic_macro_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(DeviceError, match="known from 7 to 180 nm"):
        digital_macro(5e-9, 64, 64, 8, 8, 0.7)
    with pytest.raises(DeviceError, match=r"vdd = 1.8 V"):
        digital_macro(28e-9, 64, 64, 8, 8, 1.8)
    with pytest.raises(DeviceError, match=r"weight_bits = 17 is out of range"):
        digital_macro(28e-9, 64, 64, 8, 17, 0.9)
    with pytest.raises(DeviceError, match=r"'colums' is no field of DigitalMacro"):
        digital_macro(28e-9, 64, 64, 8, 8, 0.9, colums=3)
    with pytest.raises(DeviceError, match=r"columns and pipeline_rows are for adders = 'chain'"):
        digital_macro(28e-9, 64, 64, 8, 8, 0.9, columns=3)
    file = tmp_path / "odd.toml"
    file.write_text(
        'name = "odd"\nfamily = "digital-sram"\nsummary = "a chain of digits"\nbase = "sram-colonnade"\n'
        '[device]\nrecoding = "booth"\nserial_bits = 2\n'
    )
    with pytest.raises(DeviceError, match="recoding is for adders = 'tree'"):
        load_device(file)
