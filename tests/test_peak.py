"""Peaks are of one ledger: what is printed side by side agrees, and no factor moves one figure alone."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pim
from pim.costs.array_peak import full_array, peak
from pim.costs.costing import cost
from pim.costs.operands import uniform_operands
from pim.costs.stages import STAGES
from pim.devices.catalogue import preset
from pim.devices.cost_factors import CostFactors
from pim.devices.device import replace
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import cast
from pim.errors import StudyError
from pim.llm_workloads.model import load_model
from pim.mapping.plan import place
from pim.mapping.system import inference_system

ANALOG, DIGITAL, NEAR = preset("rram-techC"), preset("sram-tu2022"), preset("dram-aim")
SOME = ("rram-techC", "sram-c2c22", "sram-qs28", "flash-nor55", "sram-tu2022", "dram-aim", "dram-attacc")
FACTORS = {"energy": 2.0, "latency": 3.0, "area": 5.0}


def factored(device, **factors):
    return replace(device, {"cost_factors": cast(CostFactors(**dict.fromkeys(FACTORS, 1.0) | factors))})


# What a peak is


def test_it_is_the_cost_of_one_full_array_that_never_waits():
    macro = ANALOG.model
    n_in, n_out = full_array(macro)
    assert (n_in, n_out) == (64, 64)  # 64 x 128 cells, a pair a weight
    found, once = peak(ANALOG), cost(ANALOG, (n_in, n_out))
    np.testing.assert_allclose(found.cost.ledger.energy, once.ledger.energy, rtol=1e-6)
    assert float(found.rate) == pytest.approx(2 * n_in * n_out / float(once.latency))
    assert float(found.area) == float(once.area) and float(found.latency) == float(once.latency)
    assert pim.peak is peak


def test_the_way_through_a_pipeline_does_not_count():
    staged = replace(ANALOG, {"pipeline": "stages"})
    found, many, single = peak(staged), peak(staged, vectors=100_000), cost(staged, full_array(ANALOG.model))
    times = dict(zip(single.ledger.components, np.asarray(single.ledger.latency), strict=True))
    slowest = max(sum(times[name] for name in stage) for stage in STAGES)
    assert float(found.interval) == pytest.approx(slowest, rel=1e-4)
    assert float(found.latency) == pytest.approx(float(single.latency), rel=1e-6) and found.latency > found.interval
    assert float(many.rate) == pytest.approx(float(found.rate), rel=1e-4)
    assert float(many.efficiency) == pytest.approx(float(found.efficiency), rel=1e-4)
    assert float(peak(staged, vectors=1).rate) < float(found.rate)


def test_row_groups_take_turns_and_copies_work_side_by_side():
    one, four = peak(DIGITAL), peak(replace(DIGITAL, {"row_groups": 4}))
    assert full_array(replace(DIGITAL, {"row_groups": 4}).model) == (128, 6)
    assert float(four.interval) == pytest.approx(4 * float(one.interval)) and float(four.rate) == float(one.rate)
    many = peak(DIGITAL, copies=64)
    for name, factor in {"rate": 64, "power": 64, "area": 64, "energy": 64, "efficiency": 1, "density": 1,
                         "latency": 1, "energy_per_mac": 1}.items():  # fmt: skip
        assert float(getattr(many, name)) == pytest.approx(factor * float(getattr(one, name)), rel=1e-5), name


def test_units_at_the_banks_have_an_internal_peak():
    """AiM: 16 lanes a bank at 1 GHz, 512 GFLOPS and 512 GB/s a channel (Hot Chips); HBM-PIM: 128 units, 16 lanes."""
    aim = peak(replace(NEAR, {"banks.channels": 1}))
    assert float(aim.rate) == pytest.approx(512e9, rel=1e-5)
    hbm = preset("dram-hbm-pim")
    assert float(peak(hbm).rate) == pytest.approx(128 * 16 * 2 / (hbm["timing.n_ccd_l"] * hbm["timing.t_ck"]), rel=1e-5)
    whole = cost(NEAR, (4096, 4096))
    assert float(peak(NEAR).rate) > 2 * 4096**2 / float(whole.latency)
    run = peak(NEAR, shape=(4096, 4096))
    assert float(run.energy) == float(whole.energy) and float(run.interval) == float(whole.latency)
    commands = NEAR.model.commands(Work("gemv", 4096, 4096))
    assert run.operations == pytest.approx(2 * float(commands.macs))  # no padding in this one


def test_the_peak_of_a_roofline_is_its_rate_of_computing():
    found = peak(preset("gpu-a100"))
    assert float(found.rate) == pytest.approx(0.695 * 312e12, rel=1e-5)
    assert float(found.energy_per_mac) == pytest.approx(2 * preset("gpu-a100")["energy_per_operation"], rel=1e-6)


def test_what_has_no_peak_is_refused(unchecked):
    with pytest.raises(StudyError, match="no peak is known for a Ideal"):
        peak(preset("ideal"))
    with pytest.raises(StudyError, match="has no vectors: give them with a shape"):
        peak(NEAR, vectors=3)
    with pytest.raises(StudyError, match="operands are statistics of a macro"):
        peak(NEAR, operands=uniform_operands(ANALOG.model))
    with pytest.raises(StudyError, match="copies must be a whole number"):
        peak(ANALOG, copies=0)
    with pytest.raises(DeviceError, match=r"cell\.area is unknown"):
        peak(replace(ANALOG, {"cell.area": None}))
    with pytest.raises(StudyError, match="did you mean adc"):
        peak(ANALOG).share("energy", "adcs")
    with pytest.raises(StudyError, match="not of 'latency'"):
        peak(ANALOG).share("latency", "adc")


# Traps: other tools have fallen into each of these (NeuroSim V1.4, MNSIM 2.0, the headlines of papers)


@pytest.mark.parametrize("name", SOME)
def test_printed_efficiency_and_printed_energy_agree(name):
    """NeuroSim V1.4 prints TOPS/W with a factor of 1.22 that its printed energy lacks."""
    found = peak(preset(name))
    ledger = found.to_dict()["cost"]["total"]
    told = found.to_dict()
    assert told["efficiency"] * ledger["energy"] == pytest.approx(float(found.operations), rel=1e-6)
    assert told["efficiency"] * told["energy_per_mac"] == pytest.approx(2.0, rel=1e-6)
    assert told["efficiency"] * told["power"] == pytest.approx(told["rate"], rel=1e-6)
    assert told["power"] * ledger["latency"] == pytest.approx(ledger["energy"], rel=1e-6)
    printed = re.search(r"([\d.]+) ([TG])OPS/W, ([\d.]+) ([fp])J/MAC", str(found))
    efficiency = float(printed[1]) * {"T": 1e12, "G": 1e9}[printed[2]]
    assert efficiency * float(printed[3]) * {"f": 1e-15, "p": 1e-12}[printed[4]] == pytest.approx(2.0, rel=2e-3)


@pytest.mark.parametrize("name", SOME)
def test_items_sum_to_the_totals(name):
    """NeuroSim V1.4's area items for RRAM are 5.69 of 19.59 mm2."""
    found = peak(preset(name)).to_dict()
    for figure in ("energy", "latency", "area"):
        rows = [row[figure] for row in found["cost"]["rows"]]
        if None in rows:
            assert found["cost"]["total"][figure] is None  # what is unknown makes no total
        else:
            assert sum(rows) == pytest.approx(found["cost"]["total"][figure], rel=1e-6)


