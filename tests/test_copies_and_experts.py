"""Matrices that lie in arrays more than once, and experts that are spread over devices in place of being cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.costs.collectives import all_to_all
from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.devices.components.link import Link
from pim.devices.record import cast
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import Phase, products
from pim.mapping.errors import MappingError
from pim.mapping.expert_parallel import busiest, dealt
from pim.mapping.fit import fit_of, tiles_of
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system
from pim.placement.duplicating import Waiting, duplicate, fill

CONFIG = llama_config(96, 64, 160, 2, 4, 2, 16, max_position_embeddings=512)
EXPERTS = replace(CONFIG, ffn=replace(CONFIG.ffn, experts=8, experts_per_token=2))
LINK = cast(Link(energy_per_bit=2e-12, bytes_per_second=1e11, latency=1e-6))
ARRAYS = {"arrays": preset("sram-digital28"), "digital": preset("digital-28nm")}
RULES = [("*.qk", "digital"), ("*.pv", "digital"), ("head", "digital")]
COPIED = [("layers.1.*", 3), ("layers.*.ffn.*", 2)]


def rows(cost, path: str, *without: str) -> np.ndarray:
    """Energy, latency and area of an operator."""
    ledger = cost.ledger
    mine = [i for i, name in enumerate(ledger.operators) if name == path and ledger.components[i] not in without]
    return np.array([np.asarray(figure)[mine].sum() for figure in (ledger.energy, ledger.latency, ledger.area)])


# Copies -------------------------------------------------------------------------------------------------------------


def test_tiles_hold_every_weight_once_per_copy():
    plan = place(CONFIG, System(ARRAYS, RULES, copies=COPIED))
    macro = ARRAYS["arrays"].model
    found = fit_of(CONFIG, plan.assignment, "arrays", macro, plan.system.copies_of)
    static = [p for p in products(CONFIG, Phase()) if not p.dynamic and p.path != "head"]
    copies = {p.path: 3 if ".1." in p.path else 2 if ".ffn." in p.path else 1 for p in static}
    assert found.values == sum(copies[p.path] * p.held for p in static)
    assert found.arrays == sum(copies[p.path] * tiles_of(macro, p.n_in, p.n_out) for p in static)
    once = cost(place(CONFIG, System(ARRAYS, RULES)), prompt=8, generate=2).loading
    often = cost(plan, prompt=8, generate=2).loading
    each = macro.weight_bits
    assert np.isclose(often.cells - once.cells, sum((copies[p.path] - 1) * p.held * each for p in static))


def test_copies_share_the_vectors_and_leak_each():
    """Of 10 tokens three copies have at most 4: 4/10 of the time, the same energy of work, three times the area."""
    alone, three = (
        cost(place(CONFIG, System(ARRAYS, RULES, copies=copies)), batch=2, prompt=5, generate=2)
        for copies in ([], [("layers.*.ffn.gate", 3)])
    )
    path = "layers.0.ffn.gate"
    before, behind = (rows(run.prefill, path, "leakage") for run in (alone, three))
    np.testing.assert_allclose(behind / before, [1.0, 0.4, 3.0], rtol=1e-5)
    same = [rows(run.prefill, "layers.0.ffn.down", "leakage") for run in (alone, three)]
    np.testing.assert_allclose(*same, rtol=1e-6)
    leaks = [rows(run.prefill, "leakage")[0] / run.prefill_latency for run in (alone, three)]
    gate = tiles_of(ARRAYS["arrays"].model, *CONFIG.matrix_shapes["ffn.gate"])
    every = sum(tiles_of(ARRAYS["arrays"].model, *shape) for shape in CONFIG.matrix_shapes.values())
    if leaks[0] > 0:
        np.testing.assert_allclose(leaks[1] / leaks[0], 1 + 2 * gate / every, rtol=0.05)
    decode = [rows(run.decode, path, "leakage")[1] for run in (alone, three)]  # two vectors a step: one each
    np.testing.assert_allclose(decode[1], decode[0] / 2, rtol=1e-5)
    assert any("copies of a matrix" in note for note in three.notes)


def test_copies_must_have_room():
    need = fit_of(CONFIG, place(CONFIG, System(ARRAYS, RULES)).assignment, "arrays", ARRAYS["arrays"].model).arrays
    place(CONFIG, System(ARRAYS, RULES, counts={"arrays": need}))
    with pytest.raises(MappingError, match=f"needs .* tiles of .* rows, has {need}"):
        place(CONFIG, System(ARRAYS, RULES, counts={"arrays": need}, copies=[("layers.0.attention.q", 2)]))
    with pytest.raises(MappingError, match="give at least 1"):
        System(ARRAYS, RULES, copies=[("head", 0)])


# As many as there is room for ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0.1, 2.0), st.integers(2, 9)), min_size=1, max_size=4),
       st.integers(0, 20))  # fmt: skip
def test_nothing_that_has_room_would_save_more(kinds, spare):
    waiting = [Waiting(f"k{i}", tiles, (each,), (float(n),)) for i, (tiles, each, n) in enumerate(kinds)]
    arrays = sum(each.tiles for each in waiting) + spare
    found = fill(waiting, arrays)
    left = arrays - sum(each.tiles * copies for each, copies in zip(waiting, found, strict=True))
    assert left >= 0
    for each, copies in zip(waiting, found, strict=True):
        assert each.time(copies + left // each.tiles) >= each.time(copies) * (1 - 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.1, 2.0), min_size=1, max_size=4), st.integers(0, 4))
def test_copies_of_equal_size_go_where_they_save_most(times, spare):
    """Two vectors each: a second copy halves the time, a third does nothing. Held against all numbers of copies."""
    waiting = [Waiting(f"k{i}", 2, (each,), (2.0,)) for i, each in enumerate(times)]
    total = lambda copies: sum(float(each.time(c)) for each, c in zip(waiting, copies, strict=True))
    every = [np.add(more, 1) for more in np.ndindex(*[2] * len(waiting)) if 2 * sum(more) <= spare]
    assert np.isclose(total(fill(waiting, 2 * len(waiting) + spare)), min(map(total, every)))


def test_spare_arrays_are_filled_and_the_run_is_quicker():
    plan = place(CONFIG, System(ARRAYS, RULES))
    need = fit_of(CONFIG, plan.assignment, "arrays", ARRAYS["arrays"].model).arrays
    room = place(CONFIG, System(ARRAYS, RULES, counts={"arrays": 3 * need}))
    many = duplicate(room, prompt=64, generate=4)
    used = fit_of(CONFIG, many.assignment, "arrays", ARRAYS["arrays"].model, many.system.copies_of).arrays
    assert 2 * need < used <= 3 * need
    before, behind = (cost(each, prompt=64, generate=4) for each in (room, many))
    assert behind.prefill_latency < 0.7 * before.prefill_latency
    assert np.isclose(behind.decode_latency, before.decode_latency, rtol=1e-5)  # a vector a step
    with pytest.raises(MappingError, match="say how many"):
        duplicate(plan)


# The busiest device -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "experts", "chosen", "devices"), [
    (1, 8, 2, 8), (2, 8, 2, 4), (3, 8, 2, 2), (16, 8, 2, 8), (16, 8, 2, 4), (64, 64, 6, 8), (256, 8, 1, 8),
])  # fmt: skip
def test_the_busiest_device_has_what_a_slow_draw_says(tokens, experts, chosen, devices):
    """4,000 batches of tokens that choose different experts at random."""
    rng = np.random.default_rng(7)
    draws = rng.random((4000, tokens, experts)).argsort(axis=-1)[..., :chosen]
    counts = (draws[..., None] == np.arange(experts)).sum(axis=(1, 2)).reshape(4000, devices, -1)
    asked, got = busiest(tokens, experts, chosen, devices)
    np.testing.assert_allclose(got, counts.sum(axis=-1).max(axis=-1).mean(), rtol=0.05 if tokens < 4 else 0.02)
    np.testing.assert_allclose(asked, (counts > 0).sum(axis=-1).max(axis=-1).mean(), rtol=0.05 if tokens < 4 else 0.02)


def test_a_trace_says_who_is_busiest():
    """Half of all choices fall on the first expert: its device has no less than they, and more of few tokens."""
    routing = (7, 1, 1, 1, 1, 1, 1, 1)
    _, many = busiest(1e5, 8, 1, 8, routing)
    np.testing.assert_allclose(many, 5e4, rtol=0.01)
    assert busiest(1e5, 8, 1, 4, routing)[1] > many
    assert dealt(8, 4, routing)[1] == (8 / 14, 2 / 14, 2 / 14, 2 / 14)
    for bad in ((1, 2), (0,) * 8, (-1,) + (1,) * 7):
        with pytest.raises(MappingError, match="routing"):
            busiest(4, 8, 2, 4, bad)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.sampled_from([(8, 2), (64, 6), (16, 1)]), st.sampled_from([1, 2, 4, 8]))
def test_the_busiest_has_no_less_than_the_mean_and_no_more_than_all(tokens, kind, devices):
    experts, chosen = kind
    asked, got = busiest(tokens, experts, chosen, devices)
    assert tokens * chosen / devices * (1 - 1e-9) <= got <= tokens * min(chosen, experts // devices)
    assert asked <= experts / devices + 1e-9 and asked <= got + 1e-9


# Experts spread -----------------------------------------------------------------------------------------------------


def several(count: int, **fields) -> System:
    return System({"gpu": preset("gpu-a100")}, counts={"gpu": count}, links={"gpu": LINK}, **fields)


def experts_of(step) -> np.ndarray:
    """Energy and time of the experts' matrices."""
    mine = [i for i, name in enumerate(step.ledger.operators) if ".experts." in name]
    return np.array([np.asarray(figure)[mine].sum(axis=0) for figure in (step.ledger.energy, step.ledger.latency)])


