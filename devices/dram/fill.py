"""Filling rows with weights through the pins, row after row: what loading a matrix into the banks takes.

Channels are filled in parallel, as many buses at a time as they have pins for. In a channel the next row opens in one
bank while the last one is written in another, so that either the pins decide or how often rows may open (`n_faw`).
"""

from typing import Any

import jax.numpy as jnp

from pim.devices.dram.kernel import Memory
from pim.devices.dram.timing import ACTIVATED_AT_ONCE
from pim.devices.dram.work import Commands, Cycles


def fill(memory: Memory, values: Any) -> Commands:
    """The commands of writing so many operands (may be an array) into whole columns of fresh rows."""
    banks, timing = memory.banks, memory.timing
    bits = jnp.asarray(values, jnp.float32) * memory.bits
    columns = jnp.ceil(bits / (8 * banks.column_bytes))
    rows = jnp.ceil(columns / banks.columns)
    nothing = jnp.zeros_like(bits)
    lines = jnp.maximum(banks.channels * banks.buses, 1.0)
    written = jnp.ceil(columns / lines) * jnp.maximum(timing.n_bl, timing.n_ccd_s)
    opened = jnp.ceil(rows / lines) * timing.n_faw / ACTIVATED_AT_ONCE
    first = timing.n_rcd_wr + timing.write_latency + timing.n_wr
    return Commands(
        activations=rows,
        columns=columns,  # a bit into a cell counts as a bit out of it
        macs=nothing,
        bits_in=bits,
        preset_bits=nothing,
        bits_out=nothing,
        pin_bits=bits,
        refreshes=nothing,
        cycles=Cycles(
            broadcast=written,
            activation=jnp.maximum(opened - written, 0.0) + first,
            mac=nothing,
            mode=nothing,
            readout=nothing,
            refresh=nothing,
        ),
    )
