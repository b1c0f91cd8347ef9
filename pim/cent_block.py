"""Time of a Llama's block, one token of one sequence, on GDDR6-AiM as CENT maps it (Gu et al., ASPLOS 2025).

The whole block runs at the banks. Outputs of the seven matrices are spread over all banks, of several devices where
they are split; attention is `CentAttention`'s. Norms, rotary positions and the gate are products of two banks, whose
vectors move line by line through the front end; roots, exponentials and sums are taken outside and not counted, nor are
the links between devices. A device that holds several blocks works on all of them at once, each on its own channels,
but the front end serves them in turn.

The form follows from the order of CENT's commands and the timing of AiM (aim_simulator): nothing in it is fitted. It is
within 0.4 % of the cycles that CENT's artifact lists for blocks on one device, 1.1 % for those split over several. It
leaves out some hundred cycles of the norms, where few lines a bank leave the end of each write exposed.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.counts import check_count
from pim.devices.device import Device
from pim.devices.dram.kernel import Memory
from pim.devices.dram.kernels.all_bank import AllBankKernel
from pim.devices.dram.kernels.cent_attention import CentAttention, reading, units_of
from pim.devices.dram.work import Work, ceil_div, whole
from pim.devices.near_dram import NearDram
from pim.devices.record import fields_of, leaf, record
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig

Shapes = dict[str, tuple[Any, Any]]
"""Inputs and outputs of each matrix, by its path in the layer."""


@record
class BlockTime:
    """Times (s) of the parts of a block, one after another, in the order in which they first run; they add up."""

    norm: Float[Array, "*shape"] = leaf("s", "both norms, their scalar parts apart")
    q: Float[Array, "*shape"] = leaf("s", "queries")
    k: Float[Array, "*shape"] = leaf("s", "keys")
    v: Float[Array, "*shape"] = leaf("s", "values")
    rotary: Float[Array, "*shape"] = leaf("s", "turning queries and keys by their position")
    key_store: Float[Array, "*shape"] = leaf("s", "writing the new key")
    value_store: Float[Array, "*shape"] = leaf("s", "writing the new value")
    score: Float[Array, "*shape"] = leaf("s", "queries times keys")
    softmax_traffic: Float[Array, "*shape"] = leaf("s", "moving and scaling scores for softmax, itself apart")
    context: Float[Array, "*shape"] = leaf("s", "scores times values")
    o: Float[Array, "*shape"] = leaf("s", "the output of attention")
    gate: Float[Array, "*shape"] = leaf("s", "the gate of the feed-forward layer, w1")
    up: Float[Array, "*shape"] = leaf("s", "what is gated, w3")
    activation: Float[Array, "*shape"] = leaf("s", "looking up the activation function, and the gate's products")
    down: Float[Array, "*shape"] = leaf("s", "the output of the feed-forward layer, w2")

    @property
    def total(self) -> Float[Array, "*shape"]:
        """Time (s) of the whole block."""
        return sum((getattr(self, name) for name in fields_of(self)), jnp.zeros(()))


def block_time(
    device: Device | NearDram,
    config: ModelConfig,
    context: Any,
    *,
    channels: Any = None,
    tensor_parallel: Any = 1,
) -> BlockTime:
    """The time that one block takes for one token, on a device as CENT maps it.

    Args:
        device: one with an `AllBankKernel` and a `CentAttention`, such as the preset "dram-aim-cent".
        config: shapes of the model.
        context: tokens that the new one attends to, itself among them; may be an array.
        channels: channels that hold the block, of each device; None: all of it. A device with room for several
            works on several.
        tensor_parallel: devices over which matrices and keys are split. Norms, softmax and values are not.

    Returns:
        Times of the parts, each of the shape of `context`; `total` is their sum.

    Raises:
        StudyError: a device of another kind, a size that is not positive and whole, or vectors that do not fit a row of
            each bank, whose layout is not known.

    Example:
        >>> block_time(pim.preset("dram-aim-cent"), config, [128, 4096]).total  # Llama 2 7B: 58.8 and 100.2 us
    """
    model = device.model if isinstance(device, Device) else device
    if not (
        isinstance(model, NearDram)
        and isinstance(model.kernel, AllBankKernel)
        and isinstance(model.attention, CentAttention)
    ):
        raise StudyError(
            "a block in CENT's mapping needs a NearDram device with an AllBankKernel and CentAttention, not "
            f"{_called(device)}: take pim.preset('dram-aim-cent')"
        )
    channels = model.banks.channels if channels is None else channels
    sizes = {"context": context, "channels": channels, "tensor_parallel": tensor_parallel}
    for name, value in sizes.items():
        check_count(name, value)
    if not any(isinstance(value, Tracer) for value in jax.tree.leaves((model, channels))):
        _check_rows(model, model.attention, config, int(channels))
    heads = Heads(config.head_dim, config.group, config.num_key_value_heads)
    counts = (jnp.asarray(value, jnp.int32) for value in sizes.values())
    return _times(model, config.matrix_shapes, heads, *counts)


def _called(device: Any) -> str:
    return device.name if isinstance(device, Device) else f"a {type(device).__name__}"


def _check_rows(model: NearDram, attention: CentAttention, config: ModelConfig, channels: int) -> None:
    """Raise StudyError if a vector needs more than a row of one bank in each group: CENT then lays it out otherwise."""
    groups = model.banks.banks / attention.vectors.group_banks
    room = int(groups * model.banks.row_bytes * 8 / model.memory.bits)
    longest = max(config.intermediate_size, config.hidden_size, 2 * config.matrix_shapes["attention.q"][1])
    if longest > room * channels:
        raise StudyError(
            f"a vector of {longest} numbers (intermediate_size, or two for each number of the queries) exceeds the "
            f"{room * channels} of one row in each group of banks of {channels} channels, and CENT's layout beyond "
            f"that is not modelled: give {-(-longest // room)} channels or more"
        )


class Heads(NamedTuple):
    """The numbers of a head, the queries that share a key, and the keys."""

    dim: Any
    queries: Any
    keys: Any


@jax.jit
def _times(model: NearDram, shapes: Shapes, heads: Heads, context: Any, channels: Any, devices: Any) -> BlockTime:
    """The times of a block on so many channels of each of so many devices."""
    attention, memory, all_memory = model.attention, _on(model.memory, channels), _on(model.memory, channels * devices)
    assert isinstance(attention, CentAttention)
    width, inner = shapes["ffn.gate"]
    scores = Work("score", heads.dim, context, heads.queries, heads.keys)
    values = Work("context", context, heads.dim, heads.queries, heads.keys)
    cycles = {
        **_products(all_memory, shapes),
        "norm": 2 * _norm(memory, attention, width),
        "rotary": _rotary(memory, attention, heads),
        "key_store": _key_store(memory, attention, heads),
        "value_store": _value_store(memory, heads),
        "score": attention.score(memory, scores, devices).cycles.total,
        "softmax_traffic": attention.softmax(memory, scores).cycles.total,
        "context": attention.context(memory, values).cycles.total,
        "activation": _look_ups(all_memory, attention, inner) + _gating(memory, attention, inner),
    }
    return BlockTime(**{name: jnp.broadcast_to(n * model.timing.t_ck, context.shape) for name, n in cycles.items()})


def _on(memory: Memory, channels: Any) -> Memory:
    """The same memory with other channels."""
    return memory._replace(banks=replace(memory.banks, channels=jnp.asarray(channels, jnp.float32)))


# Matrices -----------------------------------------------------------------------------------------------------------


def _products(memory: Memory, shapes: Shapes) -> dict[str, Any]:
    """Cycles of the seven matrices. Alone, no row is open before a product and the mode for rows is entered after it.

    Here rows are open, and the next product goes on in the mode for the buffer; it is entered where vectors were moved
    before.
    """
    kernel, timing = units_of(memory), memory.timing
    names = [path.split(".")[1] for path in shapes]
    n_in, n_out = (jnp.stack([jnp.asarray(shape[i]) for shape in shapes.values()]) for i in (0, 1))
    whole_time = kernel.commands(memory, Work("gemv", n_in, n_out)).cycles.total
    looked_up = replace(kernel, registers=register_sums(kernel)).commands(memory, Work("gemv", *shapes["ffn.gate"]))
    found = dict(zip(names, whole_time, strict=True)) | {"gate": looked_up.cycles.total}
    entered = ("q", "gate", "down")
    return {name: n + timing.n_rp - (0.0 if name in entered else kernel.n_mode) for name, n in found.items()}


def register_sums(kernel: AllBankKernel) -> Any:
    """Registers for sums where the others hold what the table gives."""
    return jnp.maximum(jnp.floor(kernel.registers / 2), 1.0)


def _look_ups(memory: Memory, attention: CentAttention, width: Any) -> Any:
    """Cycles of taking the gate's sums through the table of the activation function, group by group."""
    timing, kernel = memory.timing, units_of(memory)
    per = ceil_div(width, whole(memory.banks.banks * memory.banks.channels))
    groups = ceil_div(per, whole(register_sums(kernel)))
    return per * attention.vectors.look_up(timing, kernel) + groups * attention.vectors.open_table(timing, kernel)


