"""What a language model costs on a system: prefill of a prompt, then decoding, token by token.

The operators of a token run one after another, and the vectors of an operator too (for pipelines of stages see
`phase_run.py`); each device is there, leaks and takes area all the while. Matrices of weights lie in their arrays for
good, and their area counts once: what loading them takes stands beside the cost, unless they are streamed, loaded anew
for every step. Vector work runs where the attention of its layer does. Looking up embeddings is left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from pim.costs.ledger import Cost, Ledger, join, quantity, square_millimetres
from pim.costs.lifetime import Lifetime, kv_lifetime, printed_time
from pim.costs.loading_cost import loading
from pim.costs.phase_run import phase_run
from pim.costs.plan_loading import PlanLoading
from pim.costs.plan_silicon import DEFECTS, Silicon, silicon
from pim.devices.components.memory_interface import MemoryInterface
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError
from pim.llm_workloads.operators import DYNAMIC, Phase
from pim.mapping.plan import Plan
from pim.units import plain, significant

PROMPT, GENERATE = 128, 128
"""Tokens read and written where nothing else is said."""


@dataclass(frozen=True, repr=False)
class PlanCost:
    """Cost of a run: `prompt` tokens read at once (prefill), then `generate` written one at a time (decode).

    Attributes:
        prefill: cost of reading the prompts of all sequences.
        decode: cost of writing all tokens.
        batch: sequences.
        prompt: tokens read, of each.
        generate: tokens written, of each.
        load: finds `loading`, what loading all weights once takes.
        weights: "resident", or "streamed": loaded for every step, once for all prompts.

    Example:
        >>> run = pim.cost(plan, prompt=512, generate=128)
        >>> run.energy_per_token, run.tokens_per_second, run.decode.ledger.by_operator()
    """

    prefill: Cost
    decode: Cost
    batch: int
    prompt: int
    generate: int
    load: Callable[[], PlanLoading] | None = None
    weights: str = "resident"
    plan: Plan | None = None

    @cached_property
    def loading(self) -> PlanLoading | None:
        """What loading the whole model once takes; None where that is not known of the run."""
        return None if self.load is None else self.load()

    @cached_property
    def ledger(self) -> Ledger:
        """All rows; the area, the same in both phases, counts in the decode's."""
        prefill = self.prefill.ledger
        return join([replace(prefill, area=jnp.zeros_like(prefill.area)), self.decode.ledger])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out."""
        return tuple(dict.fromkeys([*self.prefill.notes, *self.decode.notes]))

    @property
    def energy(self) -> float:
        """Energy (J) of the whole run."""
        return float(self.prefill.energy + self.decode.energy)

    @property
    def latency(self) -> float:
        """Time (s) of the whole run."""
        return float(self.prefill.latency + self.decode.latency)

    @property
    def area(self) -> float:
        """Area (m^2) of all devices."""
        return float(self.decode.area)

    @property
    def decode_tokens(self) -> int:
        """Tokens written, over all sequences."""
        return self.batch * self.generate

    @property
    def prefill_tokens(self) -> int:
        """Tokens read, over all sequences."""
        return self.batch * self.prompt

    @property
    def energy_per_token(self) -> float:
        """Energy (J) of a written token."""
        return float(self.decode.energy) / self.decode_tokens

    @property
    def prefill_energy_per_token(self) -> float:
        """Energy (J) of a read token."""
        return float(self.prefill.energy) / self.prefill_tokens

    @property
    def prefill_latency(self) -> float:
        """Time (s) to the first token."""
        return float(self.prefill.latency)

    @property
    def decode_latency(self) -> float:
        """Time (s) between two tokens of a sequence, on average."""
        return float(self.decode.latency) / self.generate

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second, over all sequences."""
        return self.decode_tokens / float(self.decode.latency)

    def lifetimes(self) -> dict[str, Lifetime]:
        """How long cells last that keys and values are written into, by device, if decoding never ends.

        Slots for the tokens of this run, or of the narrowest window, are written in turn, at the rate at which a
        sequence goes on.

        >>> pim.cost(plan, prompt=1024, generate=1024).lifetimes()["weights"].seconds / 3600
        """
        if self.plan is None:
            return {}
        plan = self.plan.in_phase("decode")
        names = {plan.assignment[path] for path in plan.assignment if path.endswith(DYNAMIC)}
        arrays = [name for name in plan.system.devices if name in names and isinstance(_model(plan, name), AnalogMacro)]
        seen = [plan.config.seen(layer) for layer in range(plan.config.num_hidden_layers)]
        slots = min(self.prompt + self.generate, *(kept.window for kept in seen if kept), math.inf)
        each = lambda name: kv_lifetime(plan.system.devices[name], 1 / self.decode_latency, int(slots))
        return {name: each(name) for name in arrays} if np.isfinite(self.decode_latency) else {}

    def silicon(self, *, spares: float = 0.0, defects: float = DEFECTS) -> Silicon:
        """Cells, area, reticles, yield of dies, and rates and energies by them; see `pim.costs.plan_silicon`.

        >>> print(pim.cost(plan).silicon(spares=0.02))
        """
        if self.plan is None:
            raise StudyError("this run does not say what it is the cost of: take what pim.cost returns, as it is")
        return silicon(self, self.plan, spares=spares, defects=defects)

    def to_dict(self) -> dict[str, Any]:
        """Totals, rates, both phases and notes as plain values, ready for JSON."""
        names = ("energy", "latency", "area", "energy_per_token", "prefill_energy_per_token", "prefill_latency",
                 "decode_latency", "tokens_per_second", "batch", "prompt", "generate")  # fmt: skip
        phases = {name: getattr(self, name).ledger.to_dict() for name in ("prefill", "decode")}
        loading = {} if self.loading is None else {"loading": self.loading.to_dict()}
        totals: dict[str, Any] = {name: plain(getattr(self, name)) for name in names}
        lives = {
            name: plain(life.seconds if life.seconds is not None else np.nan) for name, life in self.lifetimes().items()
        }
        totals |= {"kv_lifetime": lives} if lives else {}
        return {**totals, **phases, "notes": list(self.notes), "weights": self.weights, **loading}

    def summary(self) -> list[tuple[str, str]]:
        """The figures that matter, named and printed."""
        return [
            ("energy per written token", quantity(self.energy_per_token, "J")),
            ("energy per read token", quantity(self.prefill_energy_per_token, "J")),
            (f"time to the first token ({self.prompt} read)", quantity(self.prefill_latency, "s")),
            ("time between tokens", quantity(self.decode_latency, "s")),
            ("tokens per second", significant(self.tokens_per_second)),
            ("area", square_millimetres(self.area)),
            *((f"life of keys and values in {n}", printed_time(life.seconds)) for n, life in self.lifetimes().items()),
            *self._weights(),
        ]

    def _weights(self) -> list[tuple[str, str]]:
        """What loading the model takes, and a token if it is loaded for every step."""
        if self.loading is None:
            return []
        each = 0.0 if self.weights == "streamed" else self.loading.energy / self.batch
        return [
            ("loading the model", self.loading.summary()),
            ("energy per written token, streamed", quantity(self.energy_per_token + each, "J")),
        ]

    def __str__(self) -> str:
        lines = [f"{name:<40}{value:>12}" for name, value in self.summary()]
        tables = [str(self.decode.ledger.by_operator()), str(self.decode.ledger.by_component())]
        return "\n\n".join(["\n".join(lines), *tables, "\n".join(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in self.summary())
        decode = Cost(self.decode.ledger.by_operator(), self.notes)
        return f"<table>{lines}</table>{self.decode.ledger.by_component()._repr_html_()}{decode._repr_html_()}"


def _model(plan: Plan, name: str) -> Any:
    return plan.system.devices[name].model


def plan_cost(
    plan: Plan,
    *,
    batch: int = 1,
    prompt: int = PROMPT,
    generate: int = GENERATE,
    weights: str = "resident",
    memory: MemoryInterface | None = None,
) -> PlanCost:
    """The cost of a plan; see `pim.cost`."""
    longest = plan.config.max_position_embeddings
    beyond = f"{prompt + generate} tokens exceed the {longest} that the model was made for"
    notes = (beyond,) if prompt + generate > longest else ()
    load = partial(loading, plan, memory=memory)
    prefill, decode = (_phase(plan, *phase, notes) for phase in run_phases(plan, batch, prompt, generate))
    if weights == "streamed":
        once = load()
        prefill, decode = _streamed(prefill, once, 1), _streamed(decode, once, generate)
    return PlanCost(prefill, decode, batch, prompt, generate, load, weights, plan)


def _streamed(phase: Cost, once: PlanLoading, steps: int) -> Cost:
    """A phase with all weights loaded for each of its steps."""
    rows = once.ledger.map(lambda figures: figures * steps)
    return Cost(join([phase.ledger, rows]), (*phase.notes, *once.notes))


def _phase(plan: Plan, phase: Phase, steps: int, reading: bool, notes: tuple[str, ...]) -> Cost:
    """One phase of `steps` steps, over which its counts run where they are arrays."""
    run = phase_run(plan, phase, steps, reading)
    return Cost(run.summed(), tuple(dict.fromkeys([*notes, *run.notes()])))


def run_ledger(plan: Plan, *, batch: int, prompt: int, generate: int) -> Ledger:
    """`PlanCost.ledger` of resident weights, of devices whose values may be traced."""
    prefill, decode = (phase_run(plan, *phase).summed() for phase in run_phases(plan, batch, prompt, generate))
    return join([replace(prefill, area=jnp.zeros_like(prefill.area)), decode])


def run_phases(plan: Plan, batch: int, prompt: int, generate: int) -> list[tuple[Phase, int, bool]]:
    """Reading and writing, the steps of each, and whether it is reading: what one micro-batch does."""
    each = micro_batch(plan, batch)
    reading = Phase(batch=each, tokens=prompt, context=prompt, causal=plan.config.attention.causal)
    writing = Phase(batch=each, tokens=1, context=prompt + np.arange(1, generate + 1))
    return [(reading, 1, True), (writing, generate, False)]


def micro_batch(plan: Plan, batch: Any) -> Any:
    """Sequences of one of the parts that a batch is cut into; raises StudyError if they are not alike."""
    groups = plan.system.groups
    if np.any(np.asarray(batch) % groups):
        raise StudyError(f"batch = {batch} cannot be cut into {groups} equal parts (micro_batches times interleave)")
    return batch // groups
