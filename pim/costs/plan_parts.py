"""What each device of a system does in a phase of a plan, and what that costs, family by family."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs import (
    digital_macro_cost,
    gain_attention_cost,
    macro_cost,
    near_dram_cost,
    near_flash_cost,
    roofline_cost,
)
from pim.costs.bank_vectors_cost import NOTE, does_vectors, vector_ledger
from pim.costs.blocks import NOTHING, Block, beside, block_of
from pim.costs.digital_cost import digital_cost, digital_notes, product_values, unit_cost
from pim.costs.digital_operands import assumed_operands
from pim.costs.dynamic_cost import dynamic_cost, dynamic_notes, standing_power
from pim.costs.ledger import FREE, Ledger, ledger_of
from pim.costs.operands import uniform_operands
from pim.costs.sorts import POINTS, Sort, by_sort, count_table, paths_of
from pim.devices.components.special_functions import WORK, Operations
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.gain_attention import GainAttention
from pim.devices.kv_store import KeyValueStore
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.errors import StudyError
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, VectorWork
from pim.mapping.plan import Plan
from pim.mapping.tensor_parallel import part_of_product, part_of_work
from pim.written import takes_activations

PRODUCTS_ONLY = (AnalogMacro, DigitalMacro, NearDram, NearFlash, GainAttention, KeyValueStore)
"""Devices that have no unit for vector work, but for some of near-DRAM: see `products_only`."""


def products_only(model: Any) -> bool:
    """Whether a device does no vector work."""
    return isinstance(model, PRODUCTS_ONLY) and not does_vectors(model)


class Part(NamedTuple):
    """What the copies of one device do in a phase, and what they cost by being there for a time (s) at each point."""

    work: Block
    standing: Callable[[Any], Block]
    notes: Callable[[], tuple[str, ...]]
    """Looked for when asked for: they read values that may be traced."""


IDLE = Part(NOTHING, lambda latency: NOTHING, tuple)


def device_part(
    plan: Plan, name: str, phase: Phase, work: list[Product], vector: list[VectorWork], points: int
) -> Part:
    """The part of one device of a plan's system in a phase.

    Args:
        plan: the plan, as it is in that phase.
        name: of the device in its system.
        phase: the phase.
        work: the products that it runs.
        vector: the vector work that it does.
        points: over which counts run where they are arrays: steps, or a sweep.
    """
    model = plan.system.devices[name].model
    if isinstance(model, AnalogMacro | DigitalMacro):
        return _on_arrays(plan, name, model, work, points)
    if isinstance(model, DigitalUnit):
        return _on_digital(plan, name, model, work, vector, points)
    if isinstance(model, Roofline):
        return _on_roofline(plan, name, model, work, vector, points)
    if isinstance(model, NearDram):
        return _on_near_dram(plan, name, model, work, vector, phase, points)
    if isinstance(model, NearFlash):
        return _on_near_flash(plan, name, model, work, points)
    if isinstance(model, GainAttention):
        return _on_gain_cells(plan, name, model, work, points)
    return _for_free(by_sort(plan, [*work, *vector]))


def _block(ledger: Ledger, sorts: dict[Sort, list[Any]], points: int, parts: Any = 1) -> Block:
    """A block of what was priced: the sorts and points that were asked for, and as many parts as share each."""
    ledger = ledger.map(lambda figures: figures[:, : len(sorts), :points])
    return Block(ledger if np.size(parts) == 1 and parts == 1 else in_parts(ledger, parts), paths_of(sorts))


def in_parts(ledger: Ledger, parts: Any) -> Ledger:
    """The ledger of parts that are done side by side: the energy and area of all, the time of one."""
    each = jnp.asarray(parts, jnp.float32)[None]
    return replace(ledger, energy=ledger.energy * each, area=ledger.area * each)


def _shared_products(
    plan: Plan, name: str, sorts: dict[Sort, list[Product]], points: int
) -> tuple[list[Product], np.ndarray]:
    """What one copy of a device has of a product of each sort, and how many such parts there are, [sorts, points]."""
    found = [part_of_product(items[0], plan.system.sharing(name)) for items in sorts.values()]
    parts = [np.broadcast_to(np.asarray(parts, np.float64).reshape(-1), points) for _, parts in found]
    return [part for part, _ in found], np.array(parts).reshape(len(found), points)


# Families of devices ------------------------------------------------------------------------------------------------


def _on_arrays(plan: Plan, name: str, macro: AnalogMacro | DigitalMacro, work: list[Product], points: int) -> Part:
    """Matrices of weights in arrays, and keys and values, which are written there."""
    static = _weights_in_arrays(plan, name, macro, [product for product in work if not product.dynamic], points)
    dynamic = _attention_in_arrays(plan, name, [product for product in work if product.dynamic], points)
    if not (static.work.members and dynamic.work.members):
        return static if static.work.members else dynamic
    return Part(
        beside(static.work, dynamic.work),
        lambda latency: beside(static.standing(latency), dynamic.standing(latency)),
        lambda: (*static.notes(), *dynamic.notes()),
    )


def _attention_in_arrays(plan: Plan, name: str, work: list[Product], points: int) -> Part:
    """Products of activations, whose matrices are written token by token."""
    if not work:
        return IDLE
    device, sorts = plan.system.devices[name], by_sort(plan, work)
    one = [items[0] for items in sorts.values()]
    each = [dynamic_cost(device, product, points) for product in one]
    ledger = jax.tree.map(lambda *rows: jnp.concatenate(rows, axis=1), *each)
    power = jnp.stack([standing_power(device, product, points) for product in one])

    def notes() -> tuple[str, ...]:
        return tuple(f"{name}: {note}" for product in one for note in dynamic_notes(device, product))

    return Part(Block(ledger, paths_of(sorts)), lambda latency: _leaking(power * latency[None], paths_of(sorts)), notes)


def _leaking(energy: Any, members: list[list[str]]) -> Block:
    """What arrays leak, [operators, points]."""
    nothing = jnp.zeros_like(energy)[None]
    return Block(Ledger(("leakage",), ("leakage",), energy[None], nothing, nothing), members)


def _weights_in_arrays(
    plan: Plan, name: str, macro: AnalogMacro | DigitalMacro, work: list[Product], points: int
) -> Part:
    """Matrices of weights in arrays, priced in one call."""
    if not work:
        return IDLE
    costs: Any = macro_cost if isinstance(macro, AnalogMacro) else digital_macro_cost
    assumed = uniform_operands(macro) if isinstance(macro, AnalogMacro) else assumed_operands(macro)
    sorts = by_sort(plan, work, plan.operands)
    known = [plan.operands.get(items[0].path) for items in sorts.values()]
    n_in, n_out, vectors = count_table(
        [(i[0].n_in, i[0].n_out, i[0].vectors) for i in sorts.values()], points, alone=True
    )
    each = [replace(assumed if operands is None else operands, source="") for operands in known]
    each += [each[-1]] * (len(n_in) - len(each))
    stacked = jax.tree.map(lambda *values: jnp.stack(values)[:, None], *each)
    ledger = costs.matrix_cost(macro, n_in[:, :1], n_out[:, :1], vectors, stacked).without("leakage")
    copies = np.array([[float(items[0].copies)] for items in sorts.values()])
    power = costs.leakage_power(macro, *(size[: len(sorts), :1].astype(np.int32) for size in (n_in, n_out))) * copies

    def notes() -> tuple[str, ...]:
        missing = sum(len(i) for i, operands in zip(sorts.values(), known, strict=True) if operands is None)
        return tuple(f"{name}: {note}" for note in _array_notes(macro, known, assumed, missing, len(work)))

    done = _block(ledger, sorts, points, 1 if (copies == 1).all() else copies)
    return Part(done, lambda latency: _leaking(power * latency[None], paths_of(sorts)), notes)


def _array_notes(macro: Any, known: list[Any], assumed: Any, missing: int, matrices: int) -> tuple[str, ...]:
    if isinstance(macro, DigitalMacro):
        told = assumed if None in known else known[0]  # each that is not measured is assumed, which is then said
        return digital_macro_cost.notes(macro, told)
    source = f"{assumed.source} ({missing} of {matrices} matrices): calibrate the plan" if missing else known[0].source
    return f"operand statistics {source}", *macro_cost.uncounted(macro)


def _on_digital(
    plan: Plan, name: str, unit: DigitalUnit, work: list[Product], vector: list[VectorWork], points: int
) -> Part:
    """Products and vector work on a digital unit."""
    count = plan.system.count(name)

    def standing(latency: Any) -> Block:
        return _there(unit_cost(unit, latency, name), name, count)

    if not work and not vector:
        return Part(NOTHING, standing, tuple)
    products, elementwise = by_sort(plan, work), by_sort(plan, vector)
    mine, parts = _shared_products(plan, name, products, points)
    counts = [(p.macs, p.read, p.vectors_if_used, p.moved, 0, 0, 0, 0) for p in mine]
    each = [part_of_work(items[0], plan.system.sharing(name)) for items in elementwise.values()]
    # each element of vector work is read and written
    counts += [(0, 0, 0, 2 * v.elements, v.ops, *WORK[v.kind](v.elements)) for v, _ in each]
    macs, held, vectors, moved, ops, *done = count_table(counts, points)
    values = product_values(unit, held, vectors, moved)
    ledger = digital_cost(unit, macs=macs, values=values, ops=ops, work=Operations(*done))
    held_at_the_end = sum(np.max(product.held) for product in work) / count
    return Part(
        _block(ledger, products | elementwise, points, _parts(parts, [n for _, n in each], points)),
        standing,
        lambda: tuple(f"{name}: {note}" for note in digital_notes(unit, held_at_the_end)),
    )


def _parts(products: np.ndarray, vector: list[int], points: int) -> Any:
    """How many parts there are of products and of vector work, [sorts, points]; 1 where nothing is shared."""
    found = np.concatenate([products, np.broadcast_to(np.array(vector, np.float64)[:, None], (len(vector), points))])
    return 1 if (found == 1).all() else found


def _there(ledger: Ledger, name: str, count: int) -> Block:
    """What so many copies of a device cost by being there, from the ledger of one over points."""
    each = ledger.map(lambda figures: figures if figures.ndim == 2 else figures[:, None])
    return block_of(each.map(lambda figures: figures * count), name)


def _on_roofline(
    plan: Plan, name: str, roofline: Roofline, work: list[Product], vector: list[VectorWork], points: int
) -> Part:
    """Products and vector work on a roofline: what is written anew goes to the memory too."""
    count = plan.system.count(name)

    def standing(latency: Any) -> Block:
        return _there(roofline_cost.die_cost(roofline, name, latency), name, count)

    if not work and not vector:
        return Part(NOTHING, standing, tuple)
    products, elementwise = by_sort(plan, work), by_sort(plan, vector)
    mine, parts = _shared_products(plan, name, products, points)
    each = [part_of_work(items[0], plan.system.sharing(name)) for items in elementwise.values()]
    counts = [roofline_cost.product_counts(roofline, product) for product in mine]
    counts += [roofline_cost.vector_counts(roofline, item) for item, _ in each]
    fields = roofline_cost.COUNTS
    table = count_table([tuple(count.get(field, 0) for field in fields) for count in counts], points)
    ledger = roofline_cost.roofline_cost(roofline, **dict(zip(fields, table, strict=True)))

    def notes() -> tuple[str, ...]:
        told = (*roofline_cost.notes(roofline), *roofline_cost.fit_notes(roofline, work, count))
        return tuple(f"{name}: {note}" for note in (*told, *_exact_attention(roofline, work)))

    return Part(
        _block(ledger, products | elementwise, points, _parts(parts, [n for _, n in each], points)), standing, notes
    )


def _on_gain_cells(plan: Plan, name: str, engine: GainAttention, work: list[Product], points: int) -> Part:
    """Attention on gain cells: a time and an energy for each token and head."""
    if not work:
        return IDLE
    sorts = by_sort(plan, work)
    at = lambda count: np.broadcast_to(np.asarray(count, np.float64).reshape(-1), points)
    one = (replace(i[0], copies=at(i[0].copies), vectors=at(i[0].vectors)) for i in sorts.values())
    each = [gain_attention_cost.product_ledger(engine.cost, product) for product in one]
    return Part(
        Block(
            jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *(ledger.named(name) for ledger in each)),
            paths_of(sorts),
        ),
        lambda latency: _there(gain_attention_cost.standing(name), name, 1),
        lambda: tuple(f"{name}: {note}" for note in gain_attention_cost.notes(engine, plan.config.head_dim)),
    )


def _on_near_dram(
    plan: Plan, name: str, device: NearDram, work: list[Product], vector: list[VectorWork], phase: Phase, points: int
) -> Part:
    """Products at the banks, operator by operator, the writing of new keys and values, and vector work where it is."""
    if not work and not vector:
        return IDLE
    sorts, count = by_sort(plan, work), plan.system.count(name)
    mine, parts = _shared_products(plan, name, sorts, points)
    held = sum(np.max(product.held) for product in work) / count
    done = []
    if work:
        stacked = jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *(_at_banks(device, p, points) for p in mine))
        done.append(_block(stacked, sorts, points, _parts(parts, [], points)))
    if vector:
        done.append(_vectors_at_banks(plan, device, vector, phase, points))

    def notes() -> tuple[str, ...]:
        told = (*near_dram_cost.plan_notes(device, mine, held), *_exact_attention(device, work))
        return tuple(f"{name}: {note}" for note in (*told, *([NOTE] if vector else [])))

    return Part(
        reduce(beside, done),
        lambda latency: _there(near_dram_cost.standing(device, latency), name, count),
        notes,
    )


def _on_near_flash(plan: Plan, name: str, flash: NearFlash, work: list[Product], points: int) -> Part:
    """Matrices of weights in the pages of a flash; raises StudyError for keys and values there."""
    if any(product.dynamic for product in work):
        raise StudyError(f"{name}: {near_flash_cost.KEYS_IN_PAGES}")
    if not work:
        return IDLE
    sorts, count = by_sort(plan, work), plan.system.count(name)
    mine, parts = _shared_products(plan, name, sorts, points)
    counts = [(product.n_in, product.n_out, product.vectors_if_used, product.used) for product in mine]
    n_in, n_out, vectors, used = count_table(counts, points)
    ledger = near_flash_cost.work_cost(flash, n_in, n_out, vectors).map(lambda figures: figures * used[None])
    held = sum(np.max(product.held) for product in work) / count
    return Part(
        _block(ledger, sorts, points, _parts(parts, [], points)),
        lambda latency: _there(near_flash_cost.standing(flash, latency), name, count),
        lambda: tuple(f"{name}: {note}" for note in near_flash_cost.notes(flash, held)),
    )


def _vectors_at_banks(plan: Plan, device: NearDram, vector: list[VectorWork], phase: Phase, points: int) -> Block:
    """Vector work of a block that is mapped on the banks; all copies of the device do the same."""
    sorts = by_sort(plan, vector)
    tokens, context = (
        np.broadcast_to(np.asarray(count, np.float64).reshape(-1), points)
        for count in (phase.batch * phase.tokens, phase.visible())
    )
    each = [vector_ledger(device, plan.config, items[0], tokens, np.ceil(context)) for items in sorts.values()]
    return Block(jax.tree.map(lambda *rows: jnp.stack(rows, axis=1), *each), paths_of(sorts))


def _at_banks(device: NearDram, product: Product, points: int) -> Ledger:
    """One operator over the points, [rows, points]."""
    filled = POINTS * -(-points // POINTS)

    def at_each(size: Any) -> np.ndarray:
        """A size at each point, and the last once more up to a shared length."""
        return np.pad(np.broadcast_to(np.asarray(size).reshape(-1), points), (0, filled - points), mode="edge")

    def spent(operation: str, *sizes: Any) -> Ledger:
        return near_dram_cost.work_cost(device, *map(at_each, sizes), operation=operation, alone=False)

    n_in, n_out, vectors, copies = product.n_in, product.n_out, product.vectors, product.copies
    if not product.dynamic:
        used = at_each(product.used)[None]
        return spent("gemv", n_in, n_out, product.vectors_if_used, copies).map(lambda figures: figures * used)
    keys = product.path.endswith(DYNAMIC[0])
    size = n_in if keys else n_out
    done = spent("score" if keys else "context", n_in, n_out, vectors, copies)
    tokens = np.floor_divide(product.written, copies * size)
    written = spent("append_key" if keys else "append_value", size, 1, tokens, copies)
    return jax.tree.map(jnp.add, done, written)


def _exact_attention(device: Any, work: list[Product]) -> list[str]:
    """That attention is priced on a device but not emulated there."""
    if takes_activations(device) or not any(product.dynamic for product in work):
        return []
    return ["products of two activations are priced here, but computed exactly: its format is not applied"]


def _for_free(sorts: dict[Sort, list[Any]]) -> Part:
    if not sorts:
        return IDLE
    zero = jnp.zeros((len(sorts), 1))
    return Part(Block(ledger_of([("ideal", zero, zero, zero)]), paths_of(sorts)), IDLE.standing, lambda: (FREE,))
