"""Choosing a placement: its prices are those of plans, its optimum that of a slow search, its limits are kept."""

from dataclasses import replace

import numpy as np
import pytest
from test_emulation import CONFIG, model, story  # noqa: F401

from pim.costs.costing import cost
from pim.devices.catalogue import preset
from pim.devices.components.link import Link
from pim.devices.device import replace as replace_device
from pim.devices.record import cast
from pim.errors import StudyError
from pim.evaluation import evaluate
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.text import as_scored
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.placement import choosing, search
from pim.placement.choosing import choose
from pim.placement.groups import Ways, groups_of, rules_of
from pim.placement.losses import group_losses
from pim.placement.pricing import prices_of
from pim.placement.search import Judge

LINK = cast(Link(energy_per_bit=2e-12, bytes_per_second=1e9, latency=1e-6))
GPU, STACK, SRAM, UNIT = (preset(name) for name in ("gpu-a100", "dram-attacc", "sram-digital28", "digital-28nm"))
RERAM = replace_device(preset("rram-techC"), {"rows": 16})
SMALL = llama_config(96, 64, 160, 2, 4, 2, 16, max_position_embeddings=512)
EXPERTS = replace(SMALL, ffn=replace(SMALL.ffn, experts=4, experts_per_token=2))
RUN = {"batch": 4, "prompt": 24, "generate": 6}
MIXED = System(
    {"gpu": GPU, "pim": STACK, "sram": SRAM},
    counts={"gpu": 2, "pim": 4},
    links={"gpu": LINK, "gpu-pim": LINK, "gpu-sram": LINK},
    name="mixed",
)
CHIPS = System({"reram": preset("rram-wan2022"), "sram": SRAM}, name="chips")


def plan_of(config, prices, numbers):
    """The plan of a placement by numbers."""
    ways = [group.ways[i] for group, i in zip(prices.groups, numbers, strict=True)]
    return place(config, replace(prices.plan.system, rules=rules_of(prices.groups, ways, prices.names)))


# Prices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "system"),
    [
        (EXPERTS, replace(MIXED, pipeline=2, micro_batches=4)),
        (SMALL, System({"unit": UNIT, "sram": SRAM, "reram": preset("rram-wan2022")}, links={"unit-sram": LINK})),
    ],
)
def test_the_prices_of_a_placement_are_those_of_its_plan(config, system):
    """Random placements, phases apart: energy, time and area of the sum of terms are those of `pim.cost`."""
    prices = prices_of(config, system, **RUN)
    rng = np.random.default_rng(1)
    numbers = np.array([[rng.integers(len(group.ways)) for group in prices.groups] for _ in range(3)])
    found = prices.figures(numbers)
    for i, each in enumerate(numbers):
        run = cost(plan_of(config, prices, each), **RUN)
        for phase, mine in enumerate((run.prefill, run.decode)):
            np.testing.assert_allclose(found.energy[phase, i], float(mine.energy), rtol=1e-4)
            np.testing.assert_allclose(found.time[phase, i], float(mine.latency), rtol=1e-4)
        np.testing.assert_allclose(found.area[i], run.area, rtol=1e-5)


def test_a_group_alone_takes_what_its_rows_say():
    prices = prices_of(SMALL, CHIPS, **RUN)
    numbers = np.zeros(len(prices.groups), int)
    ledger = cost(plan_of(SMALL, prices, numbers), **RUN).ledger
    for g, group in enumerate(prices.groups):
        mine = [i for i, path in enumerate(ledger.operators) if path.split(".", 2)[-1] in group.kinds]
        mine = mine or [i for i, path in enumerate(ledger.operators) if path == "head"]
        energy, latency = prices.own(numbers, g)
        np.testing.assert_allclose(energy, np.asarray(ledger.energy)[mine].sum(), rtol=1e-4)
        np.testing.assert_allclose(latency, np.asarray(ledger.latency)[mine].sum(), rtol=1e-4)


# The search ---------------------------------------------------------------------------------------------------------


def test_the_choice_is_that_of_a_slow_search():
    """Every plan of two devices, each priced by `pim.cost`."""
    small = replace(llama_config(96, 64, 160, 1, 4, 2, 16, max_position_embeddings=512), head="none")
    groups = groups_of(small, CHIPS)
    runs = []
    for bits in np.ndindex(*[2] * len(groups)):
        rules = rules_of(groups, [Ways(i, i) for i in bits], list(CHIPS.devices))
        runs.append(cost(place(small, replace(CHIPS, rules=rules)), **RUN))
    for minimise in ("energy", "latency", "area"):
        choice, values = choose(small, CHIPS, minimise=minimise, **RUN), [getattr(run, minimise) for run in runs]
        assert choice.exact and choice.tried == len(values) == 2 ** len(groups)
        np.testing.assert_allclose(choice.value, min(values), rtol=1e-4)
        np.testing.assert_allclose(choice.value, getattr(choice.cost, minimise), rtol=1e-4)
        assert max(values) > 1.05 * min(values)


