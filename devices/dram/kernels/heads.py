"""Attention with a head to each channel, its passes pipelined two by two: AttAcc.

Keys and values of a head are spread over all units of a channel, tokens over groups of units and the channels of a head
over the units of a group. While one head computes, vectors of another are moved and its softmax is taken on the buffer
die: only columns and rows count. Every query head goes through its keys and values anew.

The form is that of AttAcc (Park et al., ASPLOS 2024), whose simulator runs Ramulator 2; it is a few per cent short
where an odd last round has nothing to overlap with, and 7 % long at 128 tokens, whose few rows are opened ahead there.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.heads_schedule import heads_schedule
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work, ceil_div, whole
from pim.devices.record import leaf, record


@record
class HeadsKernel:
    """One head on each channel at a time."""

    units_across: Float[Array, ""] = leaf("1", "units over which the channels of a head are spread", low=1)

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of scores or contexts; see `Kernel`."""
        banks, timing = memory.banks, memory.timing
        lanes = whole(banks.column_bytes * 8 / memory.bits)
        across = whole(self.units_across)
        units = whole(banks.banks / banks.banks_per_unit)
        dim, tokens = (work.n_in, work.n_out) if work.operation == "score" else (work.n_out, work.n_in)
        dim, tokens = whole(dim), whole(tokens)
        each = ceil_div(tokens, units // across) * ceil_div(dim, across * lanes)
        sizes = jnp.broadcast_arrays(each, whole(work.copies), whole(work.vectors), units, tokens, dim)
        columns, copies, vectors, units, tokens, dim = (jnp.asarray(value, jnp.float32) for value in sizes)
        heads = copies * vectors
        at_bank = memory.level == "bank"
        in_row = banks.columns * (banks.banks_per_unit if at_bank else 1.0)  # banks of a unit open together, or not
        rows = jnp.ceil(columns / in_row)
        turns = jnp.ceil(heads / banks.channels)
        n_ccd = timing.n_column(memory.level)
        if at_bank:
            closing = timing.closed(columns - (rows - 1) * in_row, n_ccd)
            closing += (rows - 1) * timing.closed(in_row, n_ccd)
            opening = rows * (timing.n_rp + timing.opened(banks.banks))
            activation, mac = turns * (opening + closing), turns * (columns - rows) * n_ccd
        else:  # a row is opened in one bank while another is read: the first alone is waited for
            activation, mac = jnp.zeros_like(rows) + timing.opened(units), turns * columns * n_ccd
        nothing = jnp.zeros_like(columns)
        query, scores = heads * dim * memory.bits, heads * tokens * memory.bits
        bits_in, bits_out = (query, scores) if work.operation == "score" else (scores, query)
        return Commands(
            activations=heads * rows * (banks.banks if at_bank else units),
            columns=heads * columns * units,
            macs=heads * columns * units * lanes,
            bits_in=bits_in,
            preset_bits=nothing,
            bits_out=bits_out,
            pin_bits=query,  # the scores stay on the buffer die, where their softmax is taken
            refreshes=nothing,
            cycles=Cycles(nothing, activation, mac, nothing, nothing, nothing),
        )

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """The commands one by one; see `Kernel`."""
        return heads_schedule(memory, work, refresh, **vars(self))
