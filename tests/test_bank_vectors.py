"""Vector work at the banks and beside them: CENT's block, part by part, and what its artifact lists."""

import json

import numpy as np
import pytest

from pim.cent_block import block_time
from pim.costs.bank_vectors_cost import does_vectors, vector_ledger
from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import Phase, vector_work
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system

DEVICE = preset("dram-aim-cent")
NAMES = {"Llama2-7B": "llama-2-7b", "Llama2-13B": "llama-2-13b", "Llama2-70B": "llama-2-70b"}


def on(channels: int):
    return replace(DEVICE, {"banks.channels": channels})


def beside(device, config, context: int) -> float:
    """Time of a block's vector work beside the memory alone."""
    without = replace(device, {"attention.accelerators": None})
    work = [w for w in vector_work(config, Phase(context=context)) if w.path.startswith("layers.0.")]
    time = lambda model: sum(float(vector_ledger(model, config, w, 1, context).latency.sum()) for w in work)
    return time(device.model) - time(without.model)


def test_the_units_beside_the_memory_are_those_of_the_artifact(shared):
    """To four digits: 1 to 40 µs a block, by model, context and blocks on a device."""
    rows = json.loads((shared / "golden" / "dram_pim_cycles.json").read_text())["cent_artifact_rows"]
    checked = 0
    for row in rows:
        if row["Tensor parallelism"] != 1:
            continue
        config, context = known_shape(NAMES[row["Model"]]), int(row["Sequence length"])
        ours = beside(on(int(row["Channels per block"])), config, context)
        assert ours == pytest.approx(row["Acc latency"] * 1e-3, rel=1e-3)
        checked += 1
    assert checked >= 5


def test_a_step_is_a_block_of_every_layer():
    """Products, attention and vector work of a plan are the block that CENT runs, but for rows left open between."""
    config = known_shape("llama-2-7b")
    bare = replace(on(8), {"attention.accelerators": None})
    step = cost(place(config, System({"pim": bare})), batch=1, context=np.array([512, 2304, 4096]))
    head = np.asarray(step.ledger.latency)[[o in ("head", "norm") for o in step.ledger.operators]].sum(axis=0)
    block = np.asarray(block_time(DEVICE, config, [512, 2304, 4096], channels=8).total)
    np.testing.assert_allclose((np.asarray(step.latency) - head) / 32, block, rtol=0.015)


def test_other_memories_leave_vector_work_to_a_unit():
    assert does_vectors(DEVICE.model) and not does_vectors(preset("dram-aim").model)
    assert not does_vectors(preset("gpu-a100").model)
    step = cost(place("llama-2-7b", System({"pim": preset("dram-aim")})), batch=1, context=512)
    assert any("vector work" in note and "no device" in note for note in step.notes)


@pytest.mark.parametrize(
    ("name", "model", "rate"), [("cent-7b", "llama-2-7b", 2850.5), ("cent-70b", "llama-2-70b", 1150.8)]
)
def test_tokens_a_second_of_a_pipeline(name, model, rate):
    system = load_system(name)
    contexts = 512 + np.arange(1, 3585, 64)
    step = cost(place(model, system), batch=system.micro_batches, context=contexts)
    assert system.micro_batches / np.asarray(step.latency).mean() == pytest.approx(rate, rel=0.25)
