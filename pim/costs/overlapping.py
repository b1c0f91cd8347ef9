"""What goes on behind other work: results on links while the next are found, rewriting while what was written is used.

Results that leave in pieces as they come, as those of tiles of a matrix do, hide behind the product that gives or takes
them (Jangda et al., CoCoNet, ASPLOS 2022, section 5): of both times the longer counts. So it is with arrays of which
one half is rewritten while the other multiplies ("ping-pong", as in StreamDCIM, arXiv 2502.05798), head after head. In
either case the pieces are taken for many: filling and emptying takes no time.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.costs.blocks import Block
from pim.costs.dynamic_cost import WRITE
from pim.llm_workloads.operators import layer_of

GIVERS = {"attention.all_reduce": ("attention.o",), "ffn.all_reduce": ("down",), "ffn.combine": ("down",)}
"""Ends of the paths of the products whose results are added up, by that of the sum; all else hides behind its taker."""
FIRST = ("ffn.dispatch", "pipeline")
"""Ends of the paths of what must be there before anything can begin."""

Times = dict[str, Float[Array, "points"]]
"""Times (s) by path."""


def rewritten_meanwhile(block: Block) -> Block:
    """A block whose writing takes only as long as it outlasts the products with what was written before."""
    ledger = block.ledger
    if WRITE not in ledger.components:
        return block
    row = ledger.components.index(WRITE)
    rest = ledger.latency.sum(axis=0) - ledger.latency[row]
    waited = jnp.maximum(ledger.latency[row] - rest, 0.0)
    return block._replace(ledger=replace(ledger, latency=ledger.latency.at[row].set(waited)))


def sent_meanwhile(sent: Sequence[Block], work: Sequence[Block], points: int) -> tuple[list[Block], Times]:
    """Traffic whose rows take only as long as it outlasts the work that it hides behind, and what is hidden of each.

    Operators of a kind hide as much as the one among them that can hide least.

    Args:
        sent: what goes over the links.
        work: what the devices do.
        points: steps, or points of a sweep.
    """
    left: Times = {}
    for block in work:
        for path, time in block.times(points):
            left[path] = left.get(path, 0.0) + time
    found, hidden = [], {}
    for block in sent:
        times = block.times(points)
        covers = {path: _covers(path, left) for path, _ in times}
        room = {path: sum((left[cover] for cover in covers[path]), jnp.zeros(points)) for path in covers}
        most = jnp.min(jnp.stack([jnp.minimum(time, room[path]) for path, time in times]), axis=0)
        for path, _ in times:
            hidden[path] = hidden.get(path, 0.0) + most
            share = most / jnp.where(room[path] > 0, room[path], 1.0)
            left |= {cover: left[cover] * (1 - share) for cover in covers[path]}
        ledger = block.ledger
        whole = jnp.broadcast_to(ledger.latency, (*ledger.latency.shape[:-1], points))
        found.append(block._replace(ledger=replace(ledger, latency=jnp.maximum(whole - most[None, None], 0.0))))
    return found, hidden


def _covers(path: str, work: Times) -> list[str]:
    """The paths of the work that a transfer or a sum hides behind."""
    end = path.split(".", 2)[-1]
    if end in FIRST:
        return []
    ends = GIVERS.get(end, (end,))
    if ".experts." in end:  # the transfer is that of all experts
        ends = (end.rpartition(".")[-1],)
    layer = layer_of(path)
    return [each for each in work if layer_of(each) == layer and any(each.endswith(f".{e}") or each == e for e in ends)]
