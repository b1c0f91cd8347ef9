"""The verb `duplicate`: copies of matrices for the arrays that are left over, more for those that a run waits for.

ISAAC gives its early layers more copies because more vectors meet them (Shafiee et al., ISCA 2016, section VI). In a
language model all matrices of a layer meet as many; what differs is how long a product takes and how many arrays a copy
needs. Copies are added one kind of matrix after another, each time where an array saves most time.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pim.costs.array_parts import on_arrays
from pim.costs.ledger import kind
from pim.costs.plan_cost import GENERATE, PROMPT, run_phases
from pim.counts import check_count
from pim.llm_workloads.operators import products
from pim.mapping.errors import MappingError
from pim.mapping.fit import ARRAYS, check_fit, tiles_of
from pim.mapping.plan import Plan
from pim.placement.groups import pattern_of


@dataclass(frozen=True)
class Waiting:
    """A kind of matrices in arrays, all layers together.

    Attributes:
        kind: of the operators.
        tiles: arrays that one copy of all of them takes.
        each: s of one vector in each phase, all steps and operators together.
        vectors: of one of them in each phase.
    """

    kind: str
    tiles: int
    each: tuple[float, ...]
    vectors: tuple[float, ...]

    def time(self, copies: Any) -> np.ndarray:
        """Time (s) of a run with so many copies."""
        shared = (each * np.minimum(n, np.ceil(n / copies)) for each, n in zip(self.each, self.vectors, strict=True))
        return np.asarray(sum(shared))


def duplicate(plan: Plan, *, batch: int = 1, prompt: int = PROMPT, generate: int = GENERATE) -> Plan:
    """The plan with as many copies of its matrices as the counted arrays have room for and a run is quicker for.

    Args:
        plan: on a system that counts some of its arrays.
        batch, prompt, generate: the run.

    Returns:
        The plan, whose system has `copies` for each kind of matrix in such arrays; copies that it had are dropped.

    Raises:
        MappingError: no arrays are counted.

    Example:
        >>> many = pim.duplicate(pim.place(config, replace(system, counts={"arrays": 4096})), prompt=512)
        >>> many.system.copies, pim.cost(many, prompt=512).prefill_latency
    """
    for name, value in (("batch", batch), ("prompt", prompt), ("generate", generate)):
        check_count(name, value)
    counted = [name for name in plan.system.counts if isinstance(plan.system.devices[name].model, ARRAYS)]
    if not counted:
        raise MappingError("copies fill the arrays that there are: say how many, counts = {name of the arrays: number}")
    plan = replace(plan, system=replace(plan.system, copies=()))
    copies = []
    for name in counted:
        waiting = _waiting(plan, name, batch, prompt, generate)
        filled = fill(waiting, plan.system.counts[name])
        copies += [(pattern_of(each.kind), count) for each, count in zip(waiting, filled, strict=True) if count > 1]
    found = replace(plan, system=replace(plan.system, copies=tuple(copies)))
    check_fit(found.config, found.assignment, found.system)
    return found


def fill(waiting: list[Waiting], arrays: int) -> list[int]:
    """Copies of each kind of matrix that take no more than so many arrays.

    >>> fill([Waiting("q", 2, (1.0,), (8.0,)), Waiting("up", 4, (1.0,), (8.0,))], 12)
    [2, 2]
    """
    copies, left = [1] * len(waiting), arrays - sum(each.tiles for each in waiting)
    while True:
        best, where = 0.0, None
        for i, each in enumerate(waiting):
            most = min(left // each.tiles, int(np.ceil(max(each.vectors))) - copies[i])
            if most < 1:
                continue
            more = np.arange(1, most + 1)  # one more may save nothing where the vectors do not divide
            saved = (each.time(copies[i]) - each.time(copies[i] + more)) / (more * each.tiles)
            if saved.max() > best:
                best, where = float(saved.max()), (i, int(more[saved.argmax()]))
        if where is None:
            return copies
        i, more = where
        copies[i] += more
        left -= more * waiting[i].tiles


def _waiting(plan: Plan, name: str, batch: int, prompt: int, generate: int) -> list[Waiting]:
    """The kinds of matrices of weights in the arrays of a device."""
    model: Any = plan.system.devices[name].model
    found: dict[str, list[tuple[float, float, int]]] = {}
    for phase, steps, reading in run_phases(plan, batch, prompt, generate):
        there = plan.in_phase("prefill" if reading else "decode")
        static = [p for p in products(there.config, phase) if not p.dynamic and there.assignment[p.path] == name]
        block = on_arrays(there, name, model, static, steps).work
        time = np.broadcast_to(np.asarray(block.ledger.latency).sum(axis=0), (len(block.members), steps)).sum(axis=-1)
        seconds: dict[str, float] = {}
        for paths, each in zip(block.members, time, strict=True):
            seconds[kind(paths[0])] = seconds.get(kind(paths[0]), 0.0) + float(each) * len(paths)
        for each, spent in seconds.items():
            mine = [product for product in static if kind(product.path) == each]
            vectors = float(np.max(mine[0].vectors))
            tiles = sum(tiles_of(model, int(p.n_in), int(p.n_out)) * int(p.copies) for p in mine)
            found.setdefault(each, []).append((spent / vectors, vectors, tiles))
    return [
        Waiting(each, phases[0][2], tuple(spent for spent, _, _ in phases), tuple(n for _, n, _ in phases))
        for each, phases in found.items()
    ]
