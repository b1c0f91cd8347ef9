"""Systems: products shared by many devices, links, pipelines, phases; the sums that must come out, and bad files."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.costs.collectives import all_reduce
from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.devices.components.link import Link
from pim.devices.errors import DeviceError
from pim.devices.record import cast
from pim.errors import StudyError
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.known_shapes import known_shape, known_shapes
from pim.llm_workloads.operators import Phase, Product, operator_paths, products, run_rank, vector_work
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.schedule import Turn, makespan, merged, schedule
from pim.mapping.system import System
from pim.mapping.system_file import load_system, system_names
from pim.mapping.tensor_parallel import part_of_product, part_of_work

GPU = preset("gpu-a100")
STACK = preset("dram-attacc")
LINK = cast(Link(energy_per_bit=2e-12, bytes_per_second=1e11, latency=1e-6))
CONFIG = llama_config(512, 256, 768, 4, 8, 4, 32, max_position_embeddings=4096)
ATTENTION = [("layers.*.attention.qk", "pim", "decode"), ("layers.*.attention.pv", "pim", "decode")]


def several(count: int, **fields) -> System:
    return System({"gpu": GPU}, counts={"gpu": count}, links={"gpu": LINK}, **fields)


def rows(ledger, component: str) -> np.ndarray:
    return np.asarray(ledger.energy)[[name == component for name in ledger.components]].sum(axis=0)


# Parts of products --------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 500), st.integers(1, 16), st.integers(1, 64))
def test_parts_hold_every_weight_and_every_key(devices, size, batch, context):
    """All parts together do the products of the whole, and no more than the rounding up of one side adds."""
    phase = Phase(batch=batch, tokens=1, context=context)
    config = llama_config(size + 5, 24, size, 1, 6, 3, 4)
    for whole in products(config, phase):
        part, parts = part_of_product(whole, devices)
        assert np.isclose(part.macs * parts, whole.macs) or (not whole.dynamic and part.macs * parts >= whole.macs)
        spare = devices * max(whole.n_in, whole.n_out) * whole.copies
        assert whole.held - 1e-6 <= part.held * parts < whole.held + spare
        assert np.isclose(part.written * parts, whole.written)


def test_matrices_whose_results_are_summed_are_cut_along_their_inputs():
    static = {path: Product(f"layers.0.{path}", False, 64, 128, 1, 1, 64 * 128, 0) for path in CONFIG.static}
    shapes = {path: part_of_product(product, 4)[0] for path, product in static.items()}
    assert {path for path, part in shapes.items() if part.n_in == 16} == {"attention.o", "ffn.down"}
    assert all(part.n_out == 32 for path, part in shapes.items() if part.n_in == 64)


def test_norms_and_residuals_are_done_by_all():
    whole = vector_work(CONFIG, Phase(batch=2, tokens=3, context=5))
    for work in whole:
        part, parts = part_of_work(work, 4)
        alone = work.kind in ("norm", "residual")
        assert parts == 4 and part.elements == (work.elements if alone else work.elements / 4)


# Sums ---------------------------------------------------------------------------------------------------------------


def test_no_operator_is_without_a_device_and_the_energy_is_the_sum_of_the_operators():
    plan = place(CONFIG, System({"gpu": GPU, "pim": STACK}, ATTENTION, counts={"pim": 4}))
    assert list(plan.assignment) == operator_paths(CONFIG) == list(plan.in_phase("decode").assignment)
    run = cost(plan, batch=2, prompt=16, generate=4)
    inside = {f"layers.{i}.attention.softmax" for i in range(CONFIG.num_hidden_layers)}  # on the stacks' buffer dies
    work = {work.path for work in vector_work(CONFIG, Phase())} - inside
    assert set(run.decode.ledger.operators) - {"gpu", "pim"} == set(operator_paths(CONFIG)) | work
    assert inside <= set(run.prefill.ledger.operators)
    total = sum(float(energy) for energy in run.decode.ledger.energy)
    assert np.isclose(total, float(run.decode.energy), rtol=1e-5) or np.isnan(total)


@pytest.mark.parametrize("system", [several(1), several(4), several(8, pipeline=4, micro_batches=2)])
def test_a_step_is_the_step_of_a_run(system):
    """The same work asked for in two ways; by kind of operator the rows are those of all layers."""
    plan = place(CONFIG, system)
    run, step = cost(plan, batch=4, prompt=16, generate=1), cost(plan, batch=4, context=17)
    assert np.isclose(float(step.latency), run.decode_latency, rtol=1e-5)
    assert np.isclose(float(step.energy), float(run.decode.energy), rtol=1e-5)
    assert np.isclose(float(step.tokens_per_second), run.tokens_per_second, rtol=1e-5)
    folded = run.decode.ledger.by_operator()
    mine = step.ledger.by_operator()
    theirs = dict(zip(folded.operators, np.asarray(folded.energy), strict=True))
    for name, energy in zip(mine.operators, np.asarray(mine.energy), strict=True):
        assert np.isclose(energy, theirs[name], rtol=1e-5)


def test_many_batches_and_contexts_are_one_call():
    plan = place(CONFIG, several(4))
    batch, context = np.array([[1], [3], [64]]), np.array([5, 700, 4000])
    many = cost(plan, batch=batch, context=context)
    assert many.latency.shape == many.energy.shape == many.bottleneck.shape == (3, 3)
    for i, b in enumerate(batch[:, 0]):
        for j, c in enumerate(context):
            one = cost(plan, batch=int(b), context=int(c))
            assert np.isclose(float(one.latency), float(many.latency[i, j]), rtol=1e-5)
            assert np.isclose(float(one.energy_per_token), float(many.energy_per_token[i, j]), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(1, 32), st.integers(1, 2048))
def test_more_devices_take_less_time_without_links_and_no_less_energy(doublings, batch, context):
    alone, many = (
        cost(place(CONFIG, System({"gpu": GPU}, counts={"gpu": n})), batch=batch, context=context)
        for n in (1, 2**doublings)
    )
    assert float(many.latency) <= float(alone.latency) * (1 + 1e-5)
    assert float(many.energy) >= float(alone.energy) * (1 - 1e-5)


# Links --------------------------------------------------------------------------------------------------------------


def test_devices_that_share_products_add_up_twice_a_layer():
    step = cost(place(CONFIG, several(4)), batch=3, context=100)
    time, energy = all_reduce(LINK, 3 * CONFIG.hidden_size * 2.0, 4)
    assert np.isclose(rows(step.ledger, "all_reduce"), 2 * CONFIG.num_hidden_layers * float(energy), rtol=1e-5)
    assert np.isclose(step.busy["links"], 2 * CONFIG.num_hidden_layers * float(time), rtol=1e-5)


def test_vectors_cross_the_link_between_two_devices():
    """Queries and keys go to the stacks, values too, mixed values come back: three transfers a layer."""
    system = System({"gpu": GPU, "pim": STACK}, ATTENTION, links={"gpu-pim": LINK}, counts={"pim": 4})
    step = cost(place(CONFIG, system), batch=3, context=100)
    dim, heads, keys = CONFIG.head_dim, CONFIG.num_attention_heads, CONFIG.num_key_value_heads
    values = 3 * dim * ((heads + keys) + keys + heads)
    assert np.isclose(rows(step.ledger, "transfer"), CONFIG.num_hidden_layers * 8 * 2 * values * 2e-12, rtol=1e-5)
    unlinked = cost(place(CONFIG, replace(system, links={})), batch=3, context=100)
    assert any("gpu-pim" in note and "not counted" in note for note in unlinked.notes)


@pytest.mark.parametrize(("stages", "groups"), [(1, 1), (4, 1), (4, 2), (4, 4), (4, 8)])
def test_a_pipeline_goes_on_as_soon_as_its_stages_are_free(stages, groups):
    """Micro-batches walk through stages one by one, in a slow loop over their times of arrival."""
    system = several(8, pipeline=stages, micro_batches=groups)
    plan = place(CONFIG, replace(system, links={"gpu": LINK, "pipeline": cast(Link(0.0, 1e30))}))
    single = cost(place(CONFIG, several(8 // stages)), batch=16 // groups, context=64)
    each = float(single.latency) / stages
    free, done, ends = np.zeros(stages), np.zeros(groups), []
    for _ in range(50):
        for group in range(groups):
            for stage in range(stages):
                done[group] = free[stage] = max(done[group], free[stage]) + each
        ends.append(done.max())
    interval = (ends[-1] - ends[9]) / 40
    step = cost(plan, batch=16, context=64)
    assert np.isclose(float(step.latency), interval, rtol=1e-4)
    assert np.isclose(float(step.tokens_per_second), 16 / interval, rtol=1e-4)


def test_tokens_that_are_not_kept_cost_as_much():
    plan = place(CONFIG, several(1))
    all_kept, half = cost(plan, batch=1, context=64, tokens=4), cost(plan, batch=1, context=64, tokens=4, accepted=2.0)
    assert float(half.energy) == float(all_kept.energy)
    assert np.isclose(float(half.tokens_per_second) * 2, float(all_kept.tokens_per_second))


# Phases -------------------------------------------------------------------------------------------------------------


def test_a_rule_for_one_phase_leaves_the_other_alone():
    plan = place(CONFIG, System({"gpu": GPU, "pim": STACK}, ATTENTION, counts={"pim": 4}))
    path = "layers.1.attention.qk"
    assert plan.assignment[path] == plan.in_phase("prefill").assignment[path] == "gpu"
    assert plan.in_phase("decode").assignment[path] == "pim"
    run = cost(plan, prompt=16, generate=4)
    assert "activation" not in run.prefill.ledger.components and "activation" in run.decode.ledger.components


# Shapes and files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("llama-2-7b", "llama2-7b"), ("llama-2-70b", "llama2-70b"), ("llama-3-8b", "llama3-8b"),
        ("gpt-3-175b", "gpt3-175b"), ("mixtral-8x7b", "mixtral-8x7b"), ("opt-6.7b", "opt-6.7b"), ("gpt2", "gpt2-124m"),
    ],
)  # fmt: skip
def test_known_shapes_have_the_parameters_of_the_models(shared, name, golden):
    models = json.loads((shared / "golden" / "llm_operators.json").read_text())["models"]
    assert known_shape(name).parameters == models[golden]["params"]["total"]


def test_every_known_shape_is_one_and_can_be_placed_by_name():
    for name in known_shapes():
        assert place(name, System({"gpu": GPU})).config == known_shape(name)
    with pytest.raises(WorkloadError, match="did you mean 'llama-2-7b'"):
        known_shape("llama2-7b")


CHIPS = ("hermes", "isaac", "isaac-16", "neurram", "puma")
"""Systems of one chip, or a board, with as many arrays as it has: no room for billions of weights."""


@pytest.mark.parametrize("name", system_names())
def test_every_system_that_ships_can_be_loaded_and_priced(name, recwarn):
    system = load_system(name)
    assert system.summary and system.citations()
    # Gain cells hold heads of 64 numbers, and keys that are rotated cannot be told from their inputs.
    model = "gpt2" if name == "sram-gain-cells" or system.scored != "keys" else "llama-2-7b"
    if name in CHIPS:
        model = llama_config(512, 128, 344, 4, 4, 4, 32, max_position_embeddings=1024)
    step = cost(place(model, system), batch=system.micro_batches * 2, context=512)
    assert float(step.latency) > 0


MINE = """
name = "mine"
summary = "two processors and a stack"
[devices.gpu]
base = "gpu-a100"
count = 2
[devices.gpu.device]
bandwidth_share = 0.5
[devices.pim]
base = "dram-attacc"
count = 4
[links.gpu]
component = "link-pcie"
[links.gpu-pim]
energy_per_bit = 1e-12
bytes_per_second = 1e11
[[rules]]
operators = "*.attention.qk"
device = "pim"
phase = "decode"
[schedule]
pipeline = 2
micro_batches = 2
"""


def test_a_file_of_ones_own_says_it_all(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    system = load_system(file)
    assert system.counts == {"gpu": 2, "pim": 4} and system.pipeline == system.micro_batches == 2
    assert system.devices["gpu"]["bandwidth_share"] == 0.5
    assert system.rules == [("*.attention.qk", "pim", "decode")]
    assert float(system.links["gpu-pim"].energy_per_bit) == pytest.approx(1e-12)
    assert float(cost(place(CONFIG, system), batch=4, context=64).latency) > 0


def test_recalled_figures_warn_wherever_they_stand(tmp_path):
    file = tmp_path / "mine.toml"
    share, count = "bandwidth_share = 0.5", "count = 2"
    assert share in MINE and count in MINE
    text = MINE.replace(count, 'count = {value = 2, grade = "recalled"}', 1)
    text = text.replace(share, 'bandwidth_share = {value = 0.5, unit = "1", source = "user", grade = "recalled"}', 1)
    file.write_text(text + '[sources.user]\ncitation = "from memory"\n')
    with pytest.warns(UserWarning, match=r"mine: recalled, unverified figures: gpu\.bandwidth_share, gpu\.count"):
        assert load_system(file).count("gpu") == 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('summary = "two processors and a stack"', "", "'summary' is missing"),
        ("count = 2", "count = 0", "devices.gpu.count must be a whole number of at least 1"),
        ("count = 4", "count = 3", "does not make 2 equal stages"),
        ('base = "gpu-a100"', 'base = "gpu-a1"', "no base 'gpu-a1'"),
        ("[links.gpu-pim]", "[links.gpu-pin]", "links.gpu-pin links no devices"),
        ('device = "pim"', 'device = "pin"', "names the device 'pin'"),
        ('phase = "decode"', 'phase = "writing"', "is for the phase 'writing'"),
        ('phase = "decode"', 'phases = "decode"', "needs operators and device"),
        ("micro_batches = 2", "batches = 2", "unknown key schedule.batches"),
        ("[schedule]", "[scheduling]", "unknown key 'scheduling'"),
        ("bandwidth_share = 0.5", "bandwidth_share = 5", "bandwidth_share"),
        ('name = "mine"', "name = mine", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_with_its_key(tmp_path, old, new, told):
    file = tmp_path / "mine.toml"
    assert old in MINE
    file.write_text(MINE.replace(old, new, 1))
    with pytest.raises((MappingError, DeviceError), match=r"mine\.toml") as error:
        load_system(file)
    assert told in str(error.value)


def test_what_makes_no_sense_is_refused():
    plan = place(CONFIG, several(2, pipeline=2, micro_batches=2))
    with pytest.raises(StudyError, match="cannot be cut into 2 equal parts"):
        cost(plan, batch=3, context=64)
    with pytest.raises(StudyError, match="cannot hold 4 new ones"):
        cost(plan, batch=2, context=3, tokens=4)
    with pytest.raises(StudyError, match="accepted = 5 of 4"):
        cost(plan, batch=2, context=30, tokens=4, accepted=5)
    with pytest.raises(StudyError, match="resident weights"):
        cost(plan, batch=2, context=30, weights="streamed")  # pyright: ignore[reportCallIssue]
    with pytest.raises(MappingError, match="unknown system"):
        load_system("no-such-system")
    with pytest.raises(MappingError, match="no system file"):
        load_system("none.toml")


# Sub-batches --------------------------------------------------------------------------------------------------------


def walked(turns: list[tuple[str, float]], sub_batches: int) -> float:
    """When the last is through, by a clock that ticks: each device takes whoever has been through fewer turns."""
    at, until, free, clock = [0] * sub_batches, [0.0] * sub_batches, dict.fromkeys(dict(turns), 0.0), 0.0
    while min(at) < len(turns):
        waiting = [s for s in range(sub_batches) if at[s] < len(turns)]
        s = min(waiting, key=lambda s: (at[s], s))
        device, time = turns[at[s]]
        clock = max(until[s], free[device])
        until[s] = free[device] = clock + time
        at[s] += 1
    return max(until)


@given(
    st.lists(st.tuples(st.sampled_from(("npu", "pim", "link")), st.floats(0.1, 10)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_a_schedule_is_a_walk_through_turns(turns, sub_batches):
    slots = schedule([Turn(device, "work", np.float32(time)) for device, time in turns], sub_batches)
    whole = float(makespan(slots))
    assert np.isclose(whole, walked(turns, sub_batches), rtol=1e-5)
    busy = {device: sub_batches * sum(t for d, t in turns if d == device) for device in dict(turns)}
    assert max(busy.values()) * (1 - 1e-5) <= whole <= sum(busy.values()) * (1 + 1e-5)
    for device in busy:  # nobody is at two places, and no device serves two
        mine = sorted((float(s.begin), float(s.end)) for s in slots if s.turn.device == device)
        assert all(a[1] <= b[0] + 1e-4 for a, b in pairwise(mine))


def test_turns_on_one_device_are_one():
    turns = [Turn("npu", "q", np.float32(1)), Turn("npu", "k", np.float32(2)), Turn("pim", "qk", np.float32(3))]
    assert [(t.device, t.what, float(t.time)) for t in merged(turns)] == [("npu", "q to k", 3.0), ("pim", "qk", 3.0)]


def test_sub_batches_overlap_on_different_devices():
    """Two halves of a batch take longer than the busier device and less than both devices one after the other."""
    system = System({"gpu": GPU, "pim": STACK}, ATTENTION, counts={"pim": 4}, name="both")
    halves = cost(place(CONFIG, system), batch=32, context=2000)
    together = cost(place(CONFIG, replace(system, interleave=2)), batch=64, context=2000)
    busy = {name: float(time) for name, time in together.busy.items()}
    assert busy["gpu"] == pytest.approx(2 * float(halves.busy["gpu"]), rel=1e-5)
    assert max(busy.values()) < float(together.latency) < 2 * float(halves.latency)
    assert float(together.latency) < sum(busy.values())
    assert np.isclose(float(together.ledger.latency.sum()), float(together.latency))
    with pytest.raises(StudyError, match="cannot be cut into 2 equal parts"):
        cost(place(CONFIG, replace(system, interleave=2)), batch=3, context=64)


def test_operators_run_in_the_order_of_a_layer():
    work = [item.path for item in (*products(CONFIG, Phase()), *vector_work(CONFIG, Phase()))]
    order = [path.removeprefix("layers.1.") for path in sorted(work, key=run_rank) if path.startswith("layers.1.")]
    assert order == [
        "input_norm", "attention.q", "attention.k", "attention.v", "attention.rope", "attention.qk",
        "attention.softmax", "attention.pv", "attention.o", "attention.residual", "post_norm", "ffn.gate", "ffn.up",
        "ffn.activation", "ffn.down", "ffn.residual",
    ]  # fmt: skip
    assert sorted(work, key=run_rank)[-1] in ("head", "norm")