def test_searching_from_every_device_finds_what_trying_all_finds(monkeypatch):
    prices = prices_of(
        SMALL, replace(MIXED, devices={"gpu": GPU, "sram": SRAM, "unit": UNIT}, counts={}, links={}), **RUN
    )
    for minimise in ("energy", "latency"):
        judge = Judge(prices, minimise, {})
        every = search.search(judge)
        monkeypatch.setattr(search, "EXACT", 0)
        some = search.search(judge)
        monkeypatch.undo()
        assert every.exact and not some.exact
        assert judge(some.best[None]).objective[0] == judge(every.best[None]).objective[0]


def test_transfers_draw_operators_together():
    """Over a slow link the attention stays where its queries are, over a fast one it goes to the stacks."""
    slow, fast = (
        choose(SMALL, replace(MIXED, devices={"gpu": GPU, "pim": STACK}, links={"gpu-pim": link, "gpu": LINK}),
               minimise="latency", batch=64, prompt=256, generate=2)
        for link in (cast(Link(0.0, 1e3)), cast(Link(0.0, 1e15)))
    )  # fmt: skip
    at = lambda choice: {(reason.prefill, reason.decode) for reason in choice.reasons[:-1]}  # the head is behind them
    assert len(at(slow)) == 1 and len(at(fast)) > 1
    assert fast.value < slow.value


# Limits -------------------------------------------------------------------------------------------------------------


def test_a_limit_is_kept_and_moves_what_costs_least():
    free = choose(SMALL, CHIPS, minimise="energy", **RUN)
    least = choose(SMALL, CHIPS, minimise="area", **RUN)
    limit = (free.cost.area + least.cost.area) / 2
    kept = choose(SMALL, CHIPS, minimise="energy", within={"area": limit}, **RUN)
    assert free.cost.area > limit >= kept.cost.area
    assert kept.value >= free.value
    assert any("over the limit" in why for reason in kept.reasons for why in reason.others.values())
    assert str(kept).count("\n") > len(kept.reasons) and "limit" in str(kept)
    assert kept.to_dict()["reasons"][0]["group"] == "q, k, v"


def test_what_cannot_be_kept_is_said_with_by_how_much():
    least = choose(SMALL, CHIPS, minimise="area", **RUN).cost.area
    with pytest.raises(StudyError, match=r"keeps area within .* mm²: the least is .* mm², 100% over"):
        choose(SMALL, CHIPS, within={"area": least / 2, "latency": 1e3}, **RUN)
    fastest = choose(SMALL, CHIPS, minimise="latency", **RUN)
    assert fastest.cost.area > 1.01 * least
    with pytest.raises(StudyError, match="all limits at once: the nearest has"):
        choose(SMALL, CHIPS, within={"area": least * 1.001, "latency": fastest.value * 1.001}, **RUN)
    with pytest.raises(StudyError, match="no placement's is known"):
        choose(SMALL, System({"gpu": preset("gpu-gtx1060")}), within={"energy": 1.0}, **RUN)
    with pytest.raises(StudyError, match="energy is known of no placement"):
        choose(SMALL, System({"gpu": preset("gpu-gtx1060")}), **RUN)


def test_counted_arrays_hold_no_more_than_they_can():
    few = replace(CHIPS, counts={"reram": 4})
    choice = choose(SMALL, few, **RUN)
    assert any("no room: reram needs" in why for reason in choice.reasons for why in reason.others.values())
    with pytest.raises(StudyError, match=r"has room; of the nearest: no room: .* needs [\d,]+ tiles, has 4"):
        choose(SMALL, System({"reram": preset("rram-wan2022")}, counts={"reram": 4}), **RUN)


def test_memories_hold_weights_keys_and_values():
    tiny = replace_device(UNIT, {"buffer.bytes": 50_000.0})
    choice = choose(SMALL, System({"unit": tiny, "sram": SRAM}), **RUN)
    assert any("no room: unit needs" in why for reason in choice.reasons for why in reason.others.values())
    with pytest.raises(StudyError, match=r"GB, has 5e-05 GB"):
        choose(SMALL, System({"unit": tiny}), **RUN)


def test_gain_cells_take_attention_as_a_whole_and_nothing_else():
    system = System({"sram": SRAM, "gain": preset("gaincell-attention")})
    choice = choose(CONFIG, system, minimise="latency", batch=1, prompt=16, generate=4)
    on = {reason.group: reason.decode for reason in choice.reasons}
    assert on["q kT"] == on["p v"]
    assert choice.reasons[0].others == {"gain": "cannot be had: computes attention alone"}
    with pytest.raises(MappingError, match="can do q, k, v: gain computes attention alone"):
        choose(CONFIG, System({"gain": preset("gaincell-attention")}))


