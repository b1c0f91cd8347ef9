"""Writing that does not wait: where inputs are scored instead of keys, they are there before queries are.

The inputs of a layer can be written while queries are made of them and go back through the matrix of the keys
(ReTransformer, ICCAD 2020: no data dependency is left); only what takes longer than both is waited for.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from pim.costs.blocks import Block
from pim.costs.dynamic_cost import WRITE
from pim.llm_workloads.operators import DYNAMIC

MEANWHILE = ("attention.q", "attention.k")
"""Ends of the paths of the products that run while inputs are written."""


def written_early(blocks: list[Block], points: int) -> list[Block]:
    """The blocks with the time of writing inputs shortened by that of the products of its layer before it.

    Args:
        blocks: the work of all devices.
        points: steps, or points of a sweep.

    >>> work = written_early([part.work for part in parts.values()], points)
    """
    before: dict[str, Any] = {}
    for block in blocks:
        for path, time in block.times(points):
            layer, _, end = path.partition(".attention.")
            if f"attention.{end}" in MEANWHILE:
                before[layer] = before.get(layer, 0.0) + time
    return [_shortened(block, before) for block in blocks]


def _shortened(block: Block, before: dict[str, Any]) -> Block:
    """A block whose writing of inputs is hidden behind what its layers do before."""
    ledger = block.ledger
    if WRITE not in ledger.components:
        return block
    row = ledger.components.index(WRITE)
    times = [
        jnp.maximum(time - before[paths[0].partition(".attention.")[0]], 0.0) if paths[0].endswith(DYNAMIC[0]) else time
        for time, paths in zip(ledger.latency[row], block.members, strict=True)
    ]
    rows = [jnp.stack(times) if i == row else each for i, each in enumerate(ledger.latency)]
    return block._replace(ledger=replace(ledger, latency=jnp.stack(rows)))
