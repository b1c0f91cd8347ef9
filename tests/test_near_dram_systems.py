"""Published near-DRAM systems: NPUs whose memory computes, GDDR6 and HBM2 with units at the banks, processors, and rows
that multiply bit by bit: nothing is lost or counted twice. What was published of them is in `test_validate.py`."""

import math
from itertools import pairwise

import numpy as np
import pytest

import pim
from pim.costs.near_dram_cost import work_cost
from pim.costs.roofline_cost import product_counts, roofline_cost, vector_counts
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.dram.kernels.bit_serial import product_steps, sum_steps
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import Phase, operator_paths, products, vector_work
from pim.mapping.plan import place
from pim.mapping.system_file import load_system

SYSTEMS = {
    "neupims": "gpt-3-6.7b", "neupims-blocked": "gpt-3-6.7b", "neupims-npu": "gpt-3-6.7b", "neupims-gpus": "gpt-3-6.7b",
    "ianus": "gpt2-medium", "ianus-2": "gpt2-medium", "ianus-npu": "gpt2-medium", "a100-eager": "gpt2-medium",
    "pim-gpt": "gpt2", "t4": "gpt2", "t4-eager": "gpt2", "upmem": "gpt2", "transpim": "gpt2", "rtx2080ti": "gpt2",
    "rtx4090": "gpt2", "gtx1060": "gpt2",
}  # fmt: skip


# Conservation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "model"), SYSTEMS.items())
def test_every_operator_has_a_device_and_is_priced_once(name, model):
    config, system = known_shape(model), load_system(name)
    plan = place(model, system)
    run = pim.cost(plan, batch=2 * system.groups, prompt=8, generate=2)
    for phase, cost in (("prefill", run.prefill), ("decode", run.decode)):
        assignment = plan.in_phase(phase).assignment
        assert sorted(assignment) == sorted(operator_paths(config))
        assert set(assignment.values()) <= set(system.devices)
        ledger, times = cost.ledger, np.asarray(cost.ledger.latency)
        priced = {path for path, time in zip(ledger.operators, times, strict=True) if time > 0}
        assert set(operator_paths(config)) <= priced
        assert float(times.sum()) == pytest.approx(float(cost.latency), rel=1e-5)
        rows = set(zip(ledger.operators, ledger.components, strict=True))
        assert len(rows) == len(ledger.operators), "a row stands twice"


@pytest.mark.parametrize("name", ["neupims", "ianus", "pim-gpt", "upmem"])
def test_every_weight_is_multiplied_once_a_token(name):
    """Multiply-accumulates of the matrices at the banks: those of the model, and padding beside them."""
    model, system = "gpt2", load_system(name)
    plan = place(model, system).in_phase("decode")
    for product in products(known_shape(model), Phase(context=8)):
        where = plan.assignment[product.path]
        device = system.devices[where].model
        if product.dynamic or not hasattr(device, "commands"):
            continue
        done = float(device.commands(Work("gemv", product.n_in, product.n_out)).macs)
        assert product.macs <= done <= 2.1 * product.macs, product.path


# NPUs -----------------------------------------------------------------------------------------------------------------

NPU = preset("npu-neupims")


def spent(model, item):
    counts = vector_counts(model, item) if hasattr(item, "elements") else product_counts(model, item)
    return roofline_cost(model, **counts)


def test_arrays_take_as_long_as_the_blocks_that_are_begun():
    fast = replace(NPU, {"bytes_per_second": 1e18}).model
    for n_in, n_out, vectors in ((128, 128, 128), (1, 1, 1), (129, 256, 200), (4096, 1000, 64)):
        blocks = sum(1 for _ in range(0, n_in, 128) for _ in range(0, n_out, 128) for _ in range(0, vectors, 128))
        sizes = {"n_in": n_in, "n_out": n_out, "vectors": vectors, "matrices": 1}
        found = roofline_cost(fast, operations=2 * n_in * n_out * vectors, **sizes).latency.sum()
        assert float(found) == pytest.approx(blocks * 16e-9, rel=1e-5)  # 16 cycles of eight arrays for each block


