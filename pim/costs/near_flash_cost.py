"""What work at the dies of a flash costs: pages, channels, cores and the processor behind them, product by product.

Matrices of weights lie in the pages for good. The time of a product is that of its rounds; what processor and channels
do behind their back, and what is left at the end, is told apart in the ledger.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pim.costs.ledger import UNKNOWN, Ledger, join, ledger_of
from pim.devices.near_flash import NearFlash
from pim.units import no_room


@jax.jit
def work_cost(flash: NearFlash, n_in: Any, n_out: Any, vectors: Any = 1) -> Ledger:
    """The ledger of vectors that are multiplied by a matrix, without what the device costs by being there.

    Args:
        flash: the device.
        n_in: inputs of the matrix; may be an array, as may the others.
        n_out: outputs.
        vectors: input vectors.
    """
    reads = flash.reads(n_in, n_out, vectors)
    n_in, n_out, vectors = jnp.broadcast_arrays(*(jnp.asarray(v, jnp.float32) for v in (n_in, n_out, vectors)))
    rounds = reads.rounds * flash.round_time(vectors)
    moved = 8 * (reads.bytes_in + reads.bytes_out + reads.host_pages * flash.page_bytes)
    each = lambda energy: UNKNOWN if energy is None else energy
    return ledger_of(
        [
            ("page", (reads.die_pages + reads.host_pages) * each(flash.page_energy), rounds, 0.0),
            ("channel", moved * each(flash.channel_energy), reads.time - rounds, 0.0),
            ("mac", n_in * n_out * vectors * each(flash.mac_energy), 0.0, 0.0),
        ]
    )


def standing(flash: NearFlash, latency: Any) -> Ledger:
    """What a device costs by being there for a time (s): the area of its dies."""
    nothing = jnp.zeros(jnp.shape(latency))
    return ledger_of([("dies", nothing, 0.0, UNKNOWN if flash.area is None else flash.area)])


def matrix_cost(flash: NearFlash, n_in: Any, n_out: Any, vectors: Any = 1) -> Ledger:
    """The whole ledger of a product with nothing else going on."""
    work = work_cost(flash, n_in, n_out, vectors)
    return join([work, standing(flash, work.latency.sum(axis=0))])


def notes(flash: NearFlash, held: Any = 0) -> tuple[str, ...]:
    """What a cost assumes and leaves out, of a device that holds so many weights."""
    if any(isinstance(value, Tracer) for value in jax.tree.leaves((flash, held))):
        return (UNCOUNTED,)
    absent = [name for name in ("page_energy", "channel_energy", "mac_energy", "area") if getattr(flash, name) is None]
    told = [UNCOUNTED] + [f"{', '.join(absent)} unknown: totals that need them are too"] * bool(absent)
    if flash.memory_bytes is not None:
        told += no_room(float(np.max(held)) * flash.bytes_per_operand, float(flash.memory_bytes), "dies")
    return tuple(told)


UNCOUNTED = "what dies take at rest, and the processor's reading of inputs and adding of partial sums, is not counted"
KEYS_IN_PAGES = (
    "keys and values are written token by token, which pages of a flash are not made for: give attention to another "
    "device, rules = [('layers.*.attention.qk', NAME), ('layers.*.attention.pv', NAME)]"
)
