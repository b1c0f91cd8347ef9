"""Writing a new token's key and value into the banks, where the next product finds them.

A key goes into a row of one bank, side by side with others. A value goes across: each of its numbers behind those of
earlier tokens in a row of its own, one column written in all banks at once. Channels write their heads in parallel.
"""

import jax.numpy as jnp

from pim.devices.dram.kernel import Memory
from pim.devices.dram.work import Commands, Cycles, Work, ceil_div, whole


def append(memory: Memory, work: Work) -> Commands:
    """The commands of appending `vectors` tokens of `n_in` numbers for each of `copies` heads.

    `work.operation` is "append_key" or "append_value".
    """
    banks, timing = memory.banks, memory.timing
    lanes, units = whole(banks.column_bytes * 8 / memory.bits), whole(banks.banks / banks.banks_per_unit)
    size, tokens, heads = whole(work.n_in), whole(work.vectors), whole(work.copies)
    turns = ceil_div(heads, whole(banks.channels)) * tokens
    if work.operation == "append_key":
        rows, opened, columns = jnp.ones_like(size), jnp.ones_like(size), ceil_div(size, lanes)
    else:
        rows = columns = ceil_div(size, units)
        opened = rows * whole(banks.banks)
    sizes = jnp.broadcast_arrays(rows, opened, columns, turns, heads * tokens, size)
    rows, opened, columns, turns, written, size = (jnp.asarray(value, jnp.float32) for value in sizes)
    nothing = jnp.zeros_like(rows)
    bits = written * size * memory.bits
    opening = timing.n_rp + timing.n_rcd_wr + timing.write_latency + timing.n_wr
    if work.operation == "append_value":  # in all banks, which may not open at once
        opening = opening + timing.opened(banks.banks) - timing.n_first
    return Commands(
        activations=written * opened,
        columns=bits / (8 * banks.column_bytes),  # a bit into a cell counts as a bit out of it
        macs=nothing,
        bits_in=bits,
        preset_bits=nothing,
        bits_out=nothing,
        pin_bits=bits,
        refreshes=nothing,
        cycles=Cycles(
            broadcast=turns * columns * jnp.maximum(timing.n_bl, timing.n_ccd_l),
            activation=turns * rows * opening,
            mac=nothing,
            mode=nothing,
            readout=nothing,
            refresh=nothing,
        ),
    )
