"""A phase of a plan on its system: what its devices and links do, and how long the system is busy with it.

The operators of a micro-batch run one after another. With P stages and m micro-batches in a phase of which one takes t,
all have written a token after t or, where they are more than the stages, after t m/P: each stage then goes from one to
the next without a pause. Reading takes t (1 + (m - 1)/P) until the last is through (Huang et al., GPipe, arXiv
1811.06965, section 2.3, for the time in which a pipeline fills). Sub-batches of a micro-batch share its devices as
`pim.mapping.schedule` has it.
"""

from dataclasses import dataclass, field
from functools import cached_property

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.costs.blocks import Block
from pim.costs.early_writing import written_early
from pim.costs.ledger import Ledger, join, kind
from pim.costs.overlapping import Times, rewritten_meanwhile, sent_meanwhile
from pim.costs.parts import Part
from pim.costs.plan_parts import device_part, products_only
from pim.costs.store_cost import store_parts, without_stored
from pim.costs.traffic import Traffic, traffic
from pim.devices.gain_attention import GainAttention
from pim.devices.near_dram import NearDram
from pim.llm_workloads.operators import (
    DYNAMIC,
    Phase,
    VectorWork,
    layer_of,
    layer_path,
    products,
    run_rank,
    vector_work,
)
from pim.mapping.plan import Plan
from pim.mapping.schedule import Slot, Turn, makespan, merged, schedule
from pim.mapping.system import LINKS, WRITING, System

NO_VECTOR_WORK = "vector work (norms, softmax, activations) is not counted: no device of the system does it"


@dataclass(frozen=True)
class PhaseRun:
    """What one sub-batch takes, device by device, and how the system goes through all of them.

    Attributes:
        parts: what each device does for one sub-batch, by its name.
        traffic: what goes over the links for it.
        system: the system.
        stretch: time of all micro-batches over that of one.
        points: steps, or points of a sweep.
        unserved: whether there is vector work that no device does.
        hidden: time (s) of what goes over the links that other work hides, by path.
    """

    parts: dict[str, Part]
    traffic: Traffic
    system: System
    stretch: float
    points: int
    unserved: bool
    hidden: Times = field(default_factory=dict)

    @cached_property
    def busy(self) -> dict[str, Float[Array, "points"]]:
        """Time (s) for which a sub-batch keeps each device, and the links, busy."""
        return self._waited | {LINKS: sum(self.hidden.values(), self._waited[LINKS])}

    @cached_property
    def _waited(self) -> dict[str, Float[Array, "points"]]:
        """Time (s) for which a sub-batch waits for each device, and for the links."""
        times = {name: part.work.time for name, part in self.parts.items()}
        return times | {LINKS: self.traffic.time}

    @cached_property
    def alone(self) -> Float[Array, "points"]:
        """Time (s) that one sub-batch takes without the others."""
        return sum(self._waited.values(), jnp.zeros(1))

    @cached_property
    def time(self) -> Float[Array, "points"]:
        """Time (s) that one micro-batch takes."""
        return self.alone if self.system.interleave == 1 else makespan(self.slots())

    def slots(self) -> list[Slot]:
        """When each sub-batch of a micro-batch is where; what is hidden goes on behind the turn before it."""
        if not self.hidden:
            return schedule(merged(self.turns()), self.system.interleave)
        slots, now, hidden = [], jnp.zeros(self.points), dict(self.hidden)
        for path, turn in self._turns():
            begin = now - hidden.pop(path, 0.0) if turn.device == LINKS else now
            now = now + turn.time
            slots.append(Slot(0, turn, begin, now))
        return slots

    def turns(self) -> list[Turn]:
        """What a sub-batch does, operator by operator."""
        return [turn for _, turn in self._turns()]

    def _turns(self) -> list[tuple[str, Turn]]:
        work = {name: [part.work] for name, part in self.parts.items()} | {LINKS: self.traffic.blocks}
        found = [
            (path, Turn(name, kind(path), time))
            for name, blocks in work.items()
            for block in blocks
            for path, time in block.times(self.points)
        ]
        return sorted(found, key=lambda pair: run_rank(pair[0]))

    @property
    def interval(self) -> Float[Array, "points"]:
        """Time (s) that all of them take."""
        return self.time * self.stretch

    def blocks(self) -> list[Block]:
        """The work of the whole batch, and what devices cost by being there for as long as it takes.

        Where sub-batches overlap, the time of each row is its share of the whole.
        """
        work = [*(part.work for part in self.parts.values()), *self.traffic.blocks]
        slower = self.interval / jnp.where(self.alone > 0, self.alone, 1.0)
        return [
            *(block.times_over(self.system.groups, slower) for block in work),
            *(part.standing(self.interval) for part in self.parts.values()),
        ]

    def summed(self) -> Ledger:
        """The rows of every operator, summed over the points as steps."""
        return join(block.summed(self.points) for block in self.blocks())

    def by_kind(self) -> Ledger:
        """The rows of every kind of operator, at each point."""
        return join(block.by_kind(self.points) for block in self.blocks())

    def notes(self) -> tuple[str, ...]:
        """What is assumed and left out."""
        told = [NO_VECTOR_WORK] if self.unserved else []
        told += [note for part in self.parts.values() for note in part.notes()]
        return tuple(dict.fromkeys([*told, *self.traffic.notes]))