def test_arrays_that_are_full_are_an_ordinary_roofline():
    bare = replace(NPU, {"arrays": None}).model
    for product in products(known_shape("gpt-3-6.7b"), Phase(batch=128, context=128)):
        if not product.dynamic and product.path != "head":  # 50,257 outputs fill no blocks
            found, wanted = (float(spent(model, product).latency.sum()) for model in (NPU.model, bare))
            assert found == pytest.approx(wanted), product.path


def test_vector_work_has_a_rate_of_its_own_and_stays_on_the_die():
    (norm, *_), bare = vector_work(known_shape("gpt2"), Phase(batch=64)), replace(NPU, {"between": "memory"}).model
    assert float(spent(NPU.model, norm).latency.sum()) == pytest.approx(norm.ops / 1.024e12, rel=1e-5)
    moved = 2 * norm.elements * 2 / (1.024e12 * 0.933)
    assert float(spent(bare, norm).latency.sum()) == pytest.approx(max(moved, norm.ops / 1.024e12), rel=1e-5)
    (product, *_) = products(known_shape("gpt2"), Phase(batch=64, context=64))
    read = product.read * 2 / (1.024e12 * 0.933)
    assert float(spent(NPU.model, product).latency.sum()) == pytest.approx(read, rel=1e-5)


def test_a_host_is_waited_for_and_large_work_hides_it():
    device = load_system("a100-eager").devices["gpu"]
    eager, gpu = device.model, replace(device, {"launch_interval": None}).model
    small, large = (products(known_shape("gpt2"), Phase(tokens=t, context=t))[0] for t in (1, 100_000))
    assert float(spent(eager, small).latency.sum()) == pytest.approx(float(eager.launch_interval))
    assert float(spent(eager, large).latency.sum()) == pytest.approx(float(spent(gpu, large).latency.sum()))
    assert float(spent(gpu, large).latency.sum()) > float(eager.launch_interval)
    block = [*products(known_shape("gpt2"), Phase(context=8)), *vector_work(known_shape("gpt2"), Phase(context=8))]
    counted = [item for item in block if item.path.startswith("layers.0.") and _starts(gpu, item)]
    assert len(counted) == 11  # what the measured time of a block is shared among


def _starts(gpu, item) -> bool:
    counts = vector_counts(gpu, item) if hasattr(item, "elements") else product_counts(gpu, item)
    return counts["launches"] > 0


# NeuPIMs --------------------------------------------------------------------------------------------------------------


def test_two_row_buffers_hide_the_softmax_and_let_sub_batches_take_turns():
    """Each phase takes the longer of one sub-batch's products and the other's attention, but for the first and last."""
    model, batch, context = "gpt-3-6.7b", 512, 228
    step = pim.cost(place(model, load_system("neupims")), batch=batch, context=context)
    npu, banks = (float(step.busy[name]) / 2 for name in ("npu", "pim"))  # of one sub-batch
    assert max(2 * npu, 2 * banks) < float(step.latency) < 1.05 * (2 * npu) + 2 * banks / 32
    begun = [(slot.sub_batch, float(slot.begin[0]), float(slot.end[0])) for slot in step.run.slots()
             if slot.turn.device == "npu"]  # fmt: skip
    for (_, _, end), (_, begin, _) in pairwise(sorted(begun, key=lambda slot: slot[1])):
        assert begin >= end - 1e-12  # never two at a time on one device
    rows = {kind for kind in step.ledger.operators if "softmax" in kind}
    assert not rows
    blocked = pim.cost(place(model, load_system("neupims-blocked")), batch=batch, context=context)
    assert any("softmax" in kind for kind in blocked.ledger.operators)
    assert float(blocked.latency) == pytest.approx(sum(float(time) for time in blocked.busy.values()), rel=1e-5)


