"""What a store of keys and values costs: reading and writing it, keeping it fresh, and being there.

Every step reads what is kept once, for all queries of a group, and writes what is new; a prompt's keys and values are
written and read once. They stream past what multiplies them, so that an operator takes as long as the longer of the
two: the store's rows have the time by which it is the slower one. A refresh reads and writes what is kept.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from pim.costs.blocks import Block, block_of
from pim.costs.ledger import UNKNOWN, Ledger, ledger_of
from pim.costs.parts import Part
from pim.costs.sorts import by_sort, paths_of
from pim.devices.kv_store import KeyValueStore
from pim.devices.retention_errors import RetentionErrors
from pim.llm_workloads.operators import Product
from pim.mapping.plan import Plan
from pim.mapping.stores import holding_store
from pim.units import no_room


def store_parts(plan: Plan, every: list[Product], parts: dict[str, Part], points: int) -> dict[str, Part]:
    """What each store of a plan's system does in a phase.

    Args:
        plan: the plan, as it is in that phase.
        every: all products of the phase.
        parts: what the devices do that multiply, by name.
        points: over which counts run where they are arrays.
    """
    if not plan.system.stores:
        return {}
    beside = {path: time for part in parts.values() for path, time in part.work.times(points)}
    return {name: _part(plan, name, every, beside, points) for name in dict.fromkeys(plan.system.stores.values())}


def without_stored(plan: Plan, product: Product) -> Product:
    """A product as the device sees it that multiplies: what is in a store is neither held nor written there."""
    if not product.dynamic or holding_store(plan.system, plan.assignment[product.path]) is None:
        return product
    return replace(product, held=0, written=0)


def _part(plan: Plan, name: str, every: list[Product], beside: dict[str, Any], points: int) -> Part:
    store: KeyValueStore = plan.system.devices[name].model
    count, system = plan.system.count(name), plan.system
    served = [p for p in every if p.dynamic and holding_store(system, plan.assignment[p.path]) == name]
    sorts = by_sort(plan, served)
    each = store.value_bytes(plan.config.head_dim) if served else 0.0
    at = lambda count: jnp.asarray(np.broadcast_to(np.asarray(count, np.float64), points) * each, jnp.float32)
    kept = sum((at(product.held) for product in served), jnp.zeros(points))
    rows = [
        _moved(store, at(i[0].read), at(i[0].written), system.sharing(name), beside[i[0].path]) for i in sorts.values()
    ]

    def standing(latency: Any) -> Block:
        size = store.area if store.holds else 0.0  # a rule of what is kept takes no room
        area = UNKNOWN if size is None else size * count
        there = [("static", store.standing_power * count * latency, 0.0, area)]
        if isinstance(store.retention, RetentionErrors) and store.interface is not None:
            once = store.interface.read_energy(kept) + store.interface.write_energy(kept)
            there.append(("refresh", once / store.retention.refresh_interval * latency, 0.0, 0.0))
        return block_of(ledger_of(there), name)

    work = Block(_stacked(rows), paths_of(sorts))
    return Part(work, standing, lambda: _notes(plan, name, store, float(jnp.max(kept))))


def _moved(store: KeyValueStore, read: Any, written: Any, sharing: int, multiplied: Any) -> Ledger:
    """Reading and writing so many bytes of an operator that takes a time (s) without them."""
    if store.interface is None:
        nothing = jnp.zeros_like(read)
        return ledger_of([("read", nothing, nothing, 0.0), ("write", nothing, nothing, 0.0)])
    slower = jnp.maximum(store.interface.time((read + written) / sharing) - multiplied, 0.0)
    share = read / jnp.maximum(read + written, 1.0)
    return ledger_of([
        ("read", store.interface.read_energy(read), slower * share, 0.0),
        ("write", store.interface.write_energy(written), slower * (1.0 - share), 0.0),
    ])  # fmt: skip


def _stacked(rows: list[Ledger]) -> Ledger:
    """Ledgers of operators over points, side by side: [components, operators, points]."""
    if not rows:
        return ledger_of([("read", jnp.zeros((0, 1)), jnp.zeros((0, 1)), 0.0)])
    figures = (jnp.stack([getattr(row, name) for row in rows], axis=1) for name in ("energy", "latency", "area"))
    return Ledger(rows[0].components, rows[0].components, *figures)


def _notes(plan: Plan, name: str, store: KeyValueStore, kept: float) -> tuple[str, ...]:
    told = []
    if store.holds and store.interface is None:
        told.append("reading and writing it is not counted: it has no interface")
    if store.sinks:
        told.append("tokens that are kept stay at their places in the text: they are not renumbered")
    if store.token_time is not None and store.retention is not None:
        told.append(f"accuracy is that of a token every {float(store.token_time):.3g} s")
    if store.capacity is not None:
        told += no_room(kept, float(store.capacity) * plan.system.count(name), "stores")
    return tuple(f"{name}: {note}" for note in told)
