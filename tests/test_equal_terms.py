"""Designs on equal terms: the same bits, the best batch of each, equal area, power and loss."""

from dataclasses import replace

import numpy as np
import pytest

import pim
from pim.costs.comparison import compare
from pim.errors import StudyError
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system
from pim.mapping.widths import Widths, widths
from pim.on_equal_terms import Setting, equal_terms

UNIT = pim.preset("digital-28nm")
HEAD, QK, PV = ("head", "digital"), ("*.attention.qk", "digital"), ("*.attention.pv", "digital")


def _gpu(name):
    return System({"gpu": pim.preset(name)}, name=name)


def _arrays(name, **changes):
    """Matrices in arrays, all else on a digital unit."""
    system = System({"arrays": pim.preset(name), "digital": UNIT}, [HEAD, QK, PV], name=name)
    return system.replace({f"arrays.{field}": value for field, value in changes.items()})


INT8 = replace(load_system("sram-digital"), name="INT8")
INT4 = replace(INT8.replace({"arrays.weight_bits": 4, "arrays.input_bits": 4}), name="INT4")


@pytest.mark.parametrize(
    ("system", "bits", "printed"),
    [
        (_gpu("gpu-a100"), (16, 16, 16), "W16A16KV16"),
        (_gpu("gpu-a100-w8a8"), (8, 8, 8), "W8A8KV8"),
        (_gpu("gpu-h100-w4a16"), (4, 16, 16), "W4A16KV16"),
        (INT4, (4, 4, 4), "W4A4KV4"),
        (_arrays("sram-digital28", weight_bits=4), (4, 8, 16), "W4A8KV16"),
        (load_system("attacc"), (16, 16, 16), "W16A16KV16"),
        (_arrays("rram-wan2022"), (None, 8, 16), "W~A8KV16"),
        (System({"ideal": pim.preset("ideal")}), (None, None, None), "W~A~KV~"),
    ],
)
def test_bits_are_those_of_the_devices(system, bits, printed):
    found = widths(place("llama-2-7b", system))
    assert found == bits and str(found) == printed


def test_bits_agree_where_both_have_some():
    assert Widths(8, 8, 8).agrees(Widths(8, 8, 8)) and not Widths(8, 8, 8).agrees(Widths(4, 8, 8))
    assert Widths(None, 8, 8).agrees(Widths(4, 8, 8)) and Widths(4, 8, 8).agrees(Widths(None, 8, 8))
    assert not Widths(None, 6, 8).agrees(Widths(None, 8, 8))


@pytest.fixture(scope="module")
def table():
    """A GPU in three formats, and digital arrays in two."""
    gpus = [_gpu("gpu-a100"), _gpu("gpu-a100-w8a8"), "h100"]
    designs = {"GPU": gpus, "arrays": [INT8, INT4]}
    return equal_terms("llama-2-7b", designs, prompt=2048, generate=1, longest=0.05)


def test_each_setting_is_at_its_own_best_batch(table):
    for row in table.rows[:2]:
        asked = {"batch": "best", "prompt": 2048, "generate": 1, "longest": 0.05, "maximise": "tokens_per_joule"}
        alone = compare("llama-2-7b", _gpu(row.setting), **asked).rows[0]
        assert row.figures == alone and alone.latency <= 0.05
    gpus, arrays = ([row.figures.batch for row in table.rows if row.design == name] for name in ("GPU", "arrays"))
    assert min(gpus) >= 16 and arrays == [1, 1], "weights are read once a batch, but multiplied in place for each"


def test_each_is_held_against_the_same_bits(table):
    of = {row.setting: row for row in table.rows}
    assert of["INT8"].against == "gpu-a100-w8a8" and of["INT8"].same_bits
    assert of["INT4"].against == table.best()["GPU"].setting and not of["INT4"].same_bits
    assert of["gpu-a100-w8a8"].equal_area == of["gpu-a100-w8a8"].equal_power == 1.0
    assert of["gpu-a100"].against == "h100"  # of those with 16 bits the more frugal


