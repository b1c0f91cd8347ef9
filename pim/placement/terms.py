"""What costs are sums of, as plain arrays: times and powers over the steps of a phase, energies and areas.

The energy of what burns power all the while is the product of two sums, that of powers and that of times, at each step.
Products over thousands of steps are found from few numbers: both are projected onto the span of the powers and of a
constant, which leaves them as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pim.costs.blocks import Block
from pim.costs.collectives import Spent
from pim.costs.ledger import kind


class Terms(NamedTuple):
    """Costs, over any shape: of groups and devices, of pairs of devices.

    Attributes:
        time: s at each step.
        energy: J of all steps.
        power: W at each step, whether anything is done or not.
        area: m^2.
    """

    time: Float[np.ndarray, "*shape steps"]
    energy: Float[np.ndarray, "*shape"]
    power: Float[np.ndarray, "*shape steps"]
    area: Float[np.ndarray, "*shape"]

    def at(self, *index: Any) -> "Terms":
        """Those of some places."""
        return Terms(*(values[index] for values in self))

    def __add__(self, other: "Terms") -> "Terms":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Both together."""
        return Terms(*(a + b for a, b in zip(self, other, strict=True)))


def nothing(steps: int) -> Terms:
    """No cost at all."""
    return Terms(np.zeros(steps), np.zeros(()), np.zeros(steps), np.zeros(()))


def work_terms(block: Block, steps: int, times: float = 1.0) -> dict[str, Terms]:
    """Those of work that is done so many times side by side, by kind of operator."""
    energy, time, area = (_by_sort(figure, steps) for figure in _figures(block))
    rows = [
        Terms(time[i] * n, energy[i].sum() * n * times, np.zeros(steps), area[i].max() * n)
        for i, n in enumerate(map(len, block.members))
    ]
    return _by_kind(block, rows)


def standing_terms(block: Block, steps: int) -> dict[str, Terms]:
    """Those of what is there for a second at each step, by kind of operator, or by the device's name."""
    energy, _, area = (_by_sort(figure, steps) for figure in _figures(block))
    rows = [
        Terms(np.zeros(steps), np.zeros(()), energy[i] * n, area[i].max() * n)
        for i, n in enumerate(map(len, block.members))
    ]
    return _by_kind(block, rows)


def _figures(block: Block) -> tuple[Any, Any, Any]:
    return block.ledger.energy, block.ledger.latency, block.ledger.area


def _by_sort(figure: Any, steps: int) -> Float[np.ndarray, "sorts steps"]:
    """A figure of each sort of operators at each step, components summed."""
    whole = np.asarray(figure, np.float64).sum(axis=0)
    return np.broadcast_to(whole, (len(whole), steps))


def _by_kind(block: Block, rows: Sequence[Terms]) -> dict[str, Terms]:
    """The sums of rows whose operators are of one kind."""
    found: dict[str, Terms] = {}
    for paths, row in zip(block.members, rows, strict=True):
        name = kind(paths[0])
        found[name] = found[name] + row if name in found else row
    return found


def total(terms: Mapping[str, Terms], steps: int) -> Terms:
    """All of them together."""
    return sum(terms.values(), nothing(steps))


def spent_terms(spent: Spent | None, steps: int, times: float, done: float) -> Terms:
    """Those of a transfer that happens `done` times a step, each `times` side by side; nothing where no link is."""
    if spent is None:
        return nothing(steps)
    time, energy = (np.broadcast_to(np.asarray(each, np.float64), steps) for each in spent)
    return Terms(time * done, energy.sum() * done * times, np.zeros(steps), np.zeros(()))


def stacked(terms: Sequence[Terms]) -> Terms:
    """Terms along a new first axis."""
    return Terms(*(np.stack(values) for values in zip(*terms, strict=True)))


def basis(terms: Sequence[Terms], steps: int) -> Float[np.ndarray, "few steps"]:
    """An orthonormal basis of the powers and of a constant."""
    rows = [np.ones((1, steps)), *(np.nan_to_num(each.power).reshape(-1, steps) for each in terms)]
    _, sizes, found = np.linalg.svd(np.concatenate([row / max(np.abs(row).max(), 1e-300) for row in rows]), False)
    return found[sizes > 1e-12 * sizes[0]]


def projected(terms: Terms, onto: Float[np.ndarray, "few steps"]) -> Terms:
    """Terms with their times and powers in a basis; an unknown power makes the energy unknown."""
    unknown = np.isnan(terms.power).any(axis=-1)
    energy = np.where(unknown, np.nan, terms.energy)
    return Terms(terms.time @ onto.T, energy, np.nan_to_num(terms.power) @ onto.T, terms.area)