def test_spread_experts_do_the_same_work_and_wait_for_the_busiest():
    """One token on eight devices with an expert each: one whole expert is read where eight shares of two were."""
    cut, spread = (cost(place(EXPERTS, several(8, experts=how)), batch=1, context=64) for how in ("cut", "spread"))
    one = cost(place(EXPERTS, several(1)), batch=1, context=64)
    np.testing.assert_allclose(experts_of(spread)[0], experts_of(one)[0], rtol=1e-5)
    assert np.isclose(experts_of(spread)[1] * 2, experts_of(one)[1], rtol=1e-4)
    assert experts_of(cut)[1] < experts_of(spread)[1]


def test_tokens_are_sent_to_their_experts_and_back():
    step = cost(place(EXPERTS, several(4, experts="spread")), batch=8, context=64)
    _, got = busiest(8, 8, 2, 4)
    time, energy = all_to_all(LINK, 8 * 2 * EXPERTS.hidden_size * 2.0, 4, got / 4.0)
    sent = [i for i, name in enumerate(step.ledger.components) if name == "all_to_all"]
    layers = EXPERTS.num_hidden_layers
    np.testing.assert_allclose(np.asarray(step.ledger.energy)[sent].sum(), 2 * layers * float(energy), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(step.ledger.latency)[sent].sum(), 2 * layers * float(time), rtol=1e-5)
    assert sum(name == "all_reduce" for name in step.ledger.components) == 1  # of attention