def test_ratios_are_of_densities_and_of_tokens_a_joule(table):
    figures = {row.setting: row.figures for row in table.rows}
    for row in table.rows:
        other = figures[row.against]
        mine = row.figures
        assert row.equal_power == pytest.approx(other.energy_per_token / mine.energy_per_token, rel=1e-5)
        density = mine.tokens_per_second / mine.area / (other.tokens_per_second / other.area)
        assert row.equal_area == pytest.approx(density, rel=1e-5)


def test_the_table_says_on_which_terms(table):
    printed = str(table)
    assert "2049 tokens behind" in printed and "(other bits)" in printed and "W8A8KV8" in printed
    best = [line for line in printed.splitlines() if line.startswith("* ")]
    assert [line.split()[1] for line in best if not line.startswith("*:")] == ["GPU", "arrays"]
    rows = table.to_dict()["rows"]
    assert len(rows) == 5 and rows[0]["bits"] == "W16A16KV16" and rows[0]["figures"]["batch"] > 1


def test_equal_loss_takes_the_most_frugal_setting_that_is_within():
    formats = System({"gpu": pim.formatted(weights="int2:channel")}, name="two bits")
    designs = {
        "GPU": [_gpu("gpu-a100-w8a8"), Setting(_gpu("gpu-a100-w4a16"), emulated=formats)],
        "arrays": [INT8, INT4],
    }
    asked = {"batch": 8, "chips": 1, "tokens": 200, "progress": False}
    found = equal_terms("tiny-stories", designs, text=story_text(2, 3), limit=0.01, **asked)
    of = {row.setting: row for row in found.rows}
    loss = {row.setting: row.loss for row in found.rows if row.loss is not None}
    assert abs(loss["INT8"]) < 0.01 < loss["INT4"]
    assert of["INT4"].figures.energy_per_token < of["INT8"].figures.energy_per_token
    assert found.best()["arrays"].setting == "INT8"
    assert loss["gpu-a100-w4a16"] > 0.01, "its losses are those of what it is emulated with"
    alone = pim.evaluate(place("tiny-stories", formats), story_text(2, 3), chips=1, tokens=200, progress=False)
    assert loss["gpu-a100-w4a16"] == pytest.approx(alone.points[0].difference.mean)
    assert "within 0.01 nat" in str(found)


@pytest.mark.parametrize(
    ("designs", "options", "words"),
    [
        ({}, {}, "no designs"),
        ({"GPU": []}, {}, "design 'GPU' has no setting"),
        ({"GPU": ["a100"]}, {"reference": "GPUs"}, "reference = 'GPUs'.*GPU"),
        ({"GPU": ["a100"]}, {"limit": 0.1}, "no text to find losses on"),
        ({"GPU": ["a100"]}, {"text": "once"}, "losses need the model's weights"),
        ({"GPU": ["a100"]}, {"longest": 1e-9}, "none takes at most"),
        ({"GPU": ["a100"]}, {"batch": 0}, "batch"),
        ({"GPU": ["a100"]}, {"maximise": "speed"}, "maximise = 'speed'"),
        ({"AttAcc": ["attacc"]}, {"maximise": "tokens_per_second_mm2"}, "attacc: its tokens_per_second_mm2 are not"),
    ],
)
def test_terms_that_make_no_sense_are_refused(designs, options, words):
    with pytest.raises(StudyError, match=words):
        equal_terms("llama-2-7b", designs, **options)


def test_ranges_need_a_text_of_their_own():
    with pytest.raises(StudyError, match="give calibration="):
        equal_terms("tiny-stories", {"ReRAM": [_arrays("rram-wan2022")]}, text=story_text(2, 1))


def test_an_unknown_area_is_unknown_and_not_nothing():
    found = equal_terms("llama-2-7b", {"GPU": ["a100"], "NPU": [System({"npu": pim.preset("npu-int8")})]}, batch=1)
    npu = found.best()["NPU"]
    assert np.isnan(npu.equal_area) and np.isfinite(npu.equal_power)
    assert found.to_dict()["rows"][1]["equal_area"] is None and "unknown" in str(found)
