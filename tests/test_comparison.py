"""Models on systems side by side, each at its best batch, and what has room; the sizes and speed of the whole table."""

import time

import numpy as np
import pytest

from pim.costs.capacity import fits, held_bytes, room
from pim.costs.comparison import compare
from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.errors import StudyError
from pim.llm_workloads.known_shapes import known_shape
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system

STACK = preset("dram-attacc")


def test_rows_are_steps_half_way_through():
    found = compare("llama-2-7b", ["a100", "dgx-a100"], batch=4, prompt=100, generate=51)
    assert [row.system for row in found.rows] == ["a100", "dgx-a100"] and found.context == 126
    for row in found.rows:
        step = cost(place("llama-2-7b", load_system(row.system)), batch=4, context=126)
        assert row.tokens_per_second == pytest.approx(float(step.tokens_per_second))
        assert row.energy_per_token == pytest.approx(float(step.energy_per_token))
    assert "dgx-a100" in str(found) and found.to_columns()["batch"] == [4, 4] and len(found.to_dict()["rows"]) == 2


def test_a_pipeline_is_given_a_sequence_for_each_of_its_parts():
    system = System({"gpu": preset("gpu-a100")}, counts={"gpu": 4}, pipeline=4, micro_batches=4, name="staged")
    assert [compare("gpt2", system, batch=b).rows[0].batch for b in (1, 4, 7, 9)] == [4, 4, 4, 8]


def test_what_is_held_is_weights_keys_and_values():
    config = known_shape("llama-2-7b")
    plan = place(config, System({"pim": STACK}, counts={"pim": 4}))
    held = held_bytes(plan, np.array([1, 8]), 1000)["pim"]
    weights = sum(i * o for i, o in config.matrix_shapes.values()) * 32 + 32000 * 4096
    keys = 2 * 32 * 4096 * 1000
    np.testing.assert_allclose(held, [2 * (weights + keys), 2 * (weights + 8 * keys)])
    assert room(plan, "pim") == 4 * float(STACK.model.banks.capacity)
    assert fits(plan, np.array([1, 8]), 1000).tolist() == (held <= room(plan, "pim")).tolist()


def test_the_best_batch_is_the_quickest_that_has_room():
    system = System({"pim": STACK}, counts={"pim": 4}, name="stacks")
    found = compare("llama-2-7b", system, batch="best", prompt=1000, generate=1).rows[0]
    plan = place("llama-2-7b", system)
    sizes = 2 ** np.arange(13)
    rates = np.where(fits(plan, sizes, 1001), cost(plan, batch=sizes, context=1001).tokens_per_second, -1)
    assert found.batch == sizes[np.argmax(rates)] and found.fits
    quick = compare("llama-2-7b", system, batch="best", prompt=1000, generate=1, longest=found.latency * 0.6).rows[0]
    assert quick.batch < found.batch and quick.latency <= found.latency * 0.6
    with pytest.raises(StudyError, match="none takes at most 1e-09 s"):
        compare("llama-2-7b", system, batch="best", longest=1e-9)
    with pytest.raises(StudyError, match="no room even for the smallest batch"):
        compare("llama-2-70b", System({"pim": STACK}), batch="best")


def test_wrong_batches_are_refused():
    with pytest.raises(StudyError, match="give a number, or 'best'"):
        compare("gpt2", "a100", batch="largest")
    with pytest.raises(StudyError, match="batch must be a whole number"):
        compare("gpt2", "a100", batch=0)


MODELS = ("llama-2-7b", "llama-3-8b", "llama-2-70b", "gpt-3-175b", "mixtral-8x7b")


@pytest.mark.slow
def test_ten_thousand_points_are_a_matter_of_seconds():
    """Of the systems that ship, batches and contexts, compiling among them; `benchmarks/systems.py` prints more."""
    names = ("a100", "h100", "dgx-a100")
    began = time.perf_counter()
    batch, context = np.meshgrid(2 ** np.arange(11), 128 * np.arange(1, 305))
    done = 0
    for name in names:
        done += cost(place("llama-2-70b", load_system(name)), batch=batch, context=context).latency.size
    assert done > 10_000 and time.perf_counter() - began < 10
