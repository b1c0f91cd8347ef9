"""A Llama block as CENT maps it on GDDR6-AiM takes the cycles that its artifact lists, with nothing fitted to them."""

import json
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from pim import cent_block
from pim.cent_block import BlockTime, block_time
from pim.costs.bank_vectors_cost import time_beside
from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError
from pim.devices.record import fields_of
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.families.llama import llama_config
from pim.mapping.plan import place
from pim.mapping.system import System

DEVICE = preset("dram-aim-cent")
T_CK = 0.5e-9
SHAPES = {
    "Llama2-7B": (4096, 32, 32, 11008, 32),
    "Llama2-13B": (5120, 40, 40, 13824, 40),
    "Llama2-70B": (8192, 64, 8, 28672, 80),
}


def llama(name: str, **changes: Any) -> ModelConfig:
    width, heads, key_heads, inner, layers = SHAPES[name]
    fields = {
        "vocab_size": 32000,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": width // heads,
        "max_position_embeddings": 4096,
    }
    return llama_config(**(fields | changes))


def total(name: str, context: Any, channels: int, tensor_parallel: int = 1, device: Any = DEVICE) -> np.ndarray:
    found = block_time(device, llama(name), context, channels=channels, tensor_parallel=tensor_parallel)
    return np.asarray(found.total)


def cycles(terms: Any) -> int:
    return round(float(terms) / T_CK)


# Against the artifact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "context", "artifact"),
    [
        ("Llama2-7B", 32, 128, 59.040e-6),
        ("Llama2-7B", 32, 4096, 100.4465e-6),
        ("Llama2-70B", 10, 128, 666.960e-6),
        ("Llama2-70B", 10, 4096, 927.081e-6),
    ],
)
def test_a_block_takes_the_time_that_cent_publishes(name, channels, context, artifact):
    """`simulation_results.csv` of CENT's artifact, to 0.4 %: 25 % are asked for."""
    assert total(name, context, channels) == pytest.approx(artifact, rel=4e-3)


def rows(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "golden" / "dram_pim_cycles.json").read_text())["cent_artifact_rows"]


def test_every_row_of_the_artifact_is_met(shared):
    found = rows(shared)
    assert len(found) == 12
    for row in found:
        channels, split, context = (
            int(row[key]) for key in ("Channels per block", "Tensor parallelism", "Sequence length")
        )
        ours = total(row["Model"], context, channels, split)
        assert ours == pytest.approx(row["PIM latency"] * 1e-3, rel=4e-3), row


def test_attention_grows_with_the_context_as_in_the_artifact(shared):
    """The slope from 512 to 4096 tokens, 7 to 65 ns a token, to 0.3 %: 40 % are asked for."""
    points = {}
    for row in rows(shared):
        key = (row["Model"], int(row["Channels per block"]), int(row["Tensor parallelism"]))
        points.setdefault(key, {})[int(row["Sequence length"])] = row["PIM latency"] * 1e-3
    assert len(points) == 6
    for (name, channels, split), latency in points.items():
        ours = np.diff(total(name, np.array([512, 4096]), channels, split))[0]
        assert ours == pytest.approx(latency[4096] - latency[512], rel=3e-3), name


def test_blocks_split_over_devices_are_met_too():
    """Rows of the same file that split the matrices over 8 and 20 devices: the norms' tail is 1 % there."""
    assert total("Llama2-7B", 128, 32, 8) == pytest.approx(18.9785e-6, rel=0.011)
    assert total("Llama2-7B", 4096, 32, 8) == pytest.approx(47.729e-6, rel=0.006)
    assert total("Llama2-13B", 4096, 32, 20) == pytest.approx(62.079e-6, rel=0.002)


def test_the_matrices_take_what_their_traces_take(shared):
    """All seven matrices of 70B on 10 channels with 32 registers, `up` for the gate too: to the changes of the mode."""
    check = json.loads((shared / "golden" / "dram_pim_cycles.json").read_text())["cent_block_check"]
    times = block_time(DEVICE, llama("Llama2-70B"), 128, channels=10)
    ours = sum(cycles(getattr(times, name)) for name in ("q", "k", "v", "o", "up", "up", "down"))
    assert abs(ours - check["fc_closed_form_cycles"]) <= 4 * 32


