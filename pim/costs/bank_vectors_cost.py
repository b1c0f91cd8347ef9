"""What vector work at the banks costs, where a device maps a language model's block on them as CENT does.

Norms, rotary positions, the way of scores to their softmax and the gate are products of two banks whose vectors move
line by line through the front end (`pim.cent_block`). Their time is counted; their energy, a few columns and lines
against whole matrices, is not, nor are roots, exponentials and sums, which a unit beside the banks takes.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.cent_block import BlockTime, block_time
from pim.costs.ledger import Ledger, ledger_of
from pim.devices.dram.kernels.cent_attention import CentAttention
from pim.devices.near_dram import NearDram
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import VectorWork

NOTE = "energy of vector work at the banks, and what the unit beside them does, are not counted"


def does_vectors(model: Any) -> bool:
    """Whether a device runs the vector work of a block at its banks."""
    return isinstance(model, NearDram) and isinstance(model.attention, CentAttention)


def vector_ledger(device: NearDram, config: ModelConfig, work: VectorWork, tokens: Any, context: Any) -> Ledger:
    """The ledger of vector work of a layer for so many tokens, one after another, over their points.

    Args:
        device: one that `does_vectors`.
        config: shapes of the model.
        work: the vector work.
        tokens: of all sequences.
        context: tokens that each attends to.
    """
    context = jnp.atleast_1d(jnp.asarray(context, jnp.int32))
    each = _time(block_time(device, config, context), work.kind)
    return ledger_of([("vectors", 0.0, each * jnp.asarray(tokens, jnp.float32), 0.0)])


def _time(block: BlockTime, kind: str) -> Float[Array, "points"]:
    """Time (s) of a kind of vector work for one token; sums of residuals go behind other work."""
    parts = {
        "norm": block.norm / 2,  # a block has two
        "rope": block.rotary,
        "softmax": block.softmax_traffic,
        "activation": block.activation,
    }
    return parts.get(kind, jnp.zeros_like(block.norm))
