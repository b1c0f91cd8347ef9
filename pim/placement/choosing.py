"""The verb `choose`: the placement of a model on a system that costs least within limits, and why."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from pim.costs.plan_cost import GENERATE, PROMPT, plan_cost
from pim.counts import check_count
from pim.devices.errors import nearest
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.known_shapes import known_shape, known_shapes
from pim.llm_workloads.model import Model, load_model
from pim.llm_workloads.text import ScoredText, as_scored
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.placement.choice import Choice
from pim.placement.groups import rules_of
from pim.placement.losses import calibrated, group_losses, measured_loss
from pim.placement.prices import Prices
from pim.placement.pricing import prices_of
from pim.placement.reasons import reasons_of, refuse
from pim.placement.search import FIGURES, Found, Judge, neighbours, search
from pim.plan_checks import check_causal, check_chips, check_text

LOSS = "loss"
TRIES = 6
"""Placements that are emulated as a whole until one keeps the limit of loss."""
OVERLAPPED = 12
"""Placements next to the best that are priced anew where sub-batches overlap."""


def choose(
    model: Model | ModelConfig | str,
    system: System,
    *,
    minimise: str = "energy",
    within: Mapping[str, float] | None = None,
    batch: int = 1,
    prompt: int = PROMPT,
    generate: int = GENERATE,
    by_phase: bool = True,
    text: str | ScoredText | None = None,
    calibration: str | ScoredText | None = None,
    context: int = 256,
    tokens: int = 2048,
    chips: int = 1,
    seed: int = 0,
) -> Choice:
    """Place a model so that a run costs least, within limits.

    Every group of operators (`q, k, v`, `o`, `gate, up`, ...) may go to every device that can have it; the system's own
    rules do not count, and all its devices are there, whether they are used or not. Where there are few placements each
    is priced, else local searches start from every device; prices are those of `pim.cost`. What a placement loses is
    estimated by the sum of what its groups lose alone, then measured: if that is too much, the estimates are raised by
    as much, and the search goes on.

    Args:
        model: as `pim.place` takes it; with weights if the loss counts.
        system: devices, counts and links.
        minimise: "energy", "latency", "area", "prefill_latency", "decode_latency", "energy_per_token" of `PlanCost`, or
            "loss".
        within: limits, by the same names: {"area": 5e-5, "loss": 0.02} (m², nats a token beyond the exact model).
        batch, prompt, generate: the run.
        by_phase: whether operators may be elsewhere while prompts are read than while tokens are written.
        text: on which losses are measured.
        calibration: other text, on which the ranges of converters are found.
        context: tokens a sequence.
        tokens: most tokens that are scored.
        chips: over which losses are means.
        seed: of chips and reads.

    Returns:
        The choice: the plan, its cost, and the reason for each group, ready to be printed.

    Raises:
        StudyError: an unknown figure; a system with stores, one that scores inputs or a share of the keys; a loss
            without text or weights; limits that no placement keeps, with the one that is hardest to keep and by how
            much it is missed.
        MappingError: operators that no device can do.

    Example:
        >>> print(pim.choose("llama-2-7b", system, minimise="energy", within={"decode_latency": 0.05}, prompt=512))
        >>> pim.choose(tiny, system, within={"loss": 0.02}, text=text, calibration=other).plan
    """
    limits = _checked(minimise, within)
    for name, value in (("batch", batch), ("prompt", prompt), ("generate", generate)):
        check_count(name, value)
    check_chips(chips)
    if isinstance(model, str):
        model = known_shape(model) if model in known_shapes() else load_model(model)
    config = model.config if isinstance(model, Model) else model
    run: dict[str, Any] = {"batch": batch, "prompt": prompt, "generate": generate}
    _check_priced(system)
    prices = prices_of(config, system, **run, by_phase=by_phase)
    losses, scored = None, None
    if LOSS in (minimise, *limits):
        model, scored = _scored(model, text, context, tokens)
        losses, refused = group_losses(model, system, prices.groups, scored, calibration=calibration, context=context,
                                       chips=chips, seed=seed)  # fmt: skip
        prices = prices.without(refused)
    judge, barred, repairs = Judge(prices, minimise, limits, losses), [], []
    while True:
        found = search(judge, barred)
        verdict = judge(found.best[None])
        if verdict.missing[0] > 0:
            if repairs:
                raise StudyError(_lost(limits[LOSS], repairs))
            raise refuse(judge, found.best)
        if not np.isfinite(verdict.objective[0]):
            raise StudyError(f"{minimise} is known of no placement on {system.name}: some device does not tell its own")
        best = _overlapped(judge, found.best, run) if system.interleave > 1 or system.overlap else found.best
        plan = _plan(model, prices, best)
        estimate = None if judge.losses is None else float(judge.loss(best[None])[0])
        if scored is None:
            return _choice(judge, plan, best, found, run)
        plan, loss = _emulated(plan, scored, calibration, context, chips, seed)
        if LOSS not in limits or loss <= limits[LOSS]:
            return replace(_choice(judge, plan, best, found, run), loss=loss, estimate=estimate, repairs=tuple(repairs))
        repairs.append(loss)
        barred.append(best)
        if len(repairs) == TRIES:
            raise StudyError(_lost(limits[LOSS], repairs))
        judge = replace(judge, losses=_raised(judge.losses, estimate, loss))


def _checked(minimise: str, within: Mapping[str, float] | None) -> dict[str, float]:
    """The limits, if all are of figures that there are."""
    known = [*FIGURES, LOSS]
    for name in (minimise, *(within or {})):
        if name not in known:
            raise StudyError(f"{name!r} is no figure of a placement; {nearest(name, known)}")
    limits = {name: float(value) for name, value in (within or {}).items()}
    for name, value in limits.items():
        if not (np.isfinite(value) and value > 0):
            raise StudyError(f"within[{name!r}] = {value}: give a limit above 0")
    return limits


def _check_priced(system: System) -> None:
    """Raise StudyError for what has no price group by group."""
    unpriced = {
        "stores of keys and values": bool(system.stores),
        f"scored = {system.scored!r}": system.scored != "keys",
        f"attended = {system.attended:g}": system.attended != 1,
    }
    for what, there in unpriced.items():
        if there:
            raise StudyError(f"{system.name}: a placement with {what} is not priced group by group: place it by rules")


def _scored(
    model: Model | ModelConfig, text: str | ScoredText | None, context: int, tokens: int
) -> tuple[Model, ScoredText]:
    """The model, if it has weights in memory, and the text on which losses are measured."""
    if not isinstance(model, Model):
        raise StudyError("a loss is asked for, but only the shapes of the model are known: give a model with weights")
    if model.checkpoint is not None:
        raise StudyError("losses of groups are measured on a model in memory: load it with resident=True")
    if text is None:
        raise StudyError("a loss is asked for: give the text on which it is measured, text=...")
    check_causal(model.config)
    if isinstance(text, str):
        text = as_scored(text, model.tokenizer, context=context, max_tokens=tokens)
    return model, text


def _plan(model: Model | ModelConfig, prices: Prices, numbers: np.ndarray) -> Plan:
    """The plan of a placement."""
    ways = [group.ways[i] for group, i in zip(prices.groups, numbers, strict=True)]
    return place(model, replace(prices.plan.system, rules=rules_of(prices.groups, ways, prices.names)))


def _choice(judge: Judge, plan: Plan, best: np.ndarray, found: Found, run: Mapping[str, Any]) -> Choice:
    cost = plan_cost(plan, **run)
    value = float(judge.loss(best[None])[0]) if judge.minimise == LOSS else float(getattr(cost, judge.minimise))
    return Choice(
        plan, cost, judge.minimise, dict(judge.within), value, None, None, reasons_of(judge, best), found.tried,
        found.exact,
    )  # fmt: skip


def _overlapped(judge: Judge, best: np.ndarray, run: Mapping[str, Any]) -> np.ndarray:
    """Of a placement and the best next to it, the one that costs least with sub-batches that overlap."""
    near = neighbours(best, [len(group.ways) for group in judge.prices.groups])
    verdict = judge(near)
    few = near[np.lexsort((verdict.objective, verdict.missing))[:OVERLAPPED]]

    def cost(numbers: np.ndarray) -> tuple[bool, float]:
        priced = plan_cost(_plan(judge.prices.plan.config, judge.prices, numbers), **run)
        figure = lambda name: float(judge.loss(numbers[None])[0] if name == LOSS else getattr(priced, name))
        over = any(not figure(name) <= limit for name, limit in judge.within.items())
        return over or judge(numbers[None]).lacking[0] > 0, figure(judge.minimise)

    return min(few, key=cost)


def _emulated(
    plan: Plan, text: ScoredText, calibration: str | ScoredText | None, context: int, chips: int, seed: int
) -> tuple[Plan, float]:
    """The plan with its ranges, and what it loses as a whole, in the phase in which that is more."""
    decode = calibrated(plan.in_phase("decode"), calibration, context)
    plan = replace(plan, ranges=decode.ranges, operands=decode.operands, calibration=decode.calibration)
    check_text(plan, text)
    phases = [plan] if not plan.decode else [plan, decode]
    return plan, max(measured_loss(replace(p, decode={}), text, chips=chips, seed=seed) for p in phases)


def _raised(
    losses: Float[np.ndarray, "groups devices"] | None, estimate: float | None, loss: float
) -> Float[np.ndarray, "groups devices"] | None:
    """Estimates that are raised by as much as the sum fell short of what was measured."""
    return losses if losses is None or not estimate else losses * max(loss / estimate, 1.0)


def _lost(limit: float, repairs: list[float]) -> str:
    return (
        f"no placement was found that loses at most {limit:g} nats a token: the groups alone would, but emulated as a "
        f"whole {len(repairs)} lost {', '.join(f'{loss:.3g}' for loss in repairs)}"
    )