def phase_run(plan: Plan, phase: Phase, points: int, reading: bool) -> PhaseRun:
    """A phase of a plan: reading prompts, or writing a token.

    Args:
        plan: the plan.
        phase: the work of one sub-batch; its counts may be arrays.
        points: length of those arrays.
        reading: whether it is prefill, else decode.
    """
    kept = plan.in_phase("decode").assignment
    plan, system = plan.in_phase("prefill" if reading else "decode"), plan.system
    every, vector = products(plan.config, phase), vector_shares(plan, phase)
    at_hand = [without_stored(plan, product) for product in every]
    parts = {}
    for name in system.devices:
        mine = [product for product in at_hand if plan.assignment[product.path] == name]
        parts[name] = device_part(plan, name, phase, mine, vector.get(name, []), points)
    if plan.config.attention.scored != "keys":
        early = written_early([part.work for part in parts.values()], points)
        parts = {name: part._replace(work=work) for (name, part), work in zip(parts.items(), early, strict=True)}
    if WRITING in system.overlap:
        parts = {name: part._replace(work=rewritten_meanwhile(part.work)) for name, part in parts.items()}
    parts |= store_parts(plan, every, parts, points)
    sent, hidden = traffic(plan, phase, points, kept), {}
    if LINKS in system.overlap:
        blocks, hidden = sent_meanwhile(sent.blocks, [part.work for part in parts.values()], points)
        sent = sent._replace(blocks=blocks)
    return PhaseRun(parts, sent, system, stretch_of(system, reading), points, None in vector, hidden)


def stretch_of(system: System, reading: bool) -> float:
    """The time of all micro-batches of a phase over that of one."""
    groups, stages = system.micro_batches, system.pipeline
    return 1 + (groups - 1) / stages if reading else max(1.0, groups / stages)


def vector_shares(plan: Plan, phase: Phase) -> dict[str | None, list[VectorWork]]:
    """The vector work of each device, and under None that which none can do."""
    found: dict[str | None, list[VectorWork]] = {}
    for work in vector_work(plan.config, phase):
        if not _inside(plan, work):
            found.setdefault(_vector_device(plan, work.path), []).append(work)
    return found


def _inside(plan: Plan, work: VectorWork) -> bool:
    """Whether work is part of what the device beside it does: gain cells have no softmax apart, and heads that take
    turns at the banks of a DRAM may have theirs behind the banks' back."""
    beside = plan.system.devices[_beside(plan, work.path)].model
    own = isinstance(beside, GainAttention) or (isinstance(beside, NearDram) and beside.hides_softmax)
    return work.kind == "softmax" and own


def _beside(plan: Plan, path: str) -> str:
    """The device of the attention of a layer, or of the last, beside which vector work runs."""
    layer = layer_of(path)
    return plan.assignment[layer_path(plan.config.num_hidden_layers - 1 if layer is None else layer, DYNAMIC[0])]


def _vector_device(plan: Plan, path: str) -> str | None:
    """The device of vector work: the one beside it, or where that has only products, the first that can do it."""
    beside = _beside(plan, path)
    if not products_only(plan.system.devices[beside].model):
        return beside
    able = (name for name, device in plan.system.devices.items() if not products_only(device.model))
    return next(able, None)
