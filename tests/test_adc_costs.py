"""Cost laws of converters give what their sources say, and tell a rate from a clock, and bits from effective ones."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pim
from pim.devices.catalogue import component_names
from pim.devices.components.adc_survey import SurveyADCCost

LAWS = [name for name in component_names() if name.startswith("adc-")]


def law(name: str, **changes: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is only recalled
        return pim.replace(pim.component(name), changes).model


def pj(of: Any, bits: float = 8.0, vdd: float = 0.9) -> float:
    return float(of.energy(bits, vdd, 0.5)) * 1e12


@pytest.mark.parametrize(
    ("name", "wanted", "rel"),
    [
        ("adc-neurosim-sar22", 0.14, 0.03),
        ("adc-zigzag28", 0.70, 0.01),
        ("adc-andrulis", 1.71, 0.005),
        ("adc-isaac", 1.67, 0.07),  # hwcomponents' 2 mW at 1.2 GHz; at 1.28 it is 1.56
        ("adc-survey-p10", 5.2, 0.01),
        ("adc-survey-median", 10.5, 0.01),
    ],
)
def test_tools_differ_more_than_tenfold_for_eight_bits(name, wanted, rel):
    """Reference, section 0, item 3."""
    assert pj(law(name)) == pytest.approx(wanted, rel=rel)


def test_the_fit_to_the_survey_at_22_nm():
    assert pj(law("adc-andrulis", node=22e-9)) == pytest.approx(0.85, rel=0.006)


def test_a_sample_rate_is_no_clock_of_bits():
    """A simulator takes ISAAC's 1.28 GS/s for a SAR's clock: 7.8 ns and 15.6 pJ."""
    for name in ("adc-isaac", "adc-puma"):
        assert float(law(name).latency(8.0, 128)) == pytest.approx(0.78e-9, rel=2e-3)
        assert pj(law(name)) == pytest.approx(1.56, rel=2e-3)
    sar = law("adc-sar28")  # where the clock is one of bits, nine cycles it is
    assert float(sar.latency(8.0, 128) * sar.clock) == pytest.approx(9)


def test_the_silicon_behind_isaac_is_another_converter():
    """3.1 mW and 0.0015 mm^2, often quoted as ISAAC's, are Kull's; its eight bits are 6.24 effective ones."""
    isaac, kull = law("adc-isaac"), law("adc-kull2013")
    assert (float(kull.power), float(isaac.power)) == pytest.approx((3.1e-3, 2e-3))
    assert float(kull.area(8.0)) == pytest.approx(1.5e-9) and float(isaac.area(8.0)) == pytest.approx(1.2e-9)
    device = pim.component("adc-kull2013")
    assert "6.24" in device.provenance["rated_bits"].note and "6.24" in device.summary


def test_rated_converters_match_the_golden_table(shared: Path):
    known = json.loads((shared / "golden/component_tables.json").read_text())["components"]
    kull, table = known["kull13_adc"], known["hwcomponents_table"]
    assert pj(law("adc-kull2013")) == pytest.approx(kull["pJ_per_conv"], rel=0.02)
    assert float(1 / law("adc-kull2013").latency(8.0, 1)) == pytest.approx(kull["fs"])
    forms, timely = table["FORMS ADC 4b 2.1GS/s 32nm"], table["TIMELY DTC/TDC 8b 65nm"]
    assert pj(law("adc-forms"), 4.0) == pytest.approx(forms["pJ"], rel=1e-3)
    assert float(law("adc-forms").area(4.0)) * 1e12 == pytest.approx(forms["um2"])
    assert pj(law("adc-timely")) == pytest.approx(timely["pJ"][1], rel=1e-3)
    power, area = known["isaac_tile_32nm_1p2GHz"]["ima"]["ADC 8b 1.28GS/s x8"]
    assert float(law("adc-isaac").power) * 8 == pytest.approx(power * 1e-3)
    assert float(law("adc-isaac").area(8.0)) * 8 == pytest.approx(area * 1e-6)
    puma = known["puma_32nm"]["adc"]
    for bits in (4.0, 8.0):
        per_bit = (puma["dyn_mW_per_bit"] + puma["leak_mW_per_bit"]) * 1e-3
        assert pj(law("adc-puma"), bits) == pytest.approx(
            bits**2 * per_bit * puma["lat_ns_per_bit"] * 1e3 / 128, rel=2e-3
        )


def test_bits_scale_a_rated_converter_as_its_tool_has_it():
    assert pj(law("adc-isaac"), 6.0) == pytest.approx(pj(law("adc-isaac")) / 4)
    newton = law("adc-newton")
    assert [pj(newton, bits) / pj(newton, 9.0) for bits in (3.0, 6.0)] == pytest.approx([3 / 9, 6 / 9])
    supplied = law("adc-isaac", rated_vdd=0.9)
    assert pj(supplied, vdd=0.45) == pytest.approx(pj(supplied) / 4) and pj(law("adc-isaac"), vdd=0.45) == pj(supplied)


@pytest.mark.parametrize(
    ("bits", "energy", "area"), [(4, 0.324, 183), (5, 0.406, 336), (6, 0.489, 618), (8, 0.701, 2085)]
)
def test_zigzag_at_28_nm(bits, energy, area):
    of = law("adc-zigzag28")
    assert pj(of, float(bits)) == pytest.approx(energy, rel=2e-3)
    assert float(of.area(float(bits))) * 1e12 == pytest.approx(area, rel=3e-3)
    assert float(of.latency(4.0, 128)) == pytest.approx(5.9e-9, rel=5e-3)
    assert float(of.latency(8.0, 128)) == pytest.approx(11.8e-9, rel=5e-3)


@pytest.mark.parametrize(("ohm", "energies"), [(1e4, (0.069, 0.104, 0.143)), (1e3, (0.39, 0.56, 0.73))])
def test_neurosim_holds_the_columns_current(ohm, energies):
    of = law("adc-neurosim-sar22", column_resistance=ohm)
    assert [pj(of, bits) for bits in (4.0, 6.0, 8.0)] == pytest.approx(energies, rel=1.5e-2)
    assert "twice" in str(type(of).__doc__)


@pytest.mark.parametrize(("percentile", "place"), [("p10", 0), ("median", 1)])
@pytest.mark.parametrize(("nodes", "node"), [("node<=32", 28e-9), ("33..65", 40e-9), ("all", 130e-9)])
def test_the_survey_is_its_table(shared: Path, percentile, place, nodes, node):
    bins = json.loads((shared / "golden/component_tables.json").read_text())["adc_survey_fit"]["bins"]
    rows = [row for row in bins if row["nodes"] == nodes and 5 <= row["enob"] <= 12]
    assert len(rows) == 8
    of = law(f"adc-survey-{percentile}", node=node)
    for row in rows:
        bits = float(row["enob"])
        assert pj(of, bits) == pytest.approx(row["e_pJ_p10_50_90"][place], rel=1e-4)
        assert float(of.area(bits)) * 1e12 == pytest.approx(row["area_um2_p10_50_90"][place], rel=1e-4)
        lossy = law(f"adc-survey-{percentile}", node=node, enob_loss=1.5)
        assert pj(lossy, bits + 1.5) == pytest.approx(pj(of, bits), rel=1e-4)


def test_the_survey_between_and_beyond_its_bins():
    of = law("adc-survey-p10")
    assert pj(of, 5.5) == pytest.approx(np.sqrt(pj(of, 5.0) * pj(of, 6.0)), rel=1e-4)
    assert pj(of, 4.0) == pytest.approx(pj(of, 5.0)) and pj(of, 13.0) == pytest.approx(4 * pj(of, 12.0), rel=1e-4)


def test_figures_of_merit():
    assert pj(law("adc-walden", merit=1e-15), 10.0) == pytest.approx(1.024)
    schreier = law("adc-schreier")
    power_over_rate = 0.5 * 10 ** ((6.02 * 10 + 1.76 - 176.668) / 10)  # FoM = SNDR + 10 log10(rate / 2 / power)
    assert pj(schreier, 10.0) == pytest.approx(power_over_rate * 1e12, rel=1e-4)
    assert pj(schreier, 11.0) / pj(schreier, 10.0) == pytest.approx(10**0.602, rel=1e-4)


@pytest.mark.parametrize(("switching", "published"), [("conventional", 1363.3), ("monotonic", 255.5), ("vcm", 170.2)])
def test_capacitors_of_a_sar_switch_what_papers_say(switching, published):
    """Ten bits, in C vdd^2: Liu et al. and Zhu et al., both JSSC 2010."""
    of = law("adc-sar28", switching=switching)
    assert float(of.switched_units(10.0)) == pytest.approx(published, rel=3e-4)


def drawn_from_the_reference(sample: float, bits: int) -> float:
    """Energy that one side of a binary array draws while it finds a code, in C vdd^2; the top plate floats."""
    sizes = np.array([*(2.0**k for k in reversed(range(bits))), 1.0])
    charge, energy = -(sizes * sample).sum(), 0.0
    bottom = np.zeros(bits + 1)
    top = charge / sizes.sum()
    for bit in range(bits):
        trial = bottom.copy()
        trial[bit] = 1.0
        moved = (charge + (sizes * trial).sum()) / sizes.sum()
        across = ((trial - moved) - (bottom - top)) * sizes  # change of the charge on each capacitor
        energy += across[trial == 1.0].sum()
        bottom, top = trial, moved
        if top > 0 and bit + 1 < bits:  # too much: taken back together with the next guess
            bottom = trial.copy()
            bottom[bit], bottom[bit + 1] = 0.0, 1.0
            moved = (charge + (sizes * bottom).sum()) / sizes.sum()
            across = ((bottom - moved) - (trial - top)) * sizes
            energy += across[bottom == 1.0].sum()
            top = moved
    return energy


def test_conventional_switching_is_the_charge_that_the_reference_gives():
    """All codes of six bits, capacitor by capacitor; the other side of the array draws as much."""
    bits = 6
    mean = np.mean([drawn_from_the_reference((code + 0.5) / 2**bits, bits) for code in range(2**bits)])
    assert 2 * mean == pytest.approx(float(law("adc-sar28").switched_units(float(bits))), rel=1e-3)


def test_noise_sizes_a_sars_capacitors_at_many_bits():
    fine = law("adc-sar28", unit_capacitance=1e-18, comparator_capacitance=0.0, logic_capacitance=0.0)
    assert pj(fine, 15.0) / pj(fine, 14.0) == pytest.approx(4, rel=1e-3)
    coarse = law("adc-sar28", comparator_capacitance=0.0, logic_capacitance=0.0)
    assert pj(coarse, 9.0) / pj(coarse, 8.0) == pytest.approx(2, rel=0.01)


def test_all_comparators_of_a_flash_fire():
    of = law("adc-flash28", ladder_power=0.0)
    assert [float(of.energy(3.0, 0.9, code)) for code in (0.0, 1.0)] == pytest.approx([7 * 20e-15 * 0.81] * 2)
    assert float(of.area(5.0) / of.area(2.0)) == pytest.approx(31 / 3)


def test_counting_costs_what_is_counted():
    of = law("adc-cco28", static_power=0.0)
    assert float(of.energy(8.0, 0.9, 0.5)) == pytest.approx(128 * 11.9e-15)
    assert float(of.energy(8.0, 0.45, 0.5)) == pytest.approx(32 * 11.9e-15)
    assert float(of.energy(8.0, 0.9, 0.0)) == 0 and float(of.latency(8.0, 1)) == pytest.approx(128e-9)
    early, full = (law("adc-cco28", count_energy=0.0, stops=stops) for stops in ("early", "full"))
    assert float(early.energy(8.0, 0.9, 0.25)) == pytest.approx(float(full.energy(8.0, 0.9, 0.25)) / 4)


@pytest.mark.parametrize("name", LAWS)
@settings(deadline=None, max_examples=15)
@given(share=st.floats(0.0, 0.99), code=st.floats(0.01, 1.0), vdd=st.floats(0.6, 1.1))
def test_laws_are_positive_rise_with_the_bits_and_have_finite_gradients(name, share, code, vdd):
    of = law(name)
    valid = getattr(of, "VALID", {})
    low, high = valid.get("bits", valid.get("enob", (3, 12)))
    bits = low + share * (high - 1 - low)

    def figures(of, bits, vdd, code):
        return jnp.stack([of.energy(bits, vdd, code) * 1e12, of.latency(bits, 64.0) * 1e9, of.area(bits) * 1e12])

    here = figures(of, jnp.float32(bits), vdd, code)
    assert (here > 0).all() and jnp.isfinite(here).all()
    if not isinstance(of, SurveyADCCost):  # a table of what was built, which is not monotone
        assert (figures(of, jnp.float32(bits + 1), vdd, code) >= here * (1 - 1e-5)).all()
    slopes = jax.jacrev(figures, argnums=(0, 1, 2, 3))(of, *(jnp.float32(value) for value in (bits, vdd, code)))
    assert all(bool(jnp.isfinite(slope).all()) for slope in jax.tree.leaves(slopes))
    if bits + 1 <= high and name == "adc-isaac":
        assert float(jax.grad(lambda b: of.energy(b, vdd, code) * 1e12)(jnp.float32(bits))) > 0
