"""Statistics of what a digital macro multiplies: how often its input lines switch, and which weights let that pass.

A digital macro burns C V^2 where something switches: an input bit that differs from the one before it on its line
switches a multiplier, and behind a weight bit that is one, an adder.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from pim.devices.arithmetic import Codes
from pim.devices.digital_macro import MOST_BITS, DigitalMacro
from pim.devices.number_format import integer_codes, integer_scale
from pim.devices.record import leaf, record, static

ASSUMED = "assumed: fields of the device"


@record
class DigitalOperands:
    """What the energy of a digital macro depends on, measured (`chip.operands(x)`) or given.

    Example:
        >>> pim.cost(device, w.shape, operands=chip.operands(x)).energy
    """

    toggle: Float[Array, "*shape"] = leaf("1", "share of input bits that differ from the one before", low=0, high=1)
    density: Float[Array, "*shape"] = leaf("1", "share of weight bits that are one", low=0, high=1)
    zeros: Float[Array, "*shape"] = leaf(
        "1", "share of inputs that are zero; told, as their bits count in `toggle`", low=0, high=1, default=0.0
    )
    source: str = static("where the statistics come from", default="given")


def assumed_operands(macro: DigitalMacro) -> DigitalOperands:
    """What the device's own fields say: `input_toggle` and `weight_density`."""
    return DigitalOperands(macro.input_toggle, macro.weight_density, jnp.float32(0.0), source=ASSUMED)


def measure_digital_operands(held: Codes, macro: DigitalMacro, x: Float[Array, "batch n_in"]) -> DigitalOperands:
    """The statistics of inputs `x` on the codes that a macro holds.

    Each input line carries its bits from the lowest up, `serial_bits` lines side by side; after a vector comes the next
    row group of the array, if rows take turns, and then the next vector. Lines are at zero at first.
    """
    codes = integer_codes(x, integer_scale(x, macro.input_bits, "row"), macro.input_bits).astype(jnp.int32)
    stored = jnp.left_shift(1, macro.weight_bits.astype(jnp.int32)) - 1
    ones = jnp.bitwise_count(jnp.bitwise_and(held.codes.astype(jnp.int32), stored)).sum(dtype=jnp.float32)
    return DigitalOperands(
        _toggles(codes, macro) / (codes.size * _portions(macro) * macro.serial_bits),
        ones / (held.codes.size * macro.weight_bits),
        jnp.mean(codes == 0, dtype=jnp.float32),
        source="measured on inputs",
    )


def _portions(macro: DigitalMacro) -> Float[Array, ""]:
    """Cycles that an input takes."""
    return jnp.ceil(macro.input_bits / macro.serial_bits)


def _toggles(codes: Int32[Array, "batch n_in"], macro: DigitalMacro) -> Float[Array, ""]:
    """Bits that differ from the one before them on their lines, over all vectors."""
    serial, portions = macro.serial_bits, _portions(macro)
    sent = jnp.stack([codes >> serial * i & (1 << serial) - 1 for i in range(-(-MOST_BITS // serial))])
    used = jnp.arange(sent.shape[0]) < portions
    within = _differing(sent[1:], sent[:-1]) * used[1:, None, None]
    last = jnp.take(sent, portions.astype(jnp.int32) - 1, axis=0)
    first, last = (_in_turns(portion, macro) for portion in (sent[0], last))
    before = jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
    return within.sum(dtype=jnp.float32) + _differing(first, before).sum(dtype=jnp.float32)


def _in_turns(codes: Int32[Array, "batch n_in"], macro: DigitalMacro) -> Int32[Array, "vectors lines"]:
    """The inputs as their lines see them, one after another: row groups of an array share its lines.

    Lines of a last, shorter array that has nothing to send keep still: zeros stand for it.
    """
    turns = min(macro.row_groups, -(-codes.shape[1] // macro.rows))
    width = macro.rows * turns
    padded = jnp.pad(codes, ((0, 0), (0, -codes.shape[1] % width))).reshape(codes.shape[0], -1, turns, macro.rows)
    return jnp.moveaxis(padded, 2, 1).reshape(codes.shape[0] * turns, -1)


def _differing(a: Int32[Array, "*n"], b: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
    """Bits in which two numbers differ."""
    return jnp.bitwise_count(jnp.bitwise_xor(a, b)).astype(jnp.int32)
