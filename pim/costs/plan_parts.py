"""What each device of a system does in a phase of a plan, and what that costs, family by family."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs import digital_macro_cost, near_dram_cost, roofline_cost
from pim.costs.digital_cost import digital_cost, digital_notes, product_values, unit_cost
from pim.costs.digital_operands import assumed_operands
from pim.costs.ledger import FREE, Ledger, kind, ledger_of
from pim.costs.macro_cost import leakage_power, matrix_cost, uncounted
from pim.costs.operands import uniform_operands
from pim.devices.components.special_functions import WORK, Operations
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.roofline import Roofline
from pim.emulation import takes_activations
from pim.llm_workloads.operators import DYNAMIC, Product, VectorWork, layer_of
from pim.mapping.plan import Plan

PRODUCTS_ONLY = (AnalogMacro, DigitalMacro, NearDram)
"""Devices that have no unit for vector work."""

STEPS = 128
"""Steps whose costs at the banks are found in one call, or a multiple of them."""


class Part(NamedTuple):
    """What one device does in a phase, and what it costs by being there for the phase's time."""

    work: Ledger
    standing: Callable[[Any], Ledger]
    notes: Callable[[], tuple[str, ...]]
    """Looked for when asked for: they read values that may be traced."""


def device_part(plan: Plan, name: str, work: list[Product], vector: list[VectorWork], steps: int) -> Part:
    """The part of one device of a plan's system in a phase of `steps` steps.

    Args:
        plan: the plan.
        name: of the device in its system.
        work: the products that it runs.
        vector: the vector work that it does.
        steps: of the phase, over which counts run where they are arrays.
    """
    model = plan.system.devices[name].model
    if isinstance(model, AnalogMacro):
        return _on_arrays(plan, name, model, work, steps)
    if isinstance(model, DigitalMacro):
        return _on_digital_macro(plan, name, model, work, steps)
    if isinstance(model, DigitalUnit):
        return _on_digital(plan, name, model, work, vector, steps)
    if isinstance(model, Roofline):
        return _on_roofline(plan, name, model, work, vector, steps)
    if isinstance(model, NearDram):
        return _on_near_dram(plan, name, model, work, steps)
    return _for_free([item.path for item in (*work, *vector)])


def _on_arrays(plan: Plan, name: str, macro: AnalogMacro, work: list[Product], steps: int) -> Part:
    """Matrices of weights in arrays, priced in one call."""
    if not work:
        return Part(EMPTY, lambda latency: EMPTY, tuple)
    paths = [product.path for product in work]
    n_in, n_out, vectors = (
        np.array([getattr(product, field) for product in work]) for field in ("n_in", "n_out", "vectors")
    )
    known = [plan.operands.get(path) for path in paths]
    assumed = uniform_operands(macro)
    each = [operands if operands is not None else assumed for operands in known]
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *(replace(o, source="") for o in each))
    ledger = _repeated(matrix_cost(macro, n_in, n_out, vectors, stacked), steps).without("leakage").spread(paths)
    power = leakage_power(macro, n_in, n_out)
    silent = jnp.zeros_like(power)

    def standing(latency) -> Ledger:
        return Ledger(tuple(paths), ("leakage",) * len(paths), power * latency, silent, silent)

    missing = known.count(None)
    told = f"{name}: operand statistics " + (
        each[0].source if not missing else f"{assumed.source} ({missing} of {len(paths)} matrices): calibrate the plan"
    )
    return Part(ledger, standing, lambda: (told, *(f"{name}: {note}" for note in uncounted(macro))))


def _repeated(ledger: Ledger, steps: int) -> Ledger:
    """The ledger of that many steps: a token waits for the one before it, so that pipelines fill anew."""
    return replace(ledger, energy=ledger.energy * steps, latency=ledger.latency * steps)


Sort = tuple[str, int | None]
"""What operators of the same counts have in common: their kind, and the window of their layer."""


def _sort(plan: Plan, path: str) -> Sort:
    layer = layer_of(path)
    return kind(path), None if layer is None else plan.config.window(layer)


def _on_digital(
    plan: Plan, name: str, unit: DigitalUnit, work: list[Product], vector: list[VectorWork], steps: int
) -> Part:
    """Products and vector work on a digital unit; operators of one sort are the same, and priced once."""
    if not work and not vector:
        return Part(EMPTY, lambda latency: unit_cost(unit, latency, name), tuple)
    counts = {_sort(plan, p.path): (p.macs, p.read, p.vectors_if_used, p.moved, 0, 0, 0, 0) for p in work}
    # each element of vector work is read and written
    counts |= {_sort(plan, v.path): (0, 0, 0, 2 * v.elements, v.ops, *WORK[v.kind](v.elements)) for v in vector}
    macs, held, vectors, moved, ops, *done = _table(counts, steps)
    values = product_values(unit, held, vectors, moved)
    ledger = digital_cost(unit, macs=macs, values=values, ops=ops, work=Operations(*done))
    held_at_the_end = sum(np.max(product.held) for product in work)
    return Part(
        _spread_sorts(plan, ledger, list(counts), [item.path for item in (*work, *vector)]),
        lambda latency: unit_cost(unit, latency, name),
        lambda: tuple(f"{name}: {note}" for note in digital_notes(unit, held_at_the_end)),
    )


