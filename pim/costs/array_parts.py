"""What arrays do in a phase of a plan: matrices of weights that lie in them, keys and values that are written there."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs import digital_macro_cost, macro_cost
from pim.costs.blocks import Block, beside
from pim.costs.digital_operands import assumed_operands
from pim.costs.dynamic_cost import dynamic_cost, dynamic_notes, standing_power
from pim.costs.ledger import Ledger
from pim.costs.operands import uniform_operands
from pim.costs.parts import IDLE, Part, Share, busiest_expert, shared_block
from pim.costs.sorts import SORTS, by_sort, count_table, paths_of
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.llm_workloads.operators import Product
from pim.mapping.expert_parallel import SPREAD
from pim.mapping.plan import Plan


def on_arrays(plan: Plan, name: str, macro: AnalogMacro | DigitalMacro, work: list[Product], points: int) -> Part:
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
    shares = [_share(plan, items[0]) for items in sorts.values()]
    known = [plan.operands.get(items[0].path) for items in sorts.values()]

    def price(products: list[Product]) -> Ledger:
        n_in, n_out, vectors = count_table([(p.n_in, p.n_out, p.vectors) for p in products], points, alone=True)
        each = [replace(assumed if operands is None else operands, source="") for operands in known]
        each += [each[-1]] * (len(n_in) - len(each))
        stacked = jax.tree.map(lambda *values: jnp.stack(values)[:, None], *each)
        return costs.matrix_cost(macro, n_in[:, :1], n_out[:, :1], vectors, stacked).without("leakage")

    mean = [share.mean for share in shares]
    sides = ([int(product.n_in) for product in mean], [int(product.n_out) for product in mean])
    sizes = (np.array(side, np.int32)[:, None] for side in sides)
    there = np.array([[float(share.parts * share.there)] for share in shares])
    power = costs.leakage_power(macro, *(_padded(size) for size in sizes))[: len(sorts)] * there

    def notes() -> tuple[str, ...]:
        missing = sum(len(i) for i, operands in zip(sorts.values(), known, strict=True) if operands is None)
        told = list(_array_notes(macro, known, assumed, missing, len(work)))
        told += [COPIED] * any(share.there > 1 for share in shares)
        return tuple(f"{name}: {note}" for note in told)

    done = shared_block(sorts, shares, points, price)
    return Part(done, lambda latency: _leaking(power * latency[None], paths_of(sorts)), notes)


COPIED = "copies of a matrix share the vectors of a step; the first is the one that is emulated"


def _padded(sizes: np.ndarray) -> np.ndarray:
    """Sizes, the last once more up to a shared length."""
    return np.pad(sizes, ((0, -len(sizes) % SORTS), (0, 0)), mode="edge")


def _share(plan: Plan, product: Product) -> Share:
    """How copies of a matrix share its vectors, and experts that work side by side the tokens."""
    copies, mean = plan.system.copies_of(product.path), replace(product, copies=1)
    spread = ".experts." in product.path and plan.system.experts == SPREAD
    experts = plan.config.ffn.experts if spread else 1
    busy = busiest_expert(plan, mean, experts) if spread else mean
    if copies > 1:
        busy = replace(busy, vectors=np.minimum(busy.vectors, np.ceil(np.divide(busy.vectors, copies))))
    return Share(mean, product.copies, busy, 1 / experts, copies)


def _array_notes(macro: Any, known: list[Any], assumed: Any, missing: int, matrices: int) -> tuple[str, ...]:
    if isinstance(macro, DigitalMacro):
        told = assumed if None in known else known[0]  # each that is not measured is assumed, which is then said
        return digital_macro_cost.notes(macro, told)
    source = f"{assumed.source} ({missing} of {matrices} matrices): calibrate the plan" if missing else known[0].source
    return f"operand statistics {source}", *macro_cost.uncounted(macro)