def test_shares_sum_to_one():
    found = peak(ANALOG)
    for what in ("energy", "power", "area"):
        each = [float(found.share(what, name)) for name in found.cost.ledger.components]
        assert sum(each) == pytest.approx(1, rel=1e-6)
        assert float(found.share(what, "adc", "dac")) == pytest.approx(
            float(found.share(what, "adc")) + float(found.share(what, "dac")), rel=1e-6
        )


def test_a_factor_moves_every_figure_that_it_concerns():
    plain = peak(ANALOG)
    ratio = lambda found, name: float(getattr(found, name)) / float(getattr(plain, name))
    energy = peak(factored(ANALOG, energy=2.0))
    moved = {"energy": 2, "energy_per_mac": 2, "efficiency": 1 / 2, "power": 2, "rate": 1, "area": 1, "density": 1}
    assert {name: pytest.approx(ratio(energy, name), rel=1e-5) for name in moved} == moved
    latency = peak(factored(ANALOG, latency=3.0))
    moved = {"rate": 1 / 3, "density": 1 / 3, "latency": 3, "interval": 3, "area": 1}
    assert {name: pytest.approx(ratio(latency, name), rel=1e-5) for name in moved} == moved
    assert ratio(latency, "power") == pytest.approx(1 / 3, rel=1e-5)  # the same energy in three times the time
    assert ratio(latency, "energy") == ratio(peak(factored(ANALOG, area=5.0)), "energy") == 1.0
    area = peak(factored(ANALOG, area=5.0))
    moved = {"area": 5, "density": 1 / 5, "rate": 1}
    assert {name: pytest.approx(ratio(area, name), rel=1e-5) for name in moved} == moved