# Vectors ------------------------------------------------------------------------------------------------------------


def laid(memory: Memory, numbers: Any, share: Any) -> tuple[Any, Any]:
    """Columns in each bank, and all of them, of a vector over one in `share` banks."""
    each = ceil_div(numbers, whole(memory.banks.banks * memory.banks.channels / share))
    columns = ceil_div(each, whole(memory.banks.column_bytes * 8 / memory.bits))
    return columns, columns * ceil_div(numbers, each)


def _copies(memory: Memory, attention: CentAttention, columns: Any) -> Any:
    """Cycles of copying columns from bank to bank, in each group one after another: out, and in."""
    return memory.banks.banks / attention.vectors.group_banks * 2 * columns * memory.timing.n_ccd_l


def _norm(memory: Memory, attention: CentAttention, width: Any) -> Any:
    """Cycles of RMSNorm: the vector times itself in pairs of banks, then times the root's inverse, then the weights."""
    banks, timing, vectors = memory.banks, memory.timing, attention.vectors
    pair, in_pairs = laid(memory, width, 2)
    group, in_groups = laid(memory, width, vectors.group_banks)
    lines = 2 * in_pairs + 3 * in_groups  # each factor once, and the result back
    squares = reading(units_of(memory)) + timing.n_rp + timing.opened(banks.banks) + pair * timing.n_ccd_l
    moved = banks.banks / vectors.group_banks * vectors.copy(timing) + _copies(memory, attention, group)
    products = 2 * (vectors.row(timing) + group * timing.n_ccd_l)
    return attention.front.spread(banks, lines) + squares + moved + products


