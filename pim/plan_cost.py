"""What a language model costs on a system: prefill of a prompt, then decoding, token by token.

The operators of a token run one after another, and the vectors of an operator too; each device is there, leaks and
takes area all the while. Matrices of weights lie in their arrays for good: writing them is not counted, their area
counts once. Vector work runs where the attention of its layer does. Looking up embeddings is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pim import digital_macro_cost, near_dram_cost, roofline_cost
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.roofline import Roofline
from pim.digital_cost import digital_cost, digital_notes, product_values, unit_cost
from pim.emulation import takes_activations
from pim.ledger import FREE, Cost, Ledger, join, kind, ledger_of, quantity, square_millimetres
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, VectorWork, products, vector_work
from pim.macro_cost import leakage_power, matrix_cost, uncounted
from pim.mapping.plan import Plan
from pim.operands import Operands, uniform_operands
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

    Example:
        >>> run = pim.cost(plan, prompt=512, generate=128)
        >>> run.energy_per_token, run.tokens_per_second, run.decode.ledger.by_operator()
    """

    prefill: Cost
    decode: Cost
    batch: int
    prompt: int
    generate: int

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

    def to_dict(self) -> dict[str, Any]:
        """Totals, rates, both phases and notes as plain values, ready for JSON."""
        names = ("energy", "latency", "area", "energy_per_token", "prefill_energy_per_token", "prefill_latency",
                 "decode_latency", "tokens_per_second", "batch", "prompt", "generate")  # fmt: skip
        phases = {name: getattr(self, name).ledger.to_dict() for name in ("prefill", "decode")}
        return {**{name: plain(getattr(self, name)) for name in names}, **phases, "notes": list(self.notes)}

    def summary(self) -> list[tuple[str, str]]:
        """The figures that matter, named and printed."""
        return [
            ("energy per written token", quantity(self.energy_per_token, "J")),
            ("energy per read token", quantity(self.prefill_energy_per_token, "J")),
            (f"time to the first token ({self.prompt} read)", quantity(self.prefill_latency, "s")),
            ("time between tokens", quantity(self.decode_latency, "s")),
            ("tokens per second", significant(self.tokens_per_second)),
            ("area", square_millimetres(self.area)),
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


def plan_cost(plan: Plan, *, batch: int = 1, prompt: int = PROMPT, generate: int = GENERATE) -> PlanCost:
    """The cost of a plan; see `pim.cost`."""
    prefill = Phase(batch=batch, tokens=prompt, context=prompt)
    decode = Phase(batch=batch, tokens=1, context=prompt + np.arange(1, generate + 1))
    longest = plan.config.max_position_embeddings
    beyond = f"{prompt + generate} tokens exceed the {longest} that the model was made for"
    notes = (beyond,) if prompt + generate > longest else ()
    return PlanCost(_phase(plan, prefill, 1, notes), _phase(plan, decode, generate, notes), batch, prompt, generate)


STEPS = 128
"""Steps whose costs at the banks are found in one call, or a multiple of them."""

PRODUCTS_ONLY = (AnalogMacro, DigitalMacro, NearDram)
"""Devices that have no unit for vector work."""

NO_VECTOR_WORK = "vector work (norms, softmax, activations) is not counted: no device of the system does it"


class _Part(NamedTuple):
    """What one device does in a phase, and what it costs by being there for the phase's time."""

    work: Ledger
    standing: Callable[[Any], Ledger]
    notes: tuple[str, ...]


def _phase(plan: Plan, phase: Phase, steps: int, notes: tuple[str, ...]) -> Cost:
    """One phase of `steps` steps, over which its counts run where they are arrays."""
    every, elementwise = products(plan.config, phase), vector_work(plan.config, phase)
    parts = []
    for name, device in plan.system.devices.items():
        mine = [product for product in every if plan.assignment[product.path] == name]
        vector = [work for work in elementwise if _vector_device(plan, work.path) == name]
        if isinstance(device.model, AnalogMacro):
            parts.append(_on_arrays(plan, name, device.model, mine, steps))
        elif isinstance(device.model, DigitalMacro):
            parts.append(_on_digital_macro(name, device.model, mine, steps))
        elif isinstance(device.model, DigitalUnit):
            parts.append(_on_digital(name, device.model, mine, vector, steps))
        elif isinstance(device.model, Roofline):
            parts.append(_on_roofline(name, device.model, mine, vector, steps))
        elif isinstance(device.model, NearDram):
            parts.append(_on_near_dram(name, device.model, mine, steps))
        else:
            parts.append(_for_free([item.path for item in (*mine, *vector)]))
    if any(_vector_device(plan, work.path) is None for work in elementwise):
        notes = (*notes, NO_VECTOR_WORK)
    latency = sum(part.work.latency.sum() for part in parts)
    ledgers = [ledger for part in parts for ledger in (part.work, part.standing(latency))]
    return Cost(join(ledgers), tuple(dict.fromkeys([*notes, *(note for part in parts for note in part.notes)])))


def _attention(plan: Plan, path: str) -> str:
    """The product of activations beside which vector work runs: in its layer, or in the last."""
    layer = path[: -len(kind(path))] or f"layers.{plan.config.num_hidden_layers - 1}."
    return f"{layer}{DYNAMIC[0]}"


def _vector_device(plan: Plan, path: str) -> str | None:
    """The device of vector work: the one beside it, or where that has only products, the first that can do it."""
    beside = plan.assignment[_attention(plan, path)]
    able = (name for name, device in plan.system.devices.items() if not isinstance(device.model, PRODUCTS_ONLY))
    return beside if not isinstance(plan.system.devices[beside].model, PRODUCTS_ONLY) else next(able, None)


def _on_arrays(plan: Plan, name: str, macro: AnalogMacro, work: list[Product], steps: int) -> _Part:
    """Matrices of weights in arrays, priced in one call."""
    if not work:
        return _Part(EMPTY, lambda latency: EMPTY, ())
    paths = [product.path for product in work]
    n_in, n_out, vectors = (
        np.array([getattr(product, field) for product in work]) for field in ("n_in", "n_out", "vectors")
    )
    known = [plan.operands.get(path) for path in paths]
    assumed = uniform_operands(macro)
    each = [operands if operands is not None else assumed for operands in known]
    stacked = Operands(jnp.stack([o.u2 for o in each]), jnp.stack([o.g for o in each]))
    ledger = matrix_cost(macro, n_in, n_out, vectors * steps, stacked).without("leakage").spread(paths)
    power = leakage_power(macro, n_in, n_out)
    silent = jnp.zeros_like(power)

    def standing(latency) -> Ledger:
        return Ledger(tuple(paths), ("leakage",) * len(paths), power * latency, silent, silent)

    missing = known.count(None)
    told = f"{name}: operand statistics " + (
        each[0].source if not missing else f"{assumed.source} ({missing} of {len(paths)} matrices): calibrate the plan"
    )
    return _Part(ledger, standing, (told, *(f"{name}: {note}" for note in uncounted(macro))))


def _on_digital(name: str, unit: DigitalUnit, work: list[Product], vector: list[VectorWork], steps: int) -> _Part:
    """Products and vector work on a digital unit; layers of one kind are the same, and priced once."""
    if not work and not vector:
        return _Part(EMPTY, lambda latency: unit_cost(unit, latency, name), ())
    counts = {kind(p.path): (p.macs, p.held, p.vectors, p.moved, 0) for p in work}
    counts |= {kind(v.path): (0, 0, 0, 2 * v.elements, v.ops) for v in vector}  # each element is read and written
    macs, held, vectors, moved, ops = _table(counts, steps)
    ledger = digital_cost(unit, macs=macs, values=product_values(unit, held, vectors, moved), ops=ops)
    held_at_the_end = sum(np.max(product.held) for product in work)
    return _Part(
        _spread_kinds(ledger, list(counts), [item.path for item in (*work, *vector)]),
        lambda latency: unit_cost(unit, latency, name),
        tuple(f"{name}: {note}" for note in digital_notes(unit, held_at_the_end)),
    )


def _table(counts: dict[str, tuple[Any, ...]], steps: int) -> np.ndarray:
    """The counts of each kind of operator, at each step: [counts, kinds, steps]."""
    rows = [[np.broadcast_to(value, steps) for value in row] for row in counts.values()]
    return np.moveaxis(np.array(rows, np.float32), 1, 0)


def _spread_kinds(ledger: Ledger, kinds: list[str], paths: list[str]) -> Ledger:
    """A ledger over [kinds, steps], summed over the steps and given to each operator of its kind."""
    column = np.array([kinds.index(kind(path)) for path in paths])
    return ledger.map(lambda values: values.sum(axis=-1)[:, column]).spread(paths)


def _on_digital_macro(name: str, macro: DigitalMacro, work: list[Product], steps: int) -> _Part:
    """Matrices of weights in digital macros, priced in one call."""
    if not work:
        return _Part(EMPTY, lambda latency: EMPTY, ())
    paths = [product.path for product in work]
    n_in, n_out, vectors = (
        np.array([getattr(product, field) for product in work]) for field in ("n_in", "n_out", "vectors")
    )
    ledger = digital_macro_cost.matrix_cost(macro, n_in, n_out, vectors * steps).without("leakage").spread(paths)
    power = digital_macro_cost.leakage_power(macro, n_in, n_out)
    silent = jnp.zeros_like(power)

    def standing(latency) -> Ledger:
        return Ledger(tuple(paths), ("leakage",) * len(paths), power * latency, silent, silent)

    return _Part(ledger, standing, tuple(f"{name}: {note}" for note in digital_macro_cost.notes(macro)))


def _on_roofline(name: str, roofline: Roofline, work: list[Product], vector: list[VectorWork], steps: int) -> _Part:
    """Products and vector work on a roofline, operator by operator: what is written anew goes to the memory too."""
    if not work and not vector:
        return _Part(EMPTY, lambda latency: EMPTY, ())
    counts = {kind(p.path): (2 * p.macs, p.held + p.written + p.moved) for p in work}
    counts |= {kind(v.path): (v.ops, 2 * v.elements) for v in vector}
    operations, values = _table(counts, steps)
    ledger = roofline_cost.roofline_cost(roofline, operations=operations, values=values)
    told = [*roofline_cost.notes(roofline)]
    told += _exact_attention(roofline, work)
    return _Part(
        _spread_kinds(ledger, list(counts), [item.path for item in (*work, *vector)]),
        lambda latency: roofline_cost.die_cost(roofline, name),
        tuple(f"{name}: {note}" for note in told),
    )


def _on_near_dram(name: str, device: NearDram, work: list[Product], steps: int) -> _Part:
    """Products at the banks, operator by operator, and the writing of new keys and values."""
    if not work:
        return _Part(EMPTY, lambda latency: EMPTY, ())
    kinds = {kind(product.path): product for product in work}
    ledgers = [_at_banks(device, product, steps) for product in kinds.values()]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *ledgers)
    held = sum(np.max(product.held) for product in work)
    notes = (*near_dram_cost.plan_notes(device, kinds.values(), held), *_exact_attention(device, work))
    return _Part(
        _spread_kinds(stacked, list(kinds), [product.path for product in work]),
        lambda latency: near_dram_cost.standing(device, latency).named(name),
        tuple(f"{name}: {note}" for note in notes),
    )


