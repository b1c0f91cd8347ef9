"""What each device of a system does in a phase of a plan, and what that costs, family by family."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs import gain_attention_cost, roofline_cost
from pim.costs.array_parts import on_arrays
from pim.costs.bank_vectors_cost import does_vectors
from pim.costs.blocks import NOTHING, Block
from pim.costs.digital_cost import digital_cost, digital_notes, product_values, unit_cost
from pim.costs.ledger import FREE, Ledger, ledger_of
from pim.costs.memory_parts import exact_attention, on_near_dram, on_near_flash
from pim.costs.parts import IDLE, Part, shared_block, shares_of, there
from pim.costs.sorts import Sort, by_sort, count_table, paths_of
from pim.devices.components.special_functions import WORK, Operations
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.gain_attention import GainAttention
from pim.devices.kv_store import KeyValueStore
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.llm_workloads.operators import Phase, Product, VectorWork
from pim.mapping.plan import Plan
from pim.mapping.tensor_parallel import part_of_work

PRODUCTS_ONLY = (AnalogMacro, DigitalMacro, NearDram, NearFlash, GainAttention, KeyValueStore)
"""Devices that have no unit for vector work, but for some of near-DRAM: see `products_only`."""


def products_only(model: Any) -> bool:
    """Whether a device does no vector work."""
    return isinstance(model, PRODUCTS_ONLY) and not does_vectors(model)


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
        return on_arrays(plan, name, model, work, points)
    if isinstance(model, DigitalUnit):
        return _on_digital(plan, name, model, work, vector, points)
    if isinstance(model, Roofline):
        return _on_roofline(plan, name, model, work, vector, points)
    if isinstance(model, NearDram):
        return on_near_dram(plan, name, model, work, vector, phase, points)
    if isinstance(model, NearFlash):
        return on_near_flash(plan, name, model, work, points)
    if isinstance(model, GainAttention):
        return _on_gain_cells(plan, name, model, work, points)
    return _for_free(by_sort(plan, [*work, *vector]))


# Families of devices ------------------------------------------------------------------------------------------------


def _on_digital(
    plan: Plan, name: str, unit: DigitalUnit, work: list[Product], vector: list[VectorWork], points: int
) -> Part:
    """Products and vector work on a digital unit."""
    count = plan.system.count(name)

    def standing(latency: Any) -> Block:
        return there(unit_cost(unit, latency, name), name, count)

    if not work and not vector:
        return Part(NOTHING, standing, tuple)
    products, elementwise = by_sort(plan, work), by_sort(plan, vector)
    each = [part_of_work(items[0], plan.system.sharing(name)) for items in elementwise.values()]

    def price(mine: list[Product]) -> Ledger:
        counts = [(p.macs, p.read, p.vectors_if_used, p.moved, 0, 0, 0, 0) for p in mine]
        # each element of vector work is read and written
        counts += [(0, 0, 0, 2 * v.elements, v.ops, *WORK[v.kind](v.elements)) for v, _ in each]
        macs, held, vectors, moved, ops, *done = count_table(counts, points)
        values = product_values(unit, held, vectors, moved)
        return digital_cost(unit, macs=macs, values=values, ops=ops, work=Operations(*done))

    shares = shares_of(plan, name, products)
    held_at_the_end = sum(np.max(product.held) for product in work) / count
    return Part(
        shared_block(products | elementwise, shares, points, price, [n for _, n in each]),
        standing,
        lambda: tuple(f"{name}: {note}" for note in digital_notes(unit, held_at_the_end)),
    )


def _on_roofline(
    plan: Plan, name: str, roofline: Roofline, work: list[Product], vector: list[VectorWork], points: int
) -> Part:
    """Products and vector work on a roofline: what is written anew goes to the memory too."""
    count = plan.system.count(name)

    def standing(latency: Any) -> Block:
        return there(roofline_cost.die_cost(roofline, name, latency), name, count)

    if not work and not vector:
        return Part(NOTHING, standing, tuple)
    products, elementwise = by_sort(plan, work), by_sort(plan, vector)
    each = [part_of_work(items[0], plan.system.sharing(name)) for items in elementwise.values()]

    def price(mine: list[Product]) -> Ledger:
        counts = [roofline_cost.product_counts(roofline, product) for product in mine]
        counts += [roofline_cost.vector_counts(roofline, item) for item, _ in each]
        fields = roofline_cost.COUNTS
        table = count_table([tuple(count.get(field, 0) for field in fields) for count in counts], points)
        return roofline_cost.roofline_cost(roofline, **dict(zip(fields, table, strict=True)))

    def notes() -> tuple[str, ...]:
        told = (*roofline_cost.notes(roofline), *roofline_cost.fit_notes(roofline, work, count))
        return tuple(f"{name}: {note}" for note in (*told, *exact_attention(roofline, work)))

    shares = shares_of(plan, name, products)
    return Part(shared_block(products | elementwise, shares, points, price, [n for _, n in each]), standing, notes)


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
        lambda latency: there(gain_attention_cost.standing(name), name, 1),
        lambda: tuple(f"{name}: {note}" for note in gain_attention_cost.notes(engine, plan.config.head_dim)),
    )


def _for_free(sorts: dict[Sort, list[Any]]) -> Part:
    if not sorts:
        return IDLE
    zero = jnp.zeros((len(sorts), 1))
    return Part(Block(ledger_of([("ideal", zero, zero, zero)]), paths_of(sorts)), IDLE.standing, lambda: (FREE,))
