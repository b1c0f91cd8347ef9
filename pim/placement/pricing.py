"""Finding what each group of operators costs on each device: each is priced alone, by the same functions as a plan."""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pim.costs.capacity import room, value_bytes
from pim.costs.ledger import kind
from pim.costs.phase_run import stretch_of, vector_shares
from pim.costs.plan_cost import run_phases
from pim.costs.plan_parts import device_part
from pim.costs.traffic import flows, kept_values, stage_spent, summed_operators, sums_of, transfer_spent
from pim.devices.errors import DeviceError
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import Phase, operator_paths, products
from pim.mapping.errors import MappingError
from pim.mapping.fit import ARRAYS, tiles_of
from pim.mapping.plan import Plan
from pim.mapping.system import System
from pim.placement.groups import IN_ARRAYS, Group, groups_of
from pim.placement.prices import PhasePrices, Prices
from pim.placement.terms import (
    Terms,
    basis,
    nothing,
    projected,
    spent_terms,
    stacked,
    standing_terms,
    total,
    work_terms,
)


def prices_of(
    config: ModelConfig, system: System, *, batch: int, prompt: int, generate: int, by_phase: bool = True
) -> Prices:
    """The prices of a model on a system, in a run as `pim.cost` has it.

    Raises MappingError if a group can be priced on no device.
    """
    groups = groups_of(config, system, by_phase=by_phase)
    plan = Plan(config, system, dict.fromkeys(operator_paths(config), next(iter(system.devices))))
    phases = run_phases(plan, batch, prompt, generate)
    work, refused = [], [dict(group.refused) for group in groups]
    for index, (phase, steps, _) in enumerate(phases):
        work.append(_work(plan, groups, phase, steps, index, refused))
    groups = [group.without(told, list(system.devices)) for group, told in zip(groups, refused, strict=True)]
    found = [
        _phase_prices(plan, groups, each, *phase, moving=index == 0)
        for index, (each, phase) in enumerate(zip(work, phases, strict=True))
    ]
    held = _held(plan, groups, Phase(batch=batch, context=prompt + generate))
    rooms = np.array([np.inf if (each := room(plan, name)) is None else each for name in system.devices])
    return Prices(
        plan, batch, generate, groups, (found[0], found[1]), _tiles(plan, groups), _arrays(system), held, rooms
    )


def _on(plan: Plan, name: str) -> Plan:
    """The plan with everything on one device."""
    return replace(plan, assignment=dict.fromkeys(plan.assignment, name))


def _work(
    plan: Plan, groups: list[Group], phase: Phase, steps: int, index: int, refused: list[dict[str, str]]
) -> list[list[Terms]]:
    """The terms of each group on each device; what stands in the way of one goes into `refused`."""
    found = [[nothing(steps) for _ in plan.system.devices] for _ in groups]
    for number, name in enumerate(plan.system.devices):
        mine = [g for g, group in enumerate(groups) if any(way[index] == number for way in group.ways)]
        mine = [g for g in mine if name not in refused[g]]
        try:
            parts = [(mine, _on_device(plan, name, [groups[g] for g in mine], phase, steps))]
        except PROBLEMS:  # of which of them? each alone
            parts = []
            for g in mine:
                try:
                    parts.append(([g], _on_device(plan, name, [groups[g]], phase, steps)))
                except PROBLEMS as error:
                    refused[g][name] = str(error)
        for some, terms in parts:
            for g in some:
                found[g][number] = sum((terms[each] for each in groups[g].kinds), nothing(steps))
    return found


PROBLEMS = (StudyError, DeviceError, MappingError)
"""What a device says that has no price for a product."""


def _on_device(plan: Plan, name: str, groups: list[Group], phase: Phase, steps: int) -> dict[str, Terms]:
    """The terms of groups on one device, by kind of operator."""
    kinds = {each for group in groups for each in group.kinds}
    mine = [product for product in products(plan.config, phase) if kind(product.path) in kinds]
    part = device_part(_on(plan, name), name, phase, mine, [], steps)
    found = work_terms(part.work, steps, plan.system.groups)
    if not isinstance(plan.system.devices[name].model, ARRAYS):
        return found
    leaking = standing_terms(part.standing(jnp.ones(steps)), steps)  # each operator has arrays of its own
    return {name: terms + leaking[name] for name, terms in found.items()}


