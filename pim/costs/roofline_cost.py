"""What work costs on a roofline: the longer of computing and moving, product by product.

Weights, keys and values stream from the memory once a call, for all its vectors; inputs and results of every operator
go through the memory too (nothing is fused). Vector work moves each element in and out, and its few operations count at
the rate of products.
"""

from typing import Any

import jax
import jax.numpy as jnp

from pim.costs.ledger import UNKNOWN, Cost, Ledger, join, ledger_of
from pim.devices.roofline import Roofline


def roofline_cost(roofline: Roofline, *, operations: Any, values: Any, operator: str = "") -> Ledger:
    """The ledger of work on a roofline; its area is that of the die, see `die_cost`.

    Args:
        roofline: the processor.
        operations: multiplications and additions; a multiply-accumulate is two.
        values: operands and results that the memory gives or takes.
        operator: name for the rows.

    Both may be arrays that broadcast. An energy that the roofline does not name is unknown: NaN, printed as such.
    """
    figures = (jnp.asarray(value, jnp.float32) for value in (operations, values))
    return _priced(roofline, *jnp.broadcast_arrays(*figures)).named(operator)


@jax.jit
def _priced(roofline: Roofline, operations, values) -> Ledger:
    moved = values * roofline.bytes_per_operand
    compute, wait = roofline.time(operations, moved)
    each = UNKNOWN if roofline.energy_per_operation is None else roofline.energy_per_operation
    byte = UNKNOWN if roofline.energy_per_byte is None else roofline.energy_per_byte
    return ledger_of([("compute", operations * each, compute, 0.0), ("memory", moved * byte, wait, 0.0)])


def die_cost(roofline: Roofline, operator: str = "") -> Ledger:
    """What a processor costs by being there: its area. What it burns at rest is not counted."""
    area = UNKNOWN if roofline.area is None else roofline.area
    return ledger_of([("compute", 0.0, 0.0, area)], operator)


def compute_only(roofline: Roofline) -> tuple[Cost, float]:
    """The cost of a multiply-accumulate whose operands are at hand, and the operations in it: the peak."""
    work = roofline_cost(roofline, operations=2.0, values=0.0).without("memory")
    return Cost(join([work, die_cost(roofline)]), notes(roofline)), 2.0


def notes(roofline: Roofline) -> tuple[str, ...]:
    """What a cost assumes and leaves out."""
    told = ["power at rest, caches, registers and the start of each kernel are not counted: a processor takes more"]
    shares = (float(roofline.compute_share), float(roofline.bandwidth_share))
    if shares == (1.0, 1.0):
        told.append("an ideal roofline: measured processors reach 0.7 to 0.8 of it")
    else:
        told.append(f"{shares[0]:.0%} of the peak rate and {shares[1]:.0%} of the bandwidth are taken to be reached")
    absent = [name for name in ("energy_per_operation", "energy_per_byte", "area") if getattr(roofline, name) is None]
    if absent:
        told.append(f"{', '.join(absent)} of this processor unknown: totals that need it are unknown too")
    return tuple(told)