def _table(counts: dict[Sort, tuple[Any, ...]], steps: int) -> np.ndarray:
    """The counts of each sort of operator, at each step: [counts, sorts, steps]."""
    rows = [[np.broadcast_to(value, steps) for value in row] for row in counts.values()]
    return np.moveaxis(np.array(rows, np.float32), 1, 0)


def _spread_sorts(plan: Plan, ledger: Ledger, sorts: list[Sort], paths: list[str]) -> Ledger:
    """A ledger over [sorts, steps], summed over the steps and given to each operator of its sort."""
    column = np.array([sorts.index(_sort(plan, path)) for path in paths])
    return ledger.map(lambda values: values.sum(axis=-1)[:, column]).spread(paths)


def _on_digital_macro(plan: Plan, name: str, macro: DigitalMacro, work: list[Product], steps: int) -> Part:
    """Matrices of weights in digital macros, priced in one call."""
    if not work:
        return Part(EMPTY, lambda latency: EMPTY, tuple)
    paths = [product.path for product in work]
    n_in, n_out, vectors = (
        np.array([getattr(product, field) for product in work]) for field in ("n_in", "n_out", "vectors")
    )
    known, assumed = [plan.operands.get(path) for path in paths], assumed_operands(macro)
    each = [replace(assumed if operands is None else operands, source="") for operands in known]
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *each)
    ledger = _repeated(digital_macro_cost.matrix_cost(macro, n_in, n_out, vectors, stacked), steps)
    ledger = ledger.without("leakage").spread(paths)
    power = digital_macro_cost.leakage_power(macro, n_in, n_out)
    silent = jnp.zeros_like(power)

    def standing(latency) -> Ledger:
        return Ledger(tuple(paths), ("leakage",) * len(paths), power * latency, silent, silent)

    told = assumed if None in known else known[0]  # each that is not measured is assumed, which is then said
    return Part(ledger, standing, lambda: tuple(f"{name}: {note}" for note in digital_macro_cost.notes(macro, told)))


def _on_roofline(
    plan: Plan, name: str, roofline: Roofline, work: list[Product], vector: list[VectorWork], steps: int
) -> Part:
    """Products and vector work on a roofline, operator by operator: what is written anew goes to the memory too."""
    if not work and not vector:
        return Part(EMPTY, lambda latency: EMPTY, tuple)
    counts = {_sort(plan, p.path): (2 * p.macs, p.read + p.written + p.moved) for p in work}
    counts |= {_sort(plan, v.path): (v.ops, 2 * v.elements) for v in vector}
    operations, values = _table(counts, steps)
    ledger = roofline_cost.roofline_cost(roofline, operations=operations, values=values)

    def notes() -> tuple[str, ...]:
        told = (*roofline_cost.notes(roofline), *_exact_attention(roofline, work))
        return tuple(f"{name}: {note}" for note in told)

    return Part(
        _spread_sorts(plan, ledger, list(counts), [item.path for item in (*work, *vector)]),
        lambda latency: roofline_cost.die_cost(roofline, name),
        notes,
    )


def _on_near_dram(plan: Plan, name: str, device: NearDram, work: list[Product], steps: int) -> Part:
    """Products at the banks, operator by operator, and the writing of new keys and values."""
    if not work:
        return Part(EMPTY, lambda latency: EMPTY, tuple)
    sorts = {_sort(plan, product.path): product for product in work}
    ledgers = [_at_banks(device, product, steps) for product in sorts.values()]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *ledgers)
    held = sum(np.max(product.held) for product in work)

    def notes() -> tuple[str, ...]:
        told = (*near_dram_cost.plan_notes(device, sorts.values(), held), *_exact_attention(device, work))
        return tuple(f"{name}: {note}" for note in told)

    return Part(
        _spread_sorts(plan, stacked, list(sorts), [product.path for product in work]),
        lambda latency: near_dram_cost.standing(device, latency).named(name),
        notes,
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
        used = at_each_step(product.used)[None]
        ledger = spent("gemv", n_in, n_out, product.vectors_if_used, copies).map(lambda figures: figures * used)
    else:
        keys = product.path.endswith(DYNAMIC[0])
        size = n_in if keys else n_out
        done = spent("score" if keys else "context", n_in, n_out, vectors, copies)
        tokens = np.floor_divide(product.written, copies * size)
        written = spent("append_key" if keys else "append_value", size, 1, tokens, copies)
        ledger = jax.tree.map(jnp.add, done, written)
    return ledger.map(lambda figures: figures[:, :steps])


def _exact_attention(device: Any, work: list[Product]) -> list[str]:
    """That attention is priced on a device but not emulated there."""
    if takes_activations(device) or not any(product.dynamic for product in work):
        return []
    return ["products of two activations are priced here, but computed exactly: its format is not applied"]


def _for_free(paths: list[str]) -> Part:
    if not paths:
        return Part(EMPTY, lambda latency: EMPTY, tuple)
    zero = jnp.zeros(len(paths))
    return Part(ledger_of([("ideal", zero, zero, zero)]).spread(paths), lambda latency: EMPTY, lambda: (FREE,))


EMPTY = Ledger((), (), *(jnp.zeros(0) for _ in range(3)))