def test_lines_are_those_of_the_traces():
    """A front end of half the speed takes another cycle for each W MEM and R MEM, but those that write a key.

    CENT's trace of 7B on 32 channels at 4096 tokens has 39,424 and 17,664 of them, 256 for the key; that of 70B on 10
    channels 233,160 and 106,824, 192 for the key.
    """
    slow = replace(DEVICE, {"attention.front.lines_per_cycle": 0.5})
    for name, channels, lines in (("Llama2-7B", 32, 39424 + 17664 - 256), ("Llama2-70B", 10, 233160 + 106824 - 192)):
        longer = total(name, 4096, channels, device=slow) - total(name, 4096, channels)
        store = [block_time(d, llama(name), 4096, channels=channels).key_store for d in (slow, DEVICE)]
        assert store[0] == store[1]
        assert longer / T_CK == pytest.approx(lines, abs=1)


# Parts --------------------------------------------------------------------------------------------------------------


def test_parts_add_up_and_grow_with_the_context():
    context = np.arange(1, 4097, 41)
    times = block_time(DEVICE, llama("Llama2-7B"), context)
    parts = np.array([getattr(times, name) for name in fields_of(BlockTime)])
    assert parts.shape == (15, len(context)) and (parts > 0).all()
    np.testing.assert_allclose(times.total, parts.sum(axis=0), rtol=1e-6)
    grown = {name for name in fields_of(BlockTime) if np.ptp(getattr(times, name)) > 0}
    assert grown == {"score", "softmax_traffic", "context"}
    assert (np.diff(times.total) >= 0).all()


def test_the_parts_are_those_of_the_derivation():
    """7B on 32 channels at 128 tokens, command by command: cycles of 0.5 ns."""
    times = block_time(DEVICE, llama("Llama2-7B"), 128)
    found = {name: cycles(getattr(times, name)) for name in fields_of(BlockTime)}
    assert found["q"] + found["k"] + found["v"] + found["o"] == 32528
    assert found["gate"] + found["up"] + found["activation"] + found["down"] == 66081 + 3286
    rest = ("norm", "rotary", "score", "softmax_traffic", "context")
    assert [found[name] for name in rest] == [3976, 3260, 3648, 1756, 1440]
    assert found["key_store"] == 4 * 227 and found["value_store"] == 8 * 101