def _rotary(memory: Memory, attention: CentAttention, heads: Heads) -> Any:
    """Cycles of turning queries and keys: both twice as long, as complex numbers, written before it and after it.

    The products are CENT's: as many columns as the whole vector has, not those of one bank.
    """
    timing, vectors = memory.timing, attention.vectors
    lanes = whole(memory.banks.column_bytes * 8 / memory.bits)
    keys = heads.dim * heads.keys
    queries = keys * heads.queries
    each = ceil_div(queries, whole(memory.banks.banks * memory.banks.channels / vectors.group_banks))
    columns = ceil_div(2 * each, lanes) + ceil_div(2 * (each // heads.queries), lanes)
    moved = attention.front.spread(memory.banks, 2 * columns * ceil_div(queries, each))
    return moved + (ceil_div(queries, lanes) + ceil_div(keys, lanes)) * timing.n_ccd_l + 2 * vectors.row(timing)


def _gating(memory: Memory, attention: CentAttention, width: Any) -> Any:
    """Cycles of the gate's products: with its own look-up, copied within a row, then with what is gated."""
    timing = memory.timing
    columns, lines = laid(memory, width, attention.vectors.group_banks)
    products = attention.vectors.row(timing) + 2 * columns * timing.n_ccd_l
    return attention.front.spread(memory.banks, 4 * lines) + _copies(memory, attention, columns) + products


def _key_store(memory: Memory, attention: CentAttention, heads: Heads) -> Any:
    """Cycles of writing a key: whole rows of one bank."""
    banks = memory.banks
    each = ceil_div(heads.dim, whole(banks.column_bytes * 8 / memory.bits))
    rows = ceil_div(heads.keys, jnp.maximum(whole(banks.columns) // each, 1))
    return rows * attention.front.row(banks, memory.timing)


def _value_store(memory: Memory, heads: Heads) -> Any:
    """Cycles of writing a value: a column across all banks, each in a row that is closed behind it."""
    banks, timing = memory.banks, memory.timing
    rounds = ceil_div(heads.keys, whole(banks.channels))
    columns = rounds * ceil_div(heads.dim, whole(banks.banks))
    return columns * (timing.n_rcd_wr + timing.write_latency + timing.n_bl + timing.n_wr + timing.n_rp)
