"""Operators of the same counts are priced once: what makes them alike, and the tables of their counts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pim.costs.ledger import kind
from pim.llm_workloads.operators import layer_of
from pim.mapping.plan import Plan

POINTS, SORTS = 128, 8
"""Points and sorts of operators whose costs are found in one call, or multiples of them: fewer compilations."""


class Sort(NamedTuple):
    """What operators of the same counts have in common: their kind, their layer's window and their copies, or who they
    are."""

    kind: str
    window: int | None = None
    path: str | None = None
    copies: int = 1


def by_sort(plan: Plan, items: Sequence[Any], known: Any = ()) -> dict[Sort, list[Any]]:
    """Products and vector work by their sort; those with statistics of their own are of a sort of their own."""
    found: dict[Sort, list[Any]] = {}
    for item in items:
        layer = layer_of(item.path)
        window = None if layer is None else plan.config.window(layer)
        path = item.path if item.path in known else None
        sort = Sort(kind(item.path), window, path, plan.system.copies_of(item.path))
        found.setdefault(sort, []).append(item)
    return found


def paths_of(sorts: dict[Sort, list[Any]]) -> list[list[str]]:
    """The paths of the operators of each sort."""
    return [[item.path for item in items] for items in sorts.values()]


def count_table(counts: Sequence[tuple[Any, ...]], points: int, *, alone: bool = False) -> np.ndarray:
    """Counts of each sort at each point, [counts, sorts, points], the last of both once more up to a shared length.

    With `alone` a single point stands for all if nothing differs from one to the other.
    """
    single = alone and all(np.size(value) == 1 for row in counts for value in row)
    length = 1 if single else POINTS * -(-points // POINTS)
    each = [[_lengthened(value, 1 if single else points, length) for value in row] for row in counts]
    whole = np.moveaxis(np.array(each, np.float64), 1, 0)
    return np.pad(whole, ((0, 0), (0, -len(counts) % SORTS), (0, 0)), mode="edge")


def _lengthened(value: Any, points: int, length: int) -> np.ndarray:
    return np.pad(np.broadcast_to(np.asarray(value, np.float64).reshape(-1), points), (0, length - points), mode="edge")
