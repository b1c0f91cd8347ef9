"""What one step of decoding costs on a system, at many batches and contexts at once."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs.ledger import Cost, Ledger, quantity
from pim.costs.phase_run import PhaseRun, phase_run
from pim.costs.plan_cost import micro_batch
from pim.errors import StudyError
from pim.llm_workloads.operators import Phase
from pim.mapping.plan import Plan
from pim.mapping.schedule import Slot
from pim.units import plain, significant


@dataclass(frozen=True, repr=False)
class StepCost:
    """Cost of a step in which every sequence of a batch goes on by a token, or by a few to be verified.

    Figures have the common shape of batch and context, behind the rows in the ledger.

    Attributes:
        ledger: rows by kind of operator and component, layers summed.
        batch: sequences.
        context: tokens of each when the step ends.
        tokens: new tokens of each.
        accepted: those of them that are kept on average.
        busy: time (s) for which each device, and the links, work in the step.
        notes: what was assumed or left out.
        run: the phase that it was found from.

    Example:
        >>> step = pim.cost(plan, batch=[1, 8, 64], context=2048)
        >>> step.tokens_per_second, step.energy_per_token, step.bottleneck
    """

    ledger: Ledger
    batch: Any
    context: Any
    tokens: int
    accepted: float
    busy: dict[str, np.ndarray]
    notes: tuple[str, ...]
    run: PhaseRun = field(compare=False)

    @property
    def energy(self) -> jax.Array:
        """Energy (J) of the step, all sequences together."""
        return self.ledger.energy.sum(axis=0)

    @property
    def latency(self) -> jax.Array:
        """Time (s) from one step to the next."""
        return self.ledger.latency.sum(axis=0)

    @property
    def area(self) -> jax.Array:
        """Area (m^2) of all devices."""
        return self.ledger.area.sum(axis=0)

    @property
    def tokens_per_second(self) -> jax.Array:
        """Tokens kept a second, over all sequences."""
        return self.batch * self.accepted / self.latency

    @property
    def energy_per_token(self) -> jax.Array:
        """Energy (J) of a token that is kept."""
        return self.energy / (self.batch * self.accepted)

    @property
    def power(self) -> jax.Array:
        """Power (W) on average."""
        return self.energy / self.latency

    @cached_property
    def bottleneck(self) -> np.ndarray:
        """The device, or the links, that the step spends most of its time on."""
        names = np.array(list(self.busy))
        return np.asarray(names[np.argmax(np.stack(list(self.busy.values())), axis=0)])

    @cached_property
    def utilisation(self) -> dict[str, np.ndarray]:
        """Share of the step's time for which each device works."""
        latency = np.asarray(self.latency)
        return {name: time / latency for name, time in self.busy.items()}

    def cost(self, index: Any = ()) -> Cost:
        """The cost at one point, as of a product."""
        return Cost(self.ledger.at(index) if index != () else self.ledger, self.notes)

    def plot(self, index: Any = ()) -> Any:
        """A figure of which sub-batch is on which device when, and how busy each is, at one point.

        >>> pim.cost(plan, batch=64, context=2048).plot().savefig("schedule.pdf")
        """
        from pim.schedule_plot import schedule_figure

        if np.shape(self.latency) and index == ():
            raise StudyError(f"a picture is of one point of {np.shape(self.latency)}: plot(index)")
        at = int(np.ravel_multi_index(np.atleast_1d(index), np.shape(self.latency))) if np.shape(self.latency) else 0
        slots = [
            Slot(slot.sub_batch, slot.turn, *(end[min(at, end.size - 1)] for end in (slot.begin, slot.end)))
            for slot in self.run.slots()
        ]
        return schedule_figure(slots, list(self.busy))

    def to_dict(self) -> dict[str, Any]:
        """Figures, rows and notes as plain values, ready for JSON."""
        names = ("energy", "latency", "area", "tokens_per_second", "energy_per_token", "power")
        figures = {name: plain(np.asarray(getattr(self, name), np.float64)) for name in names}
        busy = {name: plain(np.asarray(time, np.float64)) for name, time in self.busy.items()}
        sizes = {"batch": plain(np.asarray(self.batch)), "context": plain(np.asarray(self.context))}
        told = {"bottleneck": plain(self.bottleneck), "busy": busy, "notes": list(self.notes)}
        return {**sizes, "tokens": self.tokens, "accepted": self.accepted, **figures, **told, **self.ledger.to_dict()}

    def __str__(self) -> str:
        if self.ledger.energy.ndim > 1:
            return f"StepCost over {self.ledger.energy.shape[1:]} points: ask for its figures, or print .cost(index)"
        lines = [
            ("time between tokens", quantity(float(self.latency), "s")),
            ("tokens per second", significant(float(self.tokens_per_second))),
            ("energy per token", quantity(float(self.energy_per_token), "J")),
            ("power", quantity(float(self.power), "W")),
            ("bottleneck", f"{self.bottleneck} ({float(self.utilisation[str(self.bottleneck)]):.0%} of the time)"),
        ]
        return "\n".join([*(f"{name:<24}{value:>12}" for name, value in lines), "", str(self.cost())])

    __repr__ = __str__


def step_cost(plan: Plan, *, batch: Any = 1, context: Any, tokens: int = 1, accepted: float | None = None) -> StepCost:
    """The cost of a step of decoding; see `pim.cost`."""
    accepted = float(tokens if accepted is None else accepted)
    if not 0 < accepted <= tokens:
        raise StudyError(f"accepted = {accepted:g} of {tokens} new tokens: give more than 0 and at most all of them")
    if np.any(np.less(context, tokens)):
        raise StudyError(f"a context of {np.min(context)} tokens cannot hold {tokens} new ones")
    batch, context = np.broadcast_arrays(np.asarray(batch), np.asarray(context))
    shape, points = batch.shape, max(batch.size, 1)
    each = micro_batch(plan, batch.reshape(-1))
    phase = Phase(batch=each, tokens=tokens, context=context.reshape(-1), logits=tokens)
    run = phase_run(plan, phase, points, reading=False)
    ledger = run.by_kind().map(lambda figures: figures.reshape(-1, *shape))
    times = {name: np.asarray(jnp.broadcast_to(t, points)).reshape(shape) for name, t in run.busy.items()}
    busy = {name: time * plan.system.groups / plan.system.pipeline for name, time in times.items()}
    beyond = int(context.max()) if context.size else 0
    longest = plan.config.max_position_embeddings
    far = (f"{beyond} tokens exceed the {longest} that the model was made for",) if beyond > longest else ()
    return StepCost(ledger, batch, context, tokens, accepted, busy, (*far, *run.notes()), run)
