"""What a digital unit costs: products of activations, products with weights that it holds, and vector work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs.ledger import Ledger, ledger_of
from pim.devices.components.special_functions import Operations
from pim.devices.digital_unit import DigitalUnit

NOTHING = Operations(0.0, 0.0, 0.0)


def digital_cost(
    unit: DigitalUnit,
    *,
    macs: Any = 0,
    values: Any = 0,
    ops: Any = 0,
    work: Operations = NOTHING,
    operator: str = "",
) -> Ledger:
    """The ledger of work on a digital unit; its area and its static power are those of the unit, see `unit_cost`.

    Products and vector operations follow one another and take as long as the buffer needs to feed them, if that is
    longer: the row of the buffer then holds the wait.

    Args:
        unit: the unit.
        macs: multiply-accumulates.
        values: operands and results that the buffer gives or takes, see `product_values`.
        ops: vector operations.
        work: the same function by function, for a unit that has `functions`.
        operator: name for the rows.

    All of them may be arrays that broadcast.
    """
    figures = (jnp.asarray(value, jnp.float32) for value in (macs, values, ops, *work))
    return _priced(unit, *jnp.broadcast_arrays(*figures)).named(operator)


@jax.jit
def _priced(unit: DigitalUnit, macs, values, ops, *work) -> Ledger:
    moved = values * unit.bytes_per_operand
    compute = macs / unit.macs_per_second
    if unit.functions is None:
        vector_energy, vector = ops * unit.energy_per_op, ops / unit.ops_per_second
    else:
        done = Operations(*work)
        vector_energy, vector = unit.functions.energy(done), unit.functions.latency(done)
    wait = jnp.maximum(moved / unit.bytes_per_second - compute - vector, 0.0)
    return ledger_of(
        [
            ("mac", macs * unit.energy_per_mac, compute, 0.0),
            ("vector", vector_energy, vector, 0.0),
            ("buffer", moved * unit.buffer.energy_per_byte(), wait, 0.0),
        ]
    )


def product_values(unit: DigitalUnit, held: Any, vectors: Any, moved: Any) -> Float[Array, "..."]:
    """Values that the buffer gives or takes for `vectors` products with matrices of `held` values in all.

    The matrices are read once for every `unit.reuse` vectors; `moved` values go in and out besides.
    """
    held, vectors, moved = (jnp.asarray(value, jnp.float32) for value in (held, vectors, moved))
    return held * jnp.ceil(vectors / unit.reuse) + moved


def unit_cost(unit: DigitalUnit, latency: Any, operator: str = "") -> Ledger:
    """What a unit costs by being there for a time (s): its area, and its static power."""
    functions = unit.functions
    power = unit.leakage + unit.buffer.leakage() + (0.0 if functions is None else functions.leakage())
    leaking = power * latency
    rows = [
        ("mac", 0.0, 0.0, unit.area),
        ("vector", 0.0, 0.0, 0.0 if functions is None else functions.area()),
        ("buffer", 0.0, 0.0, unit.buffer.area()),
        ("leakage", leaking, 0.0, 0.0),
    ]
    return ledger_of(rows, operator)


def digital_notes(unit: DigitalUnit, held: Any) -> tuple[str, ...]:
    """A warning where the buffer cannot hold that many values."""
    need, room = float(np.max(held) * np.asarray(unit.bytes_per_operand)), float(unit.buffer.bytes)
    if need <= room:
        return ()
    return (
        f"{need / 1e6:.3g} MB do not fit the digital unit's buffer of {room / 1e6:.3g} MB: traffic to a memory "
        "outside is left out; raise buffer.bytes",
    )
