"""What each group of operators costs on each device, and each pair of devices between two groups, in both phases.

The cost of a placement is a sum of these: it is that of `pim.cost`, of a system whose sub-batches do not overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pim.devices.gain_attention import GainAttention
from pim.mapping.plan import Plan
from pim.placement.groups import SCORES, WEIGHTS, Group
from pim.placement.terms import Terms

Numbers = Int[np.ndarray, "placements groups"]
"""The number of each group's way, see `Group.ways`."""


class Figures(NamedTuple):
    """What placements cost in a run, and how much room they lack."""

    energy: Float[np.ndarray, "2 placements"]
    time: Float[np.ndarray, "2 placements"]
    area: Float[np.ndarray, "placements"]
    lacking: Float[np.ndarray, "placements"]
    """By how much, at the worst place, more is needed than there is, as a share; infinite for what cannot be."""


@dataclass(frozen=True)
class PhasePrices:
    """The terms of one phase, over devices D and groups G.

    Attributes:
        work: [G, D].
        between: pairs of groups, and what the second takes from the first, [D, D].
        moved: groups whose matrices go from the first phase's device to the second's, [D, D].
        vector: by the device of attention, [D].
        sums: groups behind which the devices of a name add up, [D].
        fixed: whatever is placed where.
        standing: [D, 2], of a device that has nothing to do and of one that has.
        beside: the device of vector work, by that of attention, [D]; -1 where none can do it.
        stretch: the time of all of them over that of one.
        each: what the sum of a time over the steps is, in the basis.
    """

    work: Terms
    between: list[tuple[int, int, Terms]]
    moved: list[tuple[int, Terms]]
    vector: Terms
    sums: list[tuple[int, Terms]]
    fixed: Terms
    standing: Terms
    beside: Int[np.ndarray, " devices"]
    stretch: float
    each: Float[np.ndarray, " few"]


@dataclass(frozen=True)
class Prices:
    """What every placement of a model on a system costs.

    Attributes:
        plan: of the model on the system, all on its first device.
        batch, generate: sequences, and tokens that each writes.
        groups: what is placed together, with those ways alone that can be priced.
        phases: of prefill and of decoding.
        tiles: arrays that a group takes, [G, D].
        arrays: that there are, [D]; infinite where they are not counted.
        held: bytes of weights, and of keys and values, [2, G, D].
        rooms: bytes, [D]; infinite where that is not known.
    """

    plan: Plan
    batch: int
    generate: int
    groups: list[Group]
    phases: tuple[PhasePrices, PhasePrices]
    tiles: Float[np.ndarray, "groups devices"]
    arrays: Float[np.ndarray, " devices"]
    held: Float[np.ndarray, "2 groups devices"]
    rooms: Float[np.ndarray, " devices"]

    @property
    def names(self) -> list[str]:
        """Devices, in the order of their numbers."""
        return list(self.plan.system.devices)

    def devices(self, numbers: Numbers) -> Int[np.ndarray, "2 placements groups"]:
        """The device of each group in each phase."""
        each = [np.array(group.ways)[numbers[:, g]] for g, group in enumerate(self.groups)]
        return np.stack(each, axis=-1).transpose(1, 0, 2)

    def figures(self, numbers: Numbers) -> Figures:
        """What placements cost."""
        on = self.devices(numbers)
        found = [_phase_figures(prices, on, i) for i, prices in enumerate(self.phases)]
        energy, time, area = (np.stack(values) for values in zip(*found, strict=True))
        return Figures(energy, time, area[1], self._lacking(on))

    def own(self, numbers: Int[np.ndarray, " groups"], group: int) -> tuple[float, float]:
        """Energy (J), with what its arrays leak, and time (s) of one group in a run, where a placement has it."""
        on = self.devices(numbers[None])
        energy = latency = 0.0
        for i, prices in enumerate(self.phases):
            terms, whole = prices.work.at(group, on[i][0, group]), _phase_terms(prices, on, i)
            energy += float(terms.energy + (whole.time[0] * prices.stretch * terms.power).sum())
            latency += float(terms.time @ prices.each) * prices.stretch
        return energy, latency

    def without(self, refused: Sequence[Mapping[str, str]]) -> "Prices":
        """The prices less some devices of each group, by their names, each with the reason; see `Group.without`."""
        groups = [group.without(told, self.names) for group, told in zip(self.groups, refused, strict=True)]
        return replace(self, groups=groups)

    def demand(self, on: Int[np.ndarray, "2 placements groups"]) -> tuple[np.ndarray, np.ndarray]:
        """Arrays and bytes that each device must have, [placements, devices]."""
        count, devices = on.shape[1], len(self.names)
        tiles, held = np.zeros((count, devices)), np.zeros((count, devices))
        for g, group in enumerate(self.groups):
            for d in range(devices):
                there = (on[:, :, g] == d)[1:] if group.dynamic else on[:, :, g] == d
                used = there.any(axis=0)
                tiles[:, d] += used * self.tiles[g, d]
                held[:, d] += used * self.held[int(group.dynamic), g, d]
        return tiles, held

    def _lacking(self, on: Int[np.ndarray, "2 placements groups"]) -> Float[np.ndarray, "placements"]:
        tiles, held = self.demand(on)
        short = np.maximum((tiles / self.arrays[None] - 1).max(axis=1), (held / self.rooms[None] - 1).max(axis=1))
        return np.where(self._torn(on), np.inf, np.maximum(short, 0.0))

    def _torn(self, on: Int[np.ndarray, "2 placements groups"]) -> np.ndarray:
        """Whether attention is half on an engine that computes it as a whole."""
        engines = [
            i for i, device in enumerate(self.plan.system.devices.values()) if isinstance(device.model, GainAttention)
        ]
        scores, weights = (on[:, :, [g.name for g in self.groups].index(name)] for name in (SCORES, WEIGHTS))
        half = (np.isin(scores, engines) | np.isin(weights, engines)) & (scores != weights)
        return half.any(axis=0)


def _phase_figures(prices: PhasePrices, on: np.ndarray, phase: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy (J), time (s) and area (m^2) of a phase, over placements."""
    total = _phase_terms(prices, on, phase)
    time = total.time * prices.stretch
    return total.energy + (time * total.power).sum(axis=-1), time @ prices.each, total.area


def _phase_terms(prices: PhasePrices, on: np.ndarray, phase: int) -> Terms:
    """The sum of all terms of a phase, over placements."""
    here, groups = on[phase], np.arange(on.shape[2])
    work = prices.work.at(groups[None], here)
    total = Terms(*(values.sum(axis=1) for values in work))
    for giver, taker, terms in prices.between:
        total += terms.at(here[:, giver], here[:, taker])
    for group, terms in prices.moved:
        total += terms.at(on[0][:, group], on[1][:, group])
    for group, terms in prices.sums:
        total += terms.at(here[:, group])
    total += prices.vector.at(here[:, 1])
    total += Terms(*(values[None] for values in prices.fixed))
    for device in range(prices.standing.energy.shape[0]):
        busy = (here == device).any(axis=1) | (prices.beside[here[:, 1]] == device)
        total += prices.standing.at(device, busy.astype(int))
    return total
