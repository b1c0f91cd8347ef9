"""A hint where a matrix wastes the banks: as many channels as do the same, and whether PIM is worth while at all."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs.ledger import quantity
from pim.devices.dram.work import Work
from pim.devices.near_dram import NearDram

AS_FAST = 1.01
"""A time is as good as another that is 1 % shorter."""


def channel_hint(
    device: NearDram, n_in: int, n_out: int, vectors: int = 1, copies: int = 1, operation: str = "gemv"
) -> str | None:
    """What a matrix wastes on a device, in a sentence; None where it is well placed.

    Channels are wasted if half of them or less would take as long; PIM is, if reading the matrix once over the pins of
    all channels is faster, for a host that multiplies as fast as it reads (Samsung's simulator: 1024 x 1024 on 64
    pseudo-channels, 0.68 of the speed of streaming; any matrix, if many vectors go through it).

    >>> channel_hint(pim.preset("dram-hbm-pim-64").model, 1024, 1024)
    '1024 x 1024 wastes banks: 64 channels take 3.69 µs; 16 are as fast; streaming the matrix over the pins of ...'
    """
    channels = int(device.banks.channels)
    counts = np.unique([2**power for power in range(channels.bit_length()) if 2**power <= channels] + [channels])
    times = np.asarray(_times(device, jnp.asarray(counts, jnp.float32), (n_in, n_out, vectors, copies), operation))
    enough = int(counts[np.flatnonzero(times <= AS_FAST * times[-1])[0]])
    streaming = float(stream_time(device, n_in, n_out)) * copies  # once for all vectors
    wasted, slower = 2 * enough <= channels, streaming < times[-1]
    if not wasted and not slower:
        return None
    said = [f"{n_in} x {n_out} wastes banks: {_count(channels)} {quantity(float(times[-1]), 's')}"]
    if wasted:
        said.append(f"{enough} {'are' if enough > 1 else 'is'} as fast")
    if slower:
        said.append(f"streaming the matrix over the pins of all is faster ({quantity(streaming, 's')})")
    return "; ".join(said)


def _count(channels: int) -> str:
    return f"{channels} channel{'s take' if channels > 1 else ' takes'}"


@jax.jit
def stream_time(device: NearDram, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """Time (s) in which a matrix comes out over the pins of all channels, one burst after another: without PIM."""
    banks, timing = device.banks, device.timing
    bits = jnp.asarray(n_in, jnp.float32) * n_out * device.memory.bits
    columns = jnp.ceil(bits / (8 * banks.column_bytes * banks.channels * banks.buses))
    cycles = columns * jnp.maximum(timing.n_ccd_s, timing.n_bl)
    stalls = 0.0 if device.refresh is None else device.refresh.count(cycles) * device.refresh.stall
    return (cycles + stalls) * timing.t_ck


@jax.jit
def internal_bound(device: NearDram, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """The least time (s) for reading a matrix: all units of all channels at their pace, without padding or overhead."""
    banks = device.banks
    bits = jnp.asarray(n_in, jnp.float32) * n_out * device.memory.bits
    rate = 8 * banks.column_bytes * banks.channels * banks.banks / banks.banks_per_unit
    return bits / rate * device.timing.n_column(device.level) * device.timing.t_ck


@partial(jax.jit, static_argnames="operation")
def _times(device: NearDram, channels: Float[Array, "counts"], sizes: Any, operation: str) -> Float[Array, "counts"]:
    """Times (s) of the same work on other numbers of channels."""

    def one(count: Any) -> Any:
        fewer = replace(device, banks=replace(device.banks, channels=count))
        return fewer.commands(Work(operation, *sizes)).cycles.total * device.timing.t_ck

    return jax.vmap(one)(channels)