def test_a_factor_moves_the_cost_of_a_plan_alike():
    """What a language model costs: every row of the arrays, and none of the digital unit."""
    config, unit = load_model("tiny-stories").config, preset("digital-28nm")
    of = lambda device: cost(place(config, inference_system(device, unit)), prompt=8, generate=4)
    plain, moved = of(ANALOG), of(factored(ANALOG, energy=2.0))
    slower, larger = of(factored(ANALOG, latency=3.0)), of(factored(ANALOG, area=5.0))

    def figure(run, name, component):
        ledger = run.decode.ledger.by_component()
        return float(getattr(ledger, name)[ledger.components.index(component)])

    for component in ("adc", "cells", "lines", "bus"):
        assert figure(moved, "energy", component) == pytest.approx(2 * figure(plain, "energy", component), rel=1e-5)
    for component in ("adc", "cells"):
        assert figure(slower, "latency", component) == pytest.approx(3 * figure(plain, "latency", component), rel=1e-5)
        assert figure(larger, "area", component) == pytest.approx(5 * figure(plain, "area", component), rel=1e-5)
    assert moved.latency == pytest.approx(plain.latency) and moved.area == pytest.approx(plain.area)
    assert moved.energy_per_token > plain.energy_per_token


def test_operations_are_never_counted_by_the_bit():
    """Databases and titles divide by 1b x 1b: a chip at 8 x 8 bits would look 64 times as good."""
    wide, narrow = peak(DIGITAL), peak(replace(DIGITAL, {"input_bits": 4, "weight_bits": 4}))
    assert wide.operations == narrow.operations == 2 * 32 * 6
    assert float(narrow.rate) == pytest.approx(2 * float(wide.rate))  # half of the cycles, not an eighth of the bits
    assert float(narrow.efficiency) / float(wide.efficiency) < 8


def test_efficiency_and_density_are_of_one_supply():
    """Titles give TOPS/W of the lowest supply and TOPS/mm2 of the highest (Chih, ISSCC 2021: 0.72 V and another)."""
    low, high = (peak(replace(DIGITAL, {"vdd": vdd, "clock": clock})) for vdd, clock in ((0.6, 1e8), (0.9, 2e8)))
    assert float(low.efficiency) > float(high.efficiency) and float(low.density) < float(high.density)
    assert float(low.energy / high.energy) == pytest.approx((0.6 / 0.9) ** 2, rel=1e-2)  # but for leakage
    for found in (low, high):  # power density is what connects the two: nobody can take one of each
        assert float(found.density / found.efficiency) == pytest.approx(float(found.power / found.area), rel=1e-6)


# Arrays, gradients, what is printed


def test_it_follows_statistics_in_one_call():
    some = pim.cost(ANALOG, (64, 64))
    measured = pim.peak(ANALOG, operands=None, shape=(np.array([32, 64]), 64))
    assert measured.rate.shape == (2,) and float(measured.energy[1]) == pytest.approx(float(some.energy), rel=1e-6)
    with pytest.raises(StudyError, match="is no table"):
        str(measured)


def test_it_has_gradients():
    def efficiency(vdd):
        macro: AnalogMacro = jax.tree.map(lambda value: value, ANALOG.model)
        return peak(pim.devices.record.replace_at(macro, "vdd", lambda old, field: vdd)).efficiency

    slope = jax.grad(efficiency)(jnp.float32(0.9))
    assert np.isfinite(slope) and slope < 0
    step = 1e-2
    by_hand = (efficiency(jnp.float32(0.9 + step)) - efficiency(jnp.float32(0.9 - step))) / (2 * step)
    assert float(slope) == pytest.approx(float(by_hand), rel=1e-2)


def test_it_is_printed_for_people_and_for_programs():
    text = str(peak(DIGITAL, copies=64))
    assert "32 inputs, 6 outputs, 64 side by side" in text
    assert "1.198 TOPS, " in text and "TOPS/W" in text and "fJ/MAC" in text and "mm²" in text
    assert "each further one adds" in text and "adder_tree" in text
    told = json.loads(json.dumps(peak(DIGITAL).to_dict(), allow_nan=False))
    assert told["shape"] == [32, 6] and told["units"]["density"] == "1/(s m^2)"
    assert "unknown" in str(peak(preset("dram-upmem")))
