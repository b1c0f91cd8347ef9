"""What vector work at the banks costs, where a device maps a language model's block on them as CENT does.

Norms, rotary positions and the gate are products of two banks whose vectors move line by line through the front end:
their time is `pim.cent_block`'s, their energy that of their commands (`pim.vector_commands`). The way of scores to
their softmax and back belongs to their product. Exponentials, roots and sums are taken by `Accelerators` beside the
memory, which all blocks on a device share: their time is counted, their energy is not.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.cent_block import BlockTime, block_time
from pim.costs.ledger import Ledger, ledger_of
from pim.costs.near_dram_cost import commands_cost
from pim.devices.dram.kernels.cent_attention import CentAttention
from pim.devices.dram.work import Commands
from pim.devices.near_dram import NearDram
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import VectorWork
from pim.vector_commands import vector_commands

NOTE = "energy of the units beside the banks, for exponentials, roots and positions, is not counted"


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
    each = _at_banks(block_time(device, config, context), work.kind) + time_beside(device, config, work.kind, context)
    commands = vector_commands(device, config, work.kind)
    energy = 0.0 if commands is None else _energy(device, commands)
    tokens = jnp.asarray(tokens, jnp.float32)
    return ledger_of([("vectors", energy * tokens, each * tokens, 0.0)])


@jax.jit
def _energy(device: NearDram, commands: Commands) -> Float[Array, ""]:
    """Energy (J) of commands."""
    return commands_cost(device, commands).energy.sum()


def _at_banks(block: BlockTime, kind: str) -> Float[Array, "points"]:
    """Time (s) of a kind of vector work at the banks for one token; sums of residuals go behind other work."""
    parts = {"norm": block.norm / 2, "rope": block.rotary, "activation": block.activation}  # a block has two norms
    return parts.get(kind, jnp.zeros_like(block.norm))


def time_beside(device: NearDram, config: ModelConfig, kind: str, context: Any) -> Float[Array, "*shape"]:
    """Time (s) of its part beside the memory, for one token on each block of a device.

    Positions are those of the hidden width and of the keys, as CENT counts them.
    """
    assert isinstance(device.attention, CentAttention)
    units, nothing = device.attention.accelerators, jnp.zeros(context.shape)
    if units is None:
        return nothing
    heads, keys = config.num_attention_heads, config.num_key_value_heads * config.head_dim
    blocks = jnp.maximum(jnp.floor(device.attention.front.channels / device.banks.channels), 1.0)
    times = {
        "norm": lambda: units.norm_time(config.hidden_size),
        "rope": lambda: units.rotary_time(config.hidden_size + keys),
        "softmax": lambda: units.softmax_time(context.astype(jnp.float32) * heads, heads),
    }
    return nothing + blocks * times[kind]() if kind in times else nothing
