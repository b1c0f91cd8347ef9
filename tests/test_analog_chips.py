"""Published analog chips: figures are those of the data base, and come out as closely as an analytic model allows."""

import json

import pytest

import pim
from pim.devices.published import published

CHIPS = ("hermes", "neurram", "wang2022", "sinangil2021", "jia2020")


@pytest.fixture(scope="module")
def found():
    return {(row.chip, row.name): row for row in pim.validate(CHIPS, progress=False).rows}


@pytest.fixture
def silicon(shared):
    table = json.loads((shared / "golden" / "silicon_macros.json").read_text())["silicon"]
    return {chip["id"]: chip for chip in table}


def agree(row, value, tolerance):
    """The published figure is that of the data base, ours lies within the tolerance, and nothing was set from it."""
    assert row.published == pytest.approx(value, rel=1e-3)
    assert row.status == "predicted"
    assert row.ratio == pytest.approx(1.0, abs=tolerance), row.name


def test_hermes_in_one_and_in_four_phases(found, silicon):
    """The efficiency of one phase is fitted: that of four phases, and both rates, follow."""
    one, four = silicon["legallo23_1p"], silicon["legallo23_4p"]
    agree(found["hermes", "TOPS, one phase"], one["tops"] * 1e12, 0.10)
    agree(found["hermes", "TOPS, four phases"], four["tops"] * 1e12, 0.10)
    agree(found["hermes", "TOPS/W, four phases"], four["tops_per_w"] * 1e12, 0.10)
    assert found["hermes", "TOPS/W, one phase"].ratio == pytest.approx(1.0, abs=0.10)
    agree(found["hermes", "TOPS/W, single core of 2021"], silicon["hermes21"]["tops_per_w"] * 1e12, 0.10)


def test_neurram_over_bits_of_inputs_and_outputs(found, silicon):
    """Set at (6, 4) bits, and word lines and settling at (3, 1): all other efficiencies and rates follow.

    That of (3, 1) is out by 1 %, though 39 % of it alone were set there.
    """
    assert found["neurram", "TOPS/W, 3-bit outputs, 1-bit inputs"].ratio == pytest.approx(1.0, abs=0.20)
    for bits, (tops, per_watt) in silicon["wan22"]["tops_topsw_by_out_in"].items():
        out, into = bits.split(",")
        at = f"{out}-bit outputs, {into}-bit inputs"
        if bits not in ("6,4", "3,1"):
            agree(found["neurram", f"TOPS/W, {at}"], per_watt * 1e12, 0.20)
        if bits != "3,1":
            agree(found["neurram", f"TOPS, {at}"], tops * 1e12, 0.10)


def test_the_parts_of_neurrams_energy(found, silicon):
    """Within five points, but for the neurons at (8, 6), where the published parts are 11 % short of the total."""
    off = {}
    for bits, parts in silicon["wan22"]["fJ_per_op_wl_neuron_input"].items():
        out, into = bits.split(",")
        for part, energy in zip(("word lines", "neurons", "inputs"), parts, strict=True):
            row = found["neurram", f"share of {part}, {out}-bit outputs, {into}-bit inputs"]
            assert row.published == pytest.approx(energy / sum(parts), abs=1e-3)
            if abs(row.ours - row.published) > 0.05:
                off[bits, part] = row.ours - row.published
    assert off.keys() <= {("8,6", "neurons")}
    assert all(abs(difference) < 0.08 for difference in off.values())


def test_the_c2c_macro_over_its_supply(found, silicon):
    """Set at 1.0 V alone, split of the energy included."""
    for vdd, per_watt in silicon["wang22_lo"]["topsw_vs_vdd"].items():
        density = silicon["wang22_lo"]["topsmm2_vs_vdd"][vdd]
        if float(vdd) != 1.0:
            agree(found["wang2022", f"TOPS/W at {float(vdd)} V"], per_watt * 1e12, 0.15)
            agree(found["wang2022", f"TOPS/mm2 at {float(vdd)} V"], density * 1e18, 0.15)
    for of, shares in (("energy at 1.0 V", "energy_share"), ("area", "area_share")):
        names = {"converters": "adc", "input converters": "dac", "array": "mac", "rest": "misc"}
        for name, key in names.items():
            row = found["wang2022", f"share of the {of}: {name}"]
            assert row.published == silicon["wang22_lo"][shares][key]
            assert row.ours == pytest.approx(row.published, abs=0.05)


def test_the_7_nm_macro_over_its_output_code_and_supply(found, silicon):
    """Set at codes 0, 2 and 12 at 0.8 V: the other codes, the span of 2.3 and all supplies follow."""
    chip = silicon["dong20"]
    agree(found["sinangil2021", "TOPS/W, average data, 0.8 V"], chip["tops_per_w"] * 1e12, 0.20)
    energies = chip["energy_fJ_per_1024mac_vs_output"]
    for code, energy in energies.items():
        if code not in ("0", "2", "12"):
            agree(found["sinangil2021", f"energy at output code {code}"], energy * 1e-15, 0.20)
    span = found["sinangil2021", "energy at output code 15 over that at 0"]
    agree(span, energies["15"] / energies["0"], 0.20)
    for vdd, energy in chip["energy_pJ_vs_vdd_worstcase"].items():
        if float(vdd) != 0.8:
            agree(found["sinangil2021", f"energy at output code 15, {float(vdd)} V"], energy * 1e-12, 0.20)


def test_the_65_nm_macro_at_both_supplies(found, silicon):
    assert found["jia2020", "1-bit TOPS/W at 0.85 V"].published == silicon["jia20_lo"]["tops_per_w"] * 1e12
    assert found["jia2020", "1-bit TOPS/W at 0.85 V"].ratio == pytest.approx(1.0, abs=0.20)
    agree(found["jia2020", "1-bit TOPS/W at 1.2 V"], silicon["jia20_hi"]["tops_per_w"] * 1e12, 0.20)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_fitted_value_names_its_point(chip):
    """And figures remain from which none was set."""
    points = published(chip)
    device = pim.load_device(points[0].device_file)
    fitted = [known for known in device.provenance.values() if known.grade == "fitted"]
    assert fitted and all(known.note for known in fitted)
    assert any(not point.fitted for point in points)
