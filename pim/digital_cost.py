"""What a digital unit costs: products of activations, and vector work."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.digital_unit import DigitalUnit
from pim.ledger import Ledger, ledger_of


def digital_cost(
    unit: DigitalUnit, *, macs: Any = 0, values: Any = 0, ops: Any = 0, operator: str = "product"
) -> Ledger:
    """The ledger of work on a digital unit.

    Products and vector operations follow one another and take as long as the buffer needs to feed them, if that is
    longer: the row of the buffer then holds the wait.

    Args:
        unit: the unit.
        macs: multiply-accumulates.
        values: operands and results that the buffer gives or takes, keys and values among them.
        ops: vector operations.
        operator: name for the rows.

    Example:
        >>> digital_cost(unit, macs=128 * 64, values=128 * 64 + 192).total().energy
    """
    figures = (jnp.asarray(value, jnp.float32) for value in (macs, values, ops))
    return _priced(unit, *jnp.broadcast_arrays(*figures)).named(operator)


@jax.jit
def _priced(unit: DigitalUnit, macs, values, ops) -> Ledger:
    moved = values * unit.bytes_per_operand
    compute, vector = macs / unit.macs_per_second, ops / unit.ops_per_second
    wait = jnp.maximum(moved / unit.bytes_per_second - compute - vector, 0.0)
    return ledger_of(
        [
            ("mac", macs * unit.energy_per_mac, compute, unit.area),
            ("vector", ops * unit.energy_per_op, vector, 0.0),
            ("buffer", moved * unit.buffer.energy_per_byte(), wait, unit.buffer.area()),
            ("leakage", digital_leakage(unit) * (compute + vector + wait), 0.0, 0.0),
        ]
    )


def digital_leakage(unit: DigitalUnit) -> Float[Array, "..."]:
    """Static power (W) of the unit with its buffer."""
    return unit.leakage + unit.buffer.leakage()