def _phase_prices(
    plan: Plan, groups: list[Group], work: list[list[Terms]], phase: Phase, steps: int, reading: bool, *, moving: bool
) -> PhasePrices:
    config, system, names = plan.config, plan.system, list(plan.system.devices)
    layers, times = config.num_hidden_layers, system.groups
    index = {each: g for g, group in enumerate(groups) for each in group.kinds}

    def pairs(spent: Callable[[str, str], Terms]) -> Terms:
        return stacked([stacked([spent(giver, taker) for taker in names]) for giver in names])

    def given(values: int, done: int) -> Terms:
        return pairs(
            lambda giver, taker: spent_terms(
                transfer_spent(plan, phase, steps, giver, taker, values), steps, times, done
            )
        )

    def added(part: str, name: str) -> Terms:
        each = (spent_terms(one.spent, steps, times, layers) for one in sums_of(plan, phase, steps, part, name))
        return sum(each, nothing(steps))

    between = [
        (index[kind(f.giver)], index[kind(f.taker)], given(f.values, f.count(layers))) for f in flows(config)
    ]  # kinds are without the number of an expert
    between = [each for each in between if each[0] != each[1]]
    moved = [(g, given(kept_values(config), layers)) for g, group in enumerate(groups) if group.dynamic and moving]
    sums = [(index[kind(operator)], stacked([added(part, name) for name in names]))
            for part, operator in summed_operators(config)]  # fmt: skip
    parts = {
        "work": stacked([stacked(row) for row in work]),
        "vector": stacked([_vector(_on(plan, name), phase, steps) for name in names]),
        "fixed": spent_terms(stage_spent(plan, phase, steps), steps, times, system.pipeline - 1),
        "standing": stacked([_standing(plan, groups, name, phase, steps) for name in names]),
    }
    onto = basis([parts["work"], parts["standing"]], steps)
    return PhasePrices(
        **{name: projected(terms, onto) for name, terms in parts.items()},
        between=[(a, b, projected(terms, onto)) for a, b, terms in between],
        moved=[(g, projected(terms, onto)) for g, terms in moved],
        sums=[(g, projected(terms, onto)) for g, terms in sums],
        beside=np.array([_beside(plan, name, phase) for name in names]),
        stretch=stretch_of(system, reading),
        each=onto.sum(axis=1),
    )


def _vector(plan: Plan, phase: Phase, steps: int) -> Terms:
    """Vector work, where everything is on one device."""
    shares = vector_shares(plan, phase)
    blocks = [device_part(plan, name, phase, [], work, steps).work for name, work in shares.items() if name is not None]
    return sum((total(work_terms(block, steps, plan.system.groups), steps) for block in blocks), nothing(steps))


def _beside(plan: Plan, name: str, phase: Phase) -> int:
    """The number of the device of vector work, where attention is on one device; -1: none can do it."""
    able = [each for each in vector_shares(_on(plan, name), phase) if each is not None]
    return list(plan.system.devices).index(able[0]) if able else -1


def _standing(plan: Plan, groups: list[Group], name: str, phase: Phase, steps: int) -> Terms:
    """What the copies of a device cost by being there, with nothing to do and with something."""
    if isinstance(plan.system.devices[name].model, ARRAYS):
        return stacked([nothing(steps)] * 2)
    number, second = list(plan.system.devices).index(name), jnp.ones(steps)
    able = [kinds for group in groups for kinds in group.kinds if any(number in way for way in group.ways)]
    some = [product for product in products(plan.config, phase) if kind(product.path) in able[:1]]
    idle, busy = (device_part(plan, name, phase, work, [], steps).standing(second) for work in ([], some))
    return stacked([total(standing_terms(block, steps), steps) for block in (idle, busy)])


def _tiles(plan: Plan, groups: list[Group]) -> Float[np.ndarray, "groups devices"]:
    """Arrays that the matrices of each group take on each device."""
    found = np.zeros((len(groups), len(plan.system.devices)))
    for d, device in enumerate(plan.system.devices.values()):
        if isinstance(device.model, ARRAYS):
            for g, group in enumerate(groups):
                if any(d in way for way in group.ways) and not group.dynamic:
                    found[g, d] = sum(
                        tiles_of(device.model, int(product.n_in), int(product.n_out))
                        * int(product.copies)
                        * plan.system.copies_of(product.path)
                        for product in products(plan.config, Phase())
                        if kind(product.path) in group.kinds
                    )
    return found


def _arrays(system: System) -> Float[np.ndarray, " devices"]:
    """Arrays that there are of each device."""
    counted = [isinstance(device.model, ARRAYS) and name in system.counts for name, device in system.devices.items()]
    return np.array([float(system.counts[n]) if c else np.inf for n, c in zip(system.devices, counted, strict=True)])


def _held(plan: Plan, groups: list[Group], phase: Phase) -> Float[np.ndarray, "2 groups devices"]:
    """Bytes of weights, and of keys and values, of each group in the memory of each device that has one."""
    found = np.zeros((2, len(groups), len(plan.system.devices)))
    every = products(plan.config, phase)
    for d, (name, device) in enumerate(plan.system.devices.items()):
        if isinstance(device.model, IN_ARRAYS):
            continue
        for g, group in enumerate(groups):
            values = sum(float(product.held) for product in every if kind(product.path) in group.kinds)
            found[int(group.dynamic), g, d] = values * value_bytes(plan, name, "key" if group.dynamic else "weight")
    return found
