"""What a device does in a phase, and how the work of a product is shared among its copies."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pim.costs.blocks import NOTHING, Block, block_of
from pim.costs.ledger import Ledger
from pim.costs.sorts import Sort, paths_of
from pim.llm_workloads.operators import Count, Product
from pim.mapping.expert_parallel import SPREAD, busiest
from pim.mapping.plan import Plan
from pim.mapping.tensor_parallel import part_of_product


class Part(NamedTuple):
    """What the copies of one device do in a phase, and what they cost by being there for a time (s) at each point."""

    work: Block
    standing: Callable[[Any], Block]
    notes: Callable[[], tuple[str, ...]]
    """Looked for when asked for: they read values that may be traced."""


IDLE = Part(NOTHING, lambda latency: NOTHING, tuple)


class Share(NamedTuple):
    """How a product is shared.

    Attributes:
        mean: what one of those has that share it, on average: of this is the energy.
        parts: how many there are of them.
        busy: what the one has on which the others wait: of this is the time.
        turns: the share of the operators like it that one goes through after another; the others go on beside them.
        there: matrices that are there for each one of the product.
    """

    mean: Product
    parts: Count
    busy: Product
    turns: float = 1.0
    there: int = 1


def shares_of(plan: Plan, name: str, sorts: dict[Sort, list[Product]]) -> list[Share]:
    """How the copies of a device share a product of each sort."""
    return [_share(plan, name, items[0]) for items in sorts.values()]


def _share(plan: Plan, name: str, product: Product) -> Share:
    devices = plan.system.sharing(name)
    if ".experts." in product.path and plan.system.experts == SPREAD and devices > 1:
        spread = spread_over(plan, devices)
        mean, parts = part_of_product(product, -(-devices // spread))
        return Share(mean, parts, busiest_expert(plan, mean, spread), 1 / spread)
    mean, parts = part_of_product(product, devices)
    return Share(mean, parts, mean)


def spread_over(plan: Plan, devices: int) -> int:
    """Devices that experts are dealt out to; where there are more, each expert is cut over some of them."""
    return min(devices, plan.config.ffn.experts)


def busiest_expert(plan: Plan, expert: Product, devices: int) -> Product:
    """The mean expert of the device that has most to do, of those over which the experts are spread."""
    ffn, each = plan.config.ffn, plan.config.ffn.experts / devices
    tokens = np.divide(expert.vectors, ffn.experts_per_token / ffn.experts)
    asked, got = busiest(tokens, ffn.experts, ffn.experts_per_token, devices, plan.system.routing)
    return replace(expert, used=np.divide(asked, each), vectors=np.divide(got, each))


def shared_block(
    sorts: dict[Sort, list[Any]],
    shares: Sequence[Share],
    points: int,
    price: Callable[[list[Product]], Ledger],
    others: Sequence[int] = (),
) -> Block:
    """The block of products that copies of a device share, and of other work behind them.

    Args:
        sorts: of the products, then of the other work.
        shares: of the products.
        points: over which counts run where they are arrays.
        price: finds the ledger of one product of each sort, [rows, sorts or more, points or more], and of the rest.
        others: how many do each sort of other work.
    """
    cut = lambda ledger: ledger.map(lambda figures: figures[:, : len(sorts), :points])
    ledger = cut(price([share.busy for share in shares]))
    alike = all(share.busy is share.mean for share in shares)
    spent = ledger if alike else cut(price([share.mean for share in shares]))
    each = lambda counts, rest: _table([*counts, *rest], points)
    parts = each([share.parts for share in shares], others)
    there = each([share.parts * share.there for share in shares], others)
    turns = each([share.turns for share in shares], [1] * len(others))
    figures = (_times(spent.energy, parts), _times(ledger.latency, turns), _times(spent.area, there))
    return Block(Ledger(ledger.operators, ledger.components, *figures), paths_of(sorts))


def _table(counts: Sequence[Count], points: int) -> np.ndarray:
    """Counts of each sort at each point, [sorts, points]."""
    each = [np.broadcast_to(np.asarray(count, np.float64).reshape(-1), points) for count in counts]
    return np.array(each).reshape(len(counts), points)


def _times(figures: Any, counts: np.ndarray) -> Any:
    """Figures [rows, sorts, points] so many times; those that are the same at all points stay so if they can."""
    if (counts == 1).all():
        return figures
    same = figures.shape[-1] == 1 and (counts == counts[:, :1]).all()
    return figures * jnp.asarray(counts[:, :1] if same else counts, jnp.float32)[None]


def there(ledger: Ledger, name: str, count: int) -> Block:
    """What so many copies of a device cost by being there, from the ledger of one over points."""
    each = ledger.map(lambda figures: figures if figures.ndim == 2 else figures[:, None])
    return block_of(each.map(lambda figures: figures * count), name)
