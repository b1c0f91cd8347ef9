"""The best of all placements: each is tried where they are few, else local searches start from every device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pim.placement.prices import Figures, Numbers, Prices

EXACT = 300_000
"""Most placements that are all tried."""
CHUNK = 4096
"""Placements that are priced at once."""

FIGURES: Mapping[str, Callable[[Figures, Prices], np.ndarray]] = {
    "energy": lambda found, _: found.energy.sum(axis=0),
    "latency": lambda found, _: found.time.sum(axis=0),
    "area": lambda found, _: found.area,
    "prefill_latency": lambda found, _: found.time[0],
    "decode_latency": lambda found, prices: found.time[1] / prices.generate,
    "energy_per_token": lambda found, prices: found.energy[1] / (prices.batch * prices.generate),
}
"""What may be minimised or limited, by the names of `PlanCost`."""


class Verdict(NamedTuple):
    """What is thought of placements.

    Attributes:
        objective: what is to be small; infinite where it is unknown.
        over: by limit, how far it is exceeded, as a share of it; 0 where it is kept, infinite where that is unknown.
        lacking: see `Figures.lacking`.
    """

    objective: Float[np.ndarray, " placements"]
    over: dict[str, Float[np.ndarray, " placements"]]
    lacking: Float[np.ndarray, " placements"]

    @property
    def missing(self) -> Float[np.ndarray, " placements"]:
        """The worst of limits and room."""
        return np.max([self.lacking, *self.over.values()], axis=0)


@dataclass(frozen=True)
class Judge:
    """What is asked of placements.

    Attributes:
        prices: what they cost.
        minimise: the figure that is to be small.
        within: limits, by figure.
        losses: nats a token that each group loses on each device, [groups, devices]; None where nobody asks.
    """

    prices: Prices
    minimise: str
    within: Mapping[str, float]
    losses: Float[np.ndarray, "groups devices"] | None = None

    def __call__(self, numbers: Numbers) -> Verdict:
        """What it thinks of placements."""
        parts = [self._judged(numbers[i : i + CHUNK]) for i in range(0, len(numbers), CHUNK)]
        over = {name: np.concatenate([part.over[name] for part in parts]) for name in self.within}
        return Verdict(
            np.concatenate([part.objective for part in parts]), over, np.concatenate([part.lacking for part in parts])
        )

    def _judged(self, numbers: Numbers) -> Verdict:
        found = self.prices.figures(numbers)
        objective = self.loss(numbers) if self.minimise == "loss" else FIGURES[self.minimise](found, self.prices)
        over = {}
        for name, limit in self.within.items():
            value = self.loss(numbers) if name == "loss" else FIGURES[name](found, self.prices)
            over[name] = np.nan_to_num(np.maximum(value / limit - 1, 0.0), nan=np.inf)
        return Verdict(np.nan_to_num(objective, nan=np.inf), over, found.lacking)

    def loss(self, numbers: Numbers) -> Float[np.ndarray, " placements"]:
        """The sum of what the groups lose, in the phase in which that is more."""
        assert self.losses is not None, "a limit of loss comes with losses"
        on = self.prices.devices(numbers)
        return self.losses[np.arange(on.shape[2])[None, None], on].sum(axis=-1).max(axis=0)


@dataclass(frozen=True)
class Found:
    """The best placement, and the placements that were tried."""

    best: Int[np.ndarray, " groups"]
    tried: int
    exact: bool


def search(judge: Judge, without: Sequence[np.ndarray] = ()) -> Found:
    """The placement that costs least of those that keep within all limits or, if none does, misses them by least.

    Args:
        judge: what is asked.
        without: placements that do not count.
    """
    sizes = [len(group.ways) for group in judge.prices.groups]
    barred = {tuple(map(int, each)) for each in without}
    if np.prod(sizes, dtype=float) <= EXACT:
        every = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
        return Found(every[_best(judge(every), every, barred)], len(every), True)
    tried, ends = 0, []
    for start in _starts(judge.prices):
        now, count = _descend(judge, start, sizes, barred)
        tried += count
        ends.append(now)
    last = np.stack(ends)
    return Found(last[_best(judge(last), last, barred)], tried, False)


def _best(verdict: Verdict, numbers: Numbers, barred: set[tuple[int, ...]]) -> int:
    """The one that misses nothing, or least, and of those the cheapest."""
    order = np.lexsort((verdict.objective, verdict.missing))
    return int(next((i for i in order if tuple(map(int, numbers[i])) not in barred), order[0]))


def _starts(prices: Prices) -> list[np.ndarray]:
    """All groups on one device, as far as they may go there."""
    found = []
    for device in range(len(prices.names)):
        ways = [[i for i, way in enumerate(group.ways) if set(way) == {device}] for group in prices.groups]
        found.append(np.array([each[0] if each else 0 for each in ways]))
    return found


def _descend(judge: Judge, start: np.ndarray, sizes: list[int], barred: set[tuple[int, ...]]) -> tuple[np.ndarray, int]:
    """From a placement to better ones, a group or two at a time, until none is."""
    now, tried = start, 0
    while True:
        near = neighbours(now, sizes)
        tried += len(near)
        best = near[_best(judge(near), near, barred)]
        if (best == now).all():
            return now, tried
        now = best


def neighbours(now: np.ndarray, sizes: Sequence[int]) -> Numbers:
    """A placement, and all that differ from it in one group or in two.

    >>> len(neighbours(np.array([0, 0]), [2, 3]))
    6
    """
    found = {tuple(now)}
    for groups in combinations(range(len(sizes)), min(2, len(sizes))):
        for ways in np.ndindex(*(sizes[g] for g in groups)):
            each = now.copy()
            each[list(groups)] = ways
            found.add(tuple(each))
    return np.array(sorted(found))