def test_where_there_are_more_devices_than_experts_each_is_cut_over_some():
    four = replace(EXPERTS, ffn=replace(EXPERTS.ffn, experts=4))
    wide = several(8, experts="spread")
    single = several(4, experts="spread")
    eight, quarter = (experts_of(cost(place(four, s), batch=64, context=64)) for s in (wide, single))
    assert eight[1] < quarter[1] and eight[0] >= quarter[0] * (1 - 1e-5)


def test_mixtral_spread_against_cut():
    """Few tokens: a device waits for a whole expert. Many: each multiplies its own, and experts are not cut small."""
    link = preset("gpu-h100")
    system = System({"gpu": link}, counts={"gpu": 8}, links={"gpu": cast(Link(1e-11, 4.5e11, latency=1e-6))})
    plans = [place(known_shape("mixtral-8x7b"), replace(system, experts=how)) for how in ("cut", "spread")]
    batch = np.array([1, 16, 256, 4096])
    cut, spread = (cost(plan, batch=batch, context=1024) for plan in plans)
    ratio = np.asarray(cut.latency / spread.latency)
    assert ratio[0] < 1
    assert (np.asarray(spread.energy) > 0).all()
    skewed = cost(place(known_shape("mixtral-8x7b"), replace(system, experts="spread", routing=(9, *(1,) * 7))),
                  batch=batch, context=1024)  # fmt: skip
    assert (np.asarray(skewed.latency) >= np.asarray(spread.latency) * (1 - 1e-4)).all()
    assert float(skewed.latency[-1]) > 1.1 * float(spread.latency[-1])


def test_experts_in_arrays_work_side_by_side():
    cut, spread = (
        cost(place(EXPERTS, System(ARRAYS, RULES, experts=how)), batch=1, prompt=32, generate=2)
        for how in ("cut", "spread")
    )
    paths = [f"layers.0.ffn.experts.{i}.gate" for i in range(8)]
    before, behind = (np.sum([rows(run.prefill, path, "leakage") for path in paths], axis=0) for run in (cut, spread))
    np.testing.assert_allclose(behind[[0, 2]], before[[0, 2]], rtol=1e-5)
    np.testing.assert_allclose(behind[1] / before[1], busiest(32, 8, 2, 8)[1] / 64, rtol=1e-4)


# Files --------------------------------------------------------------------------------------------------------------

FILE = """
name = "mine"
summary = "copies and experts"
[devices.arrays]
base = "sram-digital28"
[[copies]]
operators = "layers.*.ffn.*"
count = 4
[experts]
placed = "spread"
routing = [3, 1, 2, 2]
"""


def test_a_file_says_copies_and_experts(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(FILE)
    system = load_system(file)
    assert system.copies_of("layers.3.ffn.up") == 4 and system.copies_of("head") == 1
    assert system.experts == "spread" and system.routing == (3.0, 1.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count = 4", "count = 0", r"mine.toml: copies\[0\].count must be a whole number of at least 1, not 0"),
        ("count = 4", "number = 4", r"copies\[0\] needs operators and count"),
        ('"spread"', '"strewn"', "experts = 'strewn'; did you mean spread"),
        ("[3, 1, 2, 2]", '"even"', r"experts.routing must be a list of numbers"),
        ("placed", "place", "unknown key experts.place; did you mean placed"),
    ],
)
def test_bad_files(tmp_path, old, new, message):
    file = tmp_path / "mine.toml"
    file.write_text(FILE.replace(old, new))
    with pytest.raises(MappingError, match=message):
        load_system(file)
