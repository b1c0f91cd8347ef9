"""Commands of a block's vector work at the banks, as CENT maps it (Gu et al., ASPLOS 2025): what they take of energy.

Their time is `pim.cent_block`'s: it is that of a front end and of rows in turn, not of counts. Products of two banks
take part in every group of banks of all channels, whether it holds a part of the vector or not, read two columns for
each and write one. Counts are of one token and one block, on its own channels.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pim.cent_block import Heads, laid, register_sums
from pim.devices.dram.kernel import Memory
from pim.devices.dram.kernels.cent_attention import CentAttention, units_of
from pim.devices.dram.work import Commands, Cycles, ceil_div, whole
from pim.devices.near_dram import NearDram
from pim.llm_workloads.config import ModelConfig


class Counts(NamedTuple):
    """What moves and is multiplied; `products` and `copies` are columns in each group of banks."""

    lines: Any
    """Columns' bytes that cross the pins, either way."""
    rows: Any
    """Rows opened for them, each of one bank."""
    openings: Any
    """Rows opened in all banks."""
    products: Any
    copies: Any = 0.0
    columns: Any = 0.0
    """Columns read in every bank besides, by a sum of squares or a look-up."""
    macs: Any = 0.0
    """Multiply-accumulates of those columns, over all banks."""
    results: Any = 0.0
    """Numbers that every bank gives."""


def vector_commands(device: NearDram, config: ModelConfig, kind: str) -> Commands | None:
    """The commands of a kind of vector work of a layer for one token, without their cycles; None where it has none.

    Args:
        device: one with an `AllBankKernel` and `CentAttention`.
        config: shapes of the model.
        kind: of `VectorWork`: "norm", "rope" or "activation". Those of softmax are in the scores' product.

    Example:
        >>> vector_commands(pim.preset("dram-aim-cent").model, known_shape("llama-2-7b"), "norm").pin_bits
    """
    heads = Heads(*(jnp.int32(n) for n in (config.head_dim, config.group, config.num_key_value_heads)))
    return _by_kind(device, jnp.int32(config.hidden_size), jnp.int32(config.intermediate_size), heads).get(kind)


@jax.jit
def _by_kind(device: NearDram, width: Any, inner: Any, heads: Heads) -> dict[str, Commands]:
    """The commands of every kind: one compilation for all, whatever the model."""
    memory, attention = device.memory, device.attention
    assert isinstance(attention, CentAttention)
    counts = {
        "norm": _norm(memory, attention, width),
        "rope": _rotary(memory, attention, heads),
        "activation": _gate(memory, attention, inner),
    }
    return {kind: _commands(memory, attention, count) for kind, count in counts.items()}


def _commands(memory: Memory, attention: CentAttention, counts: Counts) -> Commands:
    banks = memory.banks
    everywhere, lanes = banks.channels * banks.banks, banks.column_bytes * 8 / memory.bits
    groups = everywhere / attention.vectors.group_banks
    moved = counts.lines * banks.column_bytes * 8
    results = counts.results * everywhere * memory.bits
    none = jnp.zeros(())
    return Commands(
        activations=counts.rows + counts.openings * everywhere,
        columns=counts.lines + groups * (3 * counts.products + 2 * counts.copies) + counts.columns * everywhere,
        macs=groups * counts.products * lanes + counts.macs,
        bits_in=jnp.asarray(moved),
        preset_bits=none,
        bits_out=jnp.asarray(results),
        pin_bits=moved + results,
        refreshes=none,
        cycles=Cycles(none, none, none, none, none, none),
    )


def _norm(memory: Memory, attention: CentAttention, width: Any) -> Counts:
    """The vector times itself in pairs of banks, then times the root's inverse, then, copied, times the weights."""
    pair, in_pairs = laid(memory, width, 2)
    group, in_groups = laid(memory, width, attention.vectors.group_banks)
    everywhere = memory.banks.channels * memory.banks.banks
    return Counts(
        lines=2 * in_pairs + 3 * in_groups,
        rows=2 * in_pairs / pair + 2 * in_groups / group + everywhere / attention.vectors.group_banks,
        openings=3.0,
        products=2 * group,
        copies=group,
        columns=pair,
        macs=pair * everywhere / 2 * memory.banks.column_bytes * 8 / memory.bits,
        results=1.0,
    )


def _rotary(memory: Memory, attention: CentAttention, heads: Heads) -> Counts:
    """Queries and keys, twice as long as complex numbers, written before their products and after them."""
    lanes = whole(memory.banks.column_bytes * 8 / memory.bits)
    keys = heads.dim * heads.keys
    queries = keys * heads.queries
    each = ceil_div(queries, whole(memory.banks.banks * memory.banks.channels / attention.vectors.group_banks))
    used = ceil_div(queries, each)
    columns = ceil_div(2 * each, lanes) + ceil_div(2 * (each // heads.queries), lanes)
    products = ceil_div(queries, lanes) + ceil_div(keys, lanes)
    return Counts(lines=2.0 * columns * used, rows=4.0 * used, openings=2.0, products=1.0 * products)


def _gate(memory: Memory, attention: CentAttention, width: Any) -> Counts:
    """Looking up the function of every sum, its product with the sum and, copied, with what is gated."""
    columns, lines = laid(memory, width, attention.vectors.group_banks)
    everywhere = memory.banks.channels * memory.banks.banks
    per = ceil_div(width, whole(everywhere))
    tables = ceil_div(per, whole(register_sums(units_of(memory))))
    copied_into = everywhere / attention.vectors.group_banks
    return Counts(
        lines=4.0 * lines,
        rows=3 * lines / columns + copied_into,
        openings=2.0 + tables,
        products=2 * columns,
        copies=columns,
        columns=per,
        results=per,
    )