def slow_attention(channels: int, dim: int, tokens: int, queries: int, keys: int) -> tuple[int, int, int]:
    """Cycles of scores, of their softmax's traffic and of contexts, command by command, from the intervals of AiM."""
    read, opening, product = 32 + 5 + 1 + 32, 32 + 56, 6 + 33 + 32 + 25 - 2
    heads = [f"{key}.{query}" for key in range(keys) for query in range(queries)]
    score = 32
    for _ in range(0, tokens, 16 * channels):  # a row of keys in every bank
        for first in range(0, keys, 1024 // dim):
            score += opening
            for _ in range(queries):
                for _ in range(first, min(first + 1024 // dim, keys)):
                    score += 2 * (dim // 16) + 2 * (dim // 16) + read  # into the buffer; multiplied; read
    traffic, blocks = 0, max(32 // channels, 1)
    groups = [0] * (4 * channels)  # of banks: heads whose scores they hold
    for head in range(len(heads)):
        groups[head // -(-len(heads) // len(groups))] += 1
    for _ in ("scale", "sum"):
        for _ in heads:
            traffic += sum(3 * blocks for _ in range(0, tokens, 16))  # scores, factor, products
        for _ in range(max(groups)):
            for start in range(0, tokens, 1024):
                traffic += product + sum(2 for _ in range(start, min(start + 1024, tokens), 16))
    context = 32
    for _ in range(0, keys, channels):
        for _ in range(queries):
            for start in range(0, tokens, 1024):
                columns = len(range(start, min(start + 1024, tokens), 16))
                context += 2 * columns
                for _ in range(dim // 16):
                    context += opening + 2 * columns + read
    return score, traffic, context


@pytest.mark.parametrize(
    "sizes", [(32, 128, 513, 1, 32), (10, 128, 4096, 8, 8), (16, 128, 1025, 1, 40), (2, 64, 100, 2, 33)]
)
def test_attention_is_a_slow_loop_over_its_commands(sizes):
    channels, dim, tokens, queries, keys = sizes
    model = replace(DEVICE, {"banks.channels": channels}).model
    scores = Work("score", dim, tokens, queries, keys)
    score, traffic = (
        take(model.memory, scores).cycles.total for take in (model.attention.score, model.attention.softmax)
    )
    context = model.attention.context(model.memory, Work("context", tokens, dim, queries, keys)).cycles.total
    assert (score, traffic, context) == slow_attention(*sizes)


def test_contexts_models_and_figures_are_one_compilation():
    config = llama("Llama2-7B")
    times = block_time(DEVICE, config, np.arange(1, 101))
    before = cent_block._times._cache_size()
    quick = replace(DEVICE, {"timing.n_rp": 30})
    block_time(quick, llama("Llama2-70B"), np.arange(101, 201), channels=16, tensor_parallel=2)
    assert cent_block._times._cache_size() == before
    assert times.total.shape == (100,)
    assert times.total[41] == pytest.approx(float(block_time(DEVICE, config, 42).total))


def test_every_figure_is_the_devices_own():
    """All cycles scale with the clock, and attention has no mode or buffer of its own beside the kernel's."""
    config = llama("Llama2-7B")
    derivative = jax.grad(lambda t: block_time(replace(DEVICE, {"timing.t_ck": t}), config, 2048).total)(T_CK)
    assert float(derivative) == pytest.approx(float(block_time(DEVICE, config, 2048).total) / T_CK, rel=1e-5)
    quick = replace(DEVICE, {"kernel.n_mode": 16})
    saved = block_time(DEVICE, config, 128).score - block_time(quick, config, 128).score
    assert cycles(saved) == 16 * (2 * 32 + 1)


# Through the usual door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels", "context"), [("Llama2-7B", 32, 4096), ("Llama2-70B", 10, 128)])
def test_a_plan_on_the_preset_takes_the_time_of_the_block_and_of_what_is_beside(name, channels, context):
    device = replace(DEVICE, {"banks.channels": channels})
    config = llama(name, num_hidden_layers=1)
    run = cost(place(config, System({"weights": device})), prompt=context - 1, generate=1)
    ledger = run.decode.ledger
    own = [i for i, path in enumerate(ledger.operators) if path.startswith("layers.0.")]
    found, block = float(ledger.latency[np.array(own)].sum()), block_time(device, config, context)
    work = {"norm": 2, "rope": 1, "softmax": 1}
    beside = sum(times * time_beside(device.model, config, kind, np.array(context)) for kind, times in work.items())
    assert found == pytest.approx(float(block.total + beside), rel=0.01)
    assert 0.01 < beside / block.total < 0.2


def test_scores_cost_what_their_parts_cost():
    score = cost(DEVICE, (128, 4096), operation="score", copies=32)
    block = block_time(DEVICE, llama("Llama2-7B"), 4096)
    assert float(score.latency) == pytest.approx(float(block.score + block.softmax_traffic))
    assert 0 < float(score.energy) < np.inf


def test_softmax_elsewhere_costs_nothing_at_the_banks():
    elsewhere = replace(DEVICE, {"attention.passes": 0})
    times = block_time(elsewhere, llama("Llama2-7B"), 4096)
    assert times.softmax_traffic == 0
    energies = [cost(d, (128, 4096), operation="score", copies=32).ledger.energy.sum() for d in (elsewhere, DEVICE)]
    assert energies[0] < 0.6 * energies[1]


def test_the_preset_is_dram_aim_with_another_mapping():
    aim = preset("dram-aim").model
    assert DEVICE.model.refresh is None and DEVICE.model.kernel.registers == 32
    same = [getattr(DEVICE.model, name) == getattr(aim, name) for name in ("banks", "timing", "energy", "arithmetic")]
    assert all(same)


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: block_time(preset("dram-aim"), llama("Llama2-7B"), 128), "not dram-aim: take .*dram-aim-cent"),
        (lambda: block_time(None, llama("Llama2-7B"), 128), "not a NoneType"),
        (lambda: block_time(DEVICE, llama("Llama2-7B"), [128, 0]), "context must be a whole number of at least 1"),
        (lambda: block_time(DEVICE, llama("Llama2-7B"), 1.5), "context must be a whole number"),
        (lambda: block_time(DEVICE, llama("Llama2-7B"), 128, channels=0), "channels must be a whole number"),
        (lambda: block_time(DEVICE, llama("Llama2-7B"), 128, tensor_parallel="2"), "tensor_parallel must be"),
        (lambda: block_time(DEVICE, llama("Llama2-70B"), 128, channels=6), "28672 numbers .* give 7 channels or more"),
    ],
)
def test_what_has_no_known_layout_is_refused(call, words):
    with pytest.raises(StudyError, match=words):
        call()


def test_attention_needs_units_to_run_on():
    model = with_fields(DEVICE.model, kernel=preset("dram-hbm-pim").model.kernel)
    with pytest.raises(DeviceError, match="kernel is a LockstepKernel: take an AllBankKernel"):
        cost(model, (128, 128), operation="score")
