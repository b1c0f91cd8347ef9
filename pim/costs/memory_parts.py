"""What memories that multiply do in a phase of a plan: DRAM with units at its banks, flash with units at its pages."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs import near_dram_cost, near_flash_cost
from pim.costs.bank_vectors_cost import NOTE, vector_ledger
from pim.costs.blocks import Block, beside
from pim.costs.ledger import Ledger
from pim.costs.parts import IDLE, Part, shared_block, shares_of, there
from pim.costs.sorts import POINTS, by_sort, count_table, paths_of
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.errors import StudyError
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, VectorWork
from pim.mapping.plan import Plan
from pim.written import takes_activations


def on_near_dram(
    plan: Plan, name: str, device: NearDram, work: list[Product], vector: list[VectorWork], phase: Phase, points: int
) -> Part:
    """Products at the banks, operator by operator, the writing of new keys and values, and vector work where it is."""
    if not work and not vector:
        return IDLE
    sorts, count = by_sort(plan, work), plan.system.count(name)
    shares = shares_of(plan, name, sorts)
    held = sum(np.max(product.held) for product in work) / count
    done = []
    if work:
        price = lambda products: jax.tree.map(
            lambda *rows: jnp.stack(rows, axis=1), *(_at_banks(device, product, points) for product in products)
        )
        done.append(shared_block(sorts, shares, points, price))
    if vector:
        done.append(_vectors_at_banks(plan, device, vector, phase, points))

    def notes() -> tuple[str, ...]:
        told = (
            *near_dram_cost.plan_notes(device, [share.mean for share in shares], held),
            *exact_attention(device, work),
        )
        return tuple(f"{name}: {note}" for note in (*told, *([NOTE] if vector else [])))

    return Part(
        reduce(beside, done),
        lambda latency: there(near_dram_cost.standing(device, latency), name, count),
        notes,
    )


def on_near_flash(plan: Plan, name: str, flash: NearFlash, work: list[Product], points: int) -> Part:
    """Matrices of weights in the pages of a flash; raises StudyError for keys and values there."""
    if any(product.dynamic for product in work):
        raise StudyError(f"{name}: {near_flash_cost.KEYS_IN_PAGES}")
    if not work:
        return IDLE
    sorts, count = by_sort(plan, work), plan.system.count(name)
    held = sum(np.max(product.held) for product in work) / count

    def price(products: list[Product]) -> Ledger:
        counts = [(product.n_in, product.n_out, product.vectors_if_used, product.used) for product in products]
        n_in, n_out, vectors, used = count_table(counts, points)
        return near_flash_cost.work_cost(flash, n_in, n_out, vectors).map(lambda figures: figures * used[None])

    return Part(
        shared_block(sorts, shares_of(plan, name, sorts), points, price),
        lambda latency: there(near_flash_cost.standing(flash, latency), name, count),
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


def exact_attention(device: Any, work: list[Product]) -> list[str]:
    """That attention is priced on a device but not emulated there."""
    if takes_activations(device) or not any(product.dynamic for product in work):
        return []
    return ["products of two activations are priced here, but computed exactly: its format is not applied"]