# Losses -------------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_group_is_that_of_a_plan_with_it_alone_on_the_device(model):  # noqa: F811
    """Two groups, from one programmed chip, against an evaluation of each."""
    system = System({"exact": preset("ideal"), "reram": RERAM})
    every = groups_of(CONFIG, system)
    text, some = as_scored(story(3), model.tokenizer, context=24), (1, 4)
    losses, refused = group_losses(
        model, system, [every[g] for g in some], text, calibration=story(9), context=24, chips=1, seed=3
    )
    assert refused == [{}, {}] and (losses[:, 0] == 0).all()
    for g, mine in zip(some, losses[:, 1], strict=True):
        ways = [Ways(1, 1) if i == g else Ways(0, 0) for i in range(len(every))]
        plan = place(model, replace(system, rules=rules_of(every, ways, list(system.devices))))
        plan = choosing.calibrated(plan, story(9), 24)
        scores = evaluate(plan, text, chips=1, seed=3, progress=False).scores
        loss = (scores.nll[0].sum(axis=-1).mean() - scores.digital.sum()) / scores.tokens.sum()
        np.testing.assert_allclose(mine, max(loss, 0.0), atol=2e-5)
    assert losses.max() > 1e-4


def test_estimates_that_were_too_low_are_raised_until_the_whole_keeps_the_limit(model, monkeypatch):  # noqa: F811
    """The groups are said to lose 1 mnat each on ReRAM; as a whole they lose three times that."""
    system = System({"reram": RERAM, "sram": SRAM})
    lossy = np.array([1e-3, 0.0])
    monkeypatch.setattr(choosing, "group_losses", lambda model, system, groups, text, **options: (
        np.tile(lossy, (len(groups), 1)), [{} for _ in groups]))  # fmt: skip
    measured = lambda plan, text, **options: 3e-3 * len({
        path.split(".", 2)[-1] for path, name in plan.assignment.items() if name == "reram"
    } - {"attention.k", "attention.v", "ffn.up"})  # fmt: skip
    monkeypatch.setattr(choosing, "measured_loss", measured)
    monkeypatch.setattr(choosing, "calibrated", lambda plan, calibration, context: plan)
    choice = choose(model, system, minimise="area", within={"loss": 4e-3}, text=story(3), prompt=16, generate=4)
    assert choice.repairs and all(loss > 4e-3 for loss in choice.repairs)
    assert choice.loss is not None and choice.loss <= 4e-3
    monkeypatch.setattr(choosing, "measured_loss", lambda plan, text, **options: 1.0)
    with pytest.raises(StudyError, match=r"loses at most 0.004 nats .* lost 1"):
        choose(model, system, minimise="area", within={"loss": 4e-3}, text=story(3), prompt=16, generate=4)


def test_a_limit_of_loss_is_measured_on_the_whole(model, monkeypatch):  # noqa: F811
    """Both groups of attention are in arrays; what they lose is what an evaluation of the plan says."""
    system = System({"sram": SRAM, "reram": RERAM})
    lossy = lambda groups: np.array([[0.0, 1e-3 if group.dynamic else 1.0] for group in groups])
    monkeypatch.setattr(
        choosing, "group_losses", lambda model, system, groups, text, **_: (lossy(groups), [{} for _ in groups])
    )
    options = {"text": story(3), "calibration": story(9), "context": 24, "prompt": 16, "generate": 4}
    choice = choose(model, system, minimise="latency", within={"loss": 0.9}, **options)
    scored = as_scored(story(3), model.tokenizer, context=24)
    scores = evaluate(choice.plan, scored, chips=1, seed=0, progress=False).scores
    assert choice.loss is not None and choice.estimate is not None and choice.estimate < 0.01
    np.testing.assert_allclose(choice.loss, (scores.nll.sum() - scores.digital.sum()) / scores.tokens.sum(), atol=1e-6)
    assert "nats a token" in str(choice)


# Bad input ----------------------------------------------------------------------------------------------------------


def test_bad_input(model):  # noqa: F811
    for change, what in (({"scored": "inputs"}, "scored = 'inputs'"), ({"attended": 0.5}, "attended = 0.5")):
        with pytest.raises(StudyError, match=f"{what} is not priced group by group"):
            choose(SMALL, replace(CHIPS, **change))
    with pytest.raises(StudyError, match=r"'engery' is no figure of a placement; .*energy"):
        choose(SMALL, CHIPS, minimise="engery")
    with pytest.raises(StudyError, match="give a limit above 0"):
        choose(SMALL, CHIPS, within={"area": 0.0})
    with pytest.raises(StudyError, match="only the shapes of the model are known"):
        choose(SMALL, CHIPS, within={"loss": 0.1})
    with pytest.raises(StudyError, match="give the text"):
        choose(model, CHIPS, within={"loss": 0.1})
    with pytest.raises(StudyError, match="has no converter ranges"):
        choose(model, System({"reram": RERAM}), within={"loss": 0.1}, text=story(3))