def _at_banks(device: NearDram, product: Product, steps: int) -> Ledger:
    """One operator over the steps of a phase, [rows, steps]."""
    filled = STEPS * -(-steps // STEPS)

    def at_each_step(size: Any) -> np.ndarray:
        """A size at each step, and the last once more up to a length that phases and plans share: one compilation."""
        return np.pad(np.broadcast_to(np.asarray(size), steps), (0, filled - steps), mode="edge")

    def spent(operation: str, *sizes: Any) -> Ledger:
        return near_dram_cost.work_cost(device, *map(at_each_step, sizes), operation=operation, alone=False)

    n_in, n_out, vectors, copies = product.n_in, product.n_out, product.vectors, product.copies
    if not product.dynamic:
        ledger = spent("gemv", n_in, n_out, vectors, copies)
    else:
        keys = product.path.endswith(DYNAMIC[0])
        size = n_in if keys else n_out
        done = spent("score" if keys else "context", n_in, n_out, vectors, copies)
        written = spent("append_key" if keys else "append_value", size, 1, product.written // (copies * size), copies)
        ledger = jax.tree.map(jnp.add, done, written)
    return ledger.map(lambda figures: figures[:, :steps])


def _exact_attention(device: Any, work: list[Product]) -> list[str]:
    """That attention is priced on a device but not emulated there."""
    if takes_activations(device) or not any(product.dynamic for product in work):
        return []
    return ["products of two activations are priced here, but computed exactly: its format is not applied"]


def _for_free(paths: list[str]) -> _Part:
    if not paths:
        return _Part(EMPTY, lambda latency: EMPTY, ())
    zero = jnp.zeros(len(paths))
    return _Part(ledger_of([("ideal", zero, zero, zero)]).spread(paths), lambda latency: EMPTY, (FREE,))


EMPTY = Ledger((), (), *(jnp.zeros(0) for _ in range(3)))
