"""Why each group of operators is where it is, and what is wrong where nothing will do."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from pim.errors import StudyError
from pim.placement.choice import Reason, place_name, printed
from pim.placement.groups import SCORES, WEIGHTS, Ways
from pim.placement.prices import Numbers, Prices
from pim.placement.search import FIGURES, Judge, Verdict, search


def reasons_of(judge: Judge, best: Int[np.ndarray, " groups"]) -> tuple[Reason, ...]:
    """The reason for each group of a placement."""
    return tuple(_reason(judge, best, g) for g in range(len(judge.prices.groups)))


def _reason(judge: Judge, best: np.ndarray, g: int) -> Reason:
    prices, group, names = judge.prices, judge.prices.groups[g], judge.prices.names
    here, moved = group.ways[best[g]], _moved(prices, best, g)
    verdict = judge(moved)
    others = {name: f"cannot be had: {why}" for name, why in group.refused.items()}
    free = [i for i in range(len(moved)) if moved[i, g] != best[g] and verdict.missing[i] == 0]
    for device, name in enumerate(names):
        at = [i for i in range(len(moved)) if group.ways[moved[i, g]] == Ways(device, device)]
        if at and here != Ways(device, device):
            i = min(at, key=lambda i: (verdict.missing[i], verdict.objective[i]))
            others[name] = _against(judge, moved[i], _row(verdict, i))
    second = min(free, key=lambda i: verdict.objective[i], default=None)
    energy, latency = prices.own(best, g)
    on = [names[d] for d in here]
    return Reason(
        group=group.name,
        operators=group.kinds,
        prefill=on[0],
        decode=on[1],
        energy=energy,
        latency=latency,
        loss=None if judge.losses is None else float(judge.losses[g, list(here)].max()),
        runner_up=None if second is None else float(verdict.objective[second]),
        runner_up_at="" if second is None else place_name(*(names[d] for d in group.ways[moved[second, g]])),
        others=others,
    )


def _moved(prices: Prices, best: np.ndarray, g: int) -> Numbers:
    """The placement with one group elsewhere; the other half of attention stays or comes along."""
    found = []
    for way in range(len(prices.groups[g].ways)):
        each = best.copy()
        each[g] = way
        found.append(each)
        partner = {SCORES: WEIGHTS, WEIGHTS: SCORES}.get(prices.groups[g].name)
        if partner is not None:
            other = [group.name for group in prices.groups].index(partner)
            ways = prices.groups[other].ways
            if prices.groups[g].ways[way] in ways:
                along = each.copy()
                along[other] = ways.index(prices.groups[g].ways[way])
                found.append(along)
    return np.stack(found)


def _row(verdict: Verdict, i: int) -> Verdict:
    over = {name: values[i : i + 1] for name, values in verdict.over.items()}
    return Verdict(verdict.objective[i : i + 1], over, verdict.lacking[i : i + 1])


def _against(judge: Judge, numbers: np.ndarray, verdict: Verdict) -> str:
    """What speaks against a placement."""
    told = [_no_room(judge.prices, numbers)] if verdict.lacking[0] > 0 else []
    told += [
        f"{name} {printed(name, _value(judge, name, numbers))} is over the limit of {printed(name, judge.within[name])}"
        for name, over in verdict.over.items()
        if over[0] > 0
    ]
    return "; ".join(told) or f"{judge.minimise} would be {printed(judge.minimise, float(verdict.objective[0]))}"


def _value(judge: Judge, name: str, numbers: np.ndarray) -> float:
    """A figure of one placement."""
    each = numbers[None]
    return float((judge.loss(each) if name == "loss" else FIGURES[name](judge.prices.figures(each), judge.prices))[0])


def _no_room(prices: Prices, numbers: np.ndarray) -> str:
    """Where a placement lacks room."""
    tiles, held = prices.demand(prices.devices(numbers[None]))
    told = [
        f"no room: {name} needs {tiles[0, d]:,.0f} tiles, has {prices.arrays[d]:,.0f}"
        for d, name in enumerate(prices.names)
        if tiles[0, d] > prices.arrays[d]
    ]
    told += [
        f"no room: {name} needs {held[0, d] / 1e9:.3g} GB, has {prices.rooms[d] / 1e9:.3g} GB"
        for d, name in enumerate(prices.names)
        if held[0, d] > prices.rooms[d]
    ]
    return "; ".join(told) or "attention goes there as a whole or not at all"


def refuse(judge: Judge, best: np.ndarray) -> StudyError:
    """What to say where even the best placement lacks room or exceeds a limit: the limit that is hardest to keep."""
    prices, verdict = judge.prices, judge(best[None])
    system = prices.plan.system.name
    roomy = search(replace(judge, within={})).best
    if judge(roomy[None]).lacking[0] > 0:
        return StudyError(f"no placement on {system} has room; of the nearest: {_no_room(prices, roomy)}")
    least = {}
    for name in judge.within:
        alone = replace(judge, minimise=name, within={})
        where = search(alone).best
        least[name] = _value(judge, name, where)
    unknown = [name for name, value in least.items() if np.isnan(value)]
    if unknown:
        return StudyError(
            f"{unknown[0]} is limited, but on {system} no placement's is known: some device does not tell its own"
        )
    worst = max(least, key=lambda name: least[name] / judge.within[name])
    if least[worst] > judge.within[worst]:
        return StudyError(
            f"no placement on {system} keeps {worst} within {printed(worst, judge.within[worst])}: the least is "
            f"{printed(worst, least[worst])}, {least[worst] / judge.within[worst] - 1:.0%} over"
        )
    told = "; ".join(f"{name} alone could be {printed(name, value)}" for name, value in least.items())
    worst = max(verdict.over, key=lambda name: float(verdict.over[name][0]))
    return StudyError(
        f"no placement on {system} keeps all limits at once: the nearest has {worst} at "
        f"{printed(worst, _value(judge, worst, best))}, limit {printed(worst, judge.within[worst])}, "
        f"{float(verdict.over[worst][0]):.0%} over ({told})"
    )
