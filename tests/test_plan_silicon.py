"""Runs as silicon: tiles that hold every weight once, dies and their yield, rates by area and power."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.costs.costing import cost
from pim.costs.plan_silicon import RETICLE, die_yield
from pim.devices.catalogue import preset
from pim.errors import StudyError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import Phase, operator_paths, products
from pim.mapping.encoding import encoding_of
from pim.mapping.errors import MappingError
from pim.mapping.fit import fit_of, rows_of, tiles_of
from pim.mapping.plan import place
from pim.mapping.system import DIGITAL_RULES, System, inference_system

UNIT = preset("digital-28nm")
CONFIG = llama_config(300, 96, 250, 3, 6, 2, 16)
MACROS = ("rram-techC", "sram-digital28", "pcm-hermes-1")


@pytest.mark.parametrize("name", MACROS)
def test_tiles_hold_every_weight_once(name):
    """Against a slow walk over the matrices, block by block."""
    plan = place(CONFIG, inference_system(preset(name), UNIT))
    macro = plan.system.devices["weights"].model
    wide = tiles_of(macro, rows_of(macro), 1) and (
        macro.outputs
        if hasattr(macro, "outputs")
        else encoding_of(macro).outputs_per_array(macro.columns, macro.slices)
    )
    arrays = held = 0
    for product in products(CONFIG, Phase()):
        if plan.assignment[product.path] != "weights":
            continue
        for row in range(0, product.n_in, rows_of(macro)):
            for column in range(0, product.n_out, wide):
                arrays += 1
                held += min(rows_of(macro), product.n_in - row) * min(wide, product.n_out - column)
    found = fit_of(CONFIG, plan.assignment, "weights", macro)
    assert (found.arrays, found.values) == (arrays, held)
    assert found.values == sum(p.held for p in products(CONFIG, Phase()) if plan.assignment[p.path] == "weights")
    assert 0 < found.utilisation <= 1 and found.room == arrays * rows_of(macro) * wide


def test_a_chip_that_is_too_small_says_what_is_missing():
    need = fit_of(CONFIG, dict.fromkeys(operator_paths(CONFIG), "w"), "w", preset("rram-techC").model).arrays
    devices = {"weights": preset("rram-techC"), "digital": UNIT}
    rules = [(pattern, "digital") for pattern in ("*.attention.qk", "*.attention.pv")]
    place(CONFIG, System(devices, rules, counts={"weights": need}))
    with pytest.raises(MappingError, match=f"weights: the model needs {need} tiles of 64 rows, has {need - 1}"):
        place(CONFIG, System(devices, rules, counts={"weights": need - 1}))
    with pytest.raises(MappingError, match="has 1"):  # the decode's placement counts too
        rules = [
            *DIGITAL_RULES,
            ("*.ffn.down", "digital", "prefill"),
            ("*.attention.*", "digital"),
            ("*.up", "digital"),
        ]
        place(CONFIG, System(devices, [*rules, ("*.gate", "digital")], counts={"weights": 1}))


def test_figures_follow_from_the_run():
    run = cost(place(CONFIG, inference_system(preset("rram-techC"), UNIT)), prompt=16, generate=4)
    found = run.silicon()
    macro = preset("rram-techC").model
    assert found.cells == found.arrays["weights"].arrays * macro.rows * macro.columns
    assert found.area == run.area and found.reticles == pytest.approx(run.area / RETICLE) and found.dies == 1
    assert found.tokens_per_second_mm2 == pytest.approx(run.tokens_per_second / (run.area * 1e6))
    macs = [sum(p.macs for p in products(CONFIG, Phase(context=16 + i))) for i in range(1, 5)]
    assert found.operations_per_joule == pytest.approx(2 * sum(macs) / float(run.decode.energy), rel=1e-5)
    leaking = run.decode.ledger.by_component()
    energy = float(leaking.energy[leaking.components.index("leakage")])
    assert found.idle_energy_per_token == pytest.approx(energy / 4, rel=1e-5)
    assert "TOPS/W" in str(found) and found.to_dict()["arrays"]["weights"]["arrays"] == found.arrays["weights"].arrays


def test_what_a_device_does_not_tell_stays_unknown():
    found = cost(place(CONFIG, System({"npu": preset("npu-int8")})), prompt=16, generate=2).silicon()
    assert np.isnan(found.area) and np.isnan(found.dies) and np.isnan(found.die_yield) and not found.arrays
    assert "unknown" in str(found) and found.to_dict()["area"] is None


def test_large_models_take_many_dies():
    found = cost(place("llama-2-7b", inference_system(preset("rram-wan2022"), UNIT)), prompt=4, generate=1).silicon()
    assert found.dies == np.ceil(found.area / RETICLE) > 10
    assert found.cells > 6_476_005_376


@given(st.floats(1e-7, 8e-4), st.integers(1, 2000), st.integers(0, 20), st.floats(0.0, 1e4))
def test_spare_arrays_never_lower_the_yield(area, arrays, spares, defects):
    """Of dies of the same area for each array."""
    none = die_yield(area, arrays, 0, defects)
    some = die_yield(area * (arrays + spares) / arrays, arrays, spares, defects)
    assert 0 <= none <= some + 1e-12 <= 1 + 2e-12


def test_the_yield_of_dies_is_the_textbooks():
    assert die_yield(1e-4, 1, 0, 1000.0) == pytest.approx((1 + 0.1 / 3) ** -3)
    assert die_yield(1e-4, 1, 0, 1000.0, clustering=1e9) == pytest.approx(np.exp(-0.1), rel=1e-6)
    assert die_yield(1e-4, 50, 0, 0.0) == 1.0
    rng = np.random.default_rng(0)
    bad = rng.random((20_000, 12)) > (1 + 3e-4 * 1000 / 12 / 3) ** -3
    assert die_yield(3e-4, 10, 2, 1000.0) == pytest.approx((bad.sum(axis=1) <= 2).mean(), abs=0.004)


def test_what_makes_no_sense_is_refused():
    run = cost(place(CONFIG, inference_system(preset("rram-techC"), UNIT)), prompt=4, generate=1)
    for wrong in ({"spares": -0.1}, {"defects": float("nan")}):
        with pytest.raises(StudyError, match="finite, and 0 or more"):
            run.silicon(**wrong)