def test_weights_that_are_read_twice_cost_small_batches_the_gain():
    ratio = {}
    for batch in (64, 512):
        blocked, taking_turns = (
            pim.cost(place("gpt-3-6.7b", load_system(name)), batch=batch, context=228).latency
            for name in ("neupims-blocked", "neupims")
        )
        ratio[batch] = float(blocked / taking_turns)
    assert ratio[64] < 1 < ratio[512]


def test_opening_all_banks_is_what_the_simulator_estimates():
    """(8 / 2 - 1) tFAW and tRCD for eight groups of four banks in two ranks: EstimatePIMOperationLatency.

    Here they are seven intervals of one rank, in whole cycles: 91 for 90.
    """
    timing = preset("dram-neupims").model.timing
    assert float(timing.opened(32.0)) == (8 / 2 - 1) * 30 + 1 + 14


# Bit by bit -----------------------------------------------------------------------------------------------------------

ROWS = preset("dram-transpim")


def test_steps_are_those_of_simdram():
    assert [product_steps(n) for n in (8, 16)] == [663, 2735]
    assert [sum_steps(n) for n in (8, 16)] == [65, 129]


@pytest.mark.parametrize(("n_in", "n_out", "vectors"), [(64, 64, 1), (1024, 4096, 3), (4096, 4096, 1)])
def test_products_bit_by_bit_are_rounds_of_all_bit_lines(n_in, n_out, vectors):
    """A slow count: fill bit lines with products until none is left."""
    device = replace(ROWS, {"banks.channels": 2, "banks.banks": 4}).model
    lines, left, rounds = 2 * 4 * 2 * 8192, n_in * n_out * vectors, 0
    while left > 0:
        left, rounds = left - lines, rounds + 1
    commands = device.commands(Work("gemv", n_in, n_out, vectors), alone=True)
    assert float(commands.cycles.mac) == rounds * 663 * 52
    assert float(commands.macs) == n_in * n_out * vectors
    assert float(commands.cycles.readout) == rounds * 8192 * 16 / (256 * 4) * 4  # a column's 4 cycles for each bit
    assert float(commands.cycles.broadcast) == rounds * 2 * 32 * 8 * 4  # eight rows of 32 columns in two subarrays


def test_trees_save_what_rows_would_take_to_add():
    """Notes of TransPIM: without its units sums take several times as long as products."""
    rows = replace(ROWS, {"kernel.trees": 0}).model
    added, treed = (model.commands(Work("gemv", 1024, 4096)).cycles for model in (rows, ROWS.model))
    assert 2 < float(added.readout / added.mac) < 6
    assert float(treed.readout) < 0.1 * float(added.readout)
    levels = math.log2(1024)
    steps = levels * (16 + levels / 2) + levels * (8 * (16 + levels / 2) + 1)
    rounds = math.ceil(1024 * 4096 / (16 * 16 * 2 * 8192))
    assert float(added.readout) == pytest.approx(rounds * steps * 52)


def test_rows_that_compute_have_no_schedule_of_commands():
    with pytest.raises(DeviceError, match="no schedule of DRAM commands"):
        ROWS.model.schedule(Work("gemv", 64, 64))
    priced = work_cost(ROWS.model, 64, 64)
    assert float(priced.latency.sum()) > 0 and np.isfinite(float(priced.energy.sum()))


# UPMEM ----------------------------------------------------------------------------------------------------------------


def test_upmem_is_bound_by_instructions():
    """More bandwidth changes next to nothing, fewer instructions nearly all."""
    plan = place("opt-6.7b", load_system("upmem"))
    times = [
        float(pim.cost(plan.replace(changes), batch=1, context=1).latency)
        for changes in ({}, {"dpus.kernel.dma_per_byte": 0.05}, {"dpus.kernel.instructions_per_mac": 2})
    ]
    assert times[1] == pytest.approx(times[0], rel=0.01)
    assert times[2] == pytest.approx(times[0] / 3, rel=0.05)
