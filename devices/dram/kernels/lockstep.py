"""Products whose every step a host's access drives, in all units of a channel at once: HBM-PIM.

A unit serves an even and an odd bank. A tile of 128 inputs by 64 outputs (8 columns of 16 lanes, 8 registers in each of
8 units) is one pass: the host writes the inputs into the units' vector registers, then reads columns of all even or of
all odd banks, each read a multiplication. Tiles lie in the even and the odd bank by turns. Registers keep their sums
through all tiles of an output and are stored in the end; the host adds up the lanes.

The form follows from the vendor's kernel and the timing of its commands (PIMSimulator), with no figure fitted: the
vector registers are written through the odd bank, so that a tile there finds its row closed, and one in the even bank
has opened it meanwhile.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.kernel import Memory
from pim.devices.dram.layout import shared
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.lockstep_schedule import lockstep_schedule
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.timing import DramTiming
from pim.devices.dram.work import Commands, Cycles, Work, ceil_div, whole
from pim.devices.record import leaf, record


@record
class LockstepKernel:
    """A host that drives the units of each channel by reads and writes."""

    input_registers: Float[Array, ""] = leaf("1", "columns of inputs that a unit holds", low=1)
    registers: Float[Array, ""] = leaf("1", "vectors of sums that a unit holds, one for each output", low=1)
    n_write_read: Float[Array, ""] = leaf("1", "cycles from a write to a read, of other banks", low=0)
    n_read_write: Float[Array, ""] = leaf("1", "cycles from a read to a write, of other banks", low=0)
    n_write_close: Float[Array, ""] = leaf("1", "cycles from a write to closing its row", low=0)
    n_start: Float[Array, ""] = leaf(
        "1",
        "cycles of entering and leaving the mode and of writing the program; a schedule finds them by itself",
        low=0,
    )

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of work; see `Kernel`."""
        banks, timing = memory.banks, memory.timing
        n_in, n_out, vectors, copies = (whole(value) for value in work[1:])
        share, rounds = shared(banks.channels, copies)
        units = whole(banks.banks / banks.banks_per_unit)
        inputs = whole(self.input_registers * banks.column_bytes * 8 / memory.bits)
        outputs = units * whole(self.registers)
        along, side = ceil_div(n_in, inputs), ceil_div(n_out, outputs * share)
        used = ceil_div(n_out, outputs * side)
        numbers = jnp.broadcast_arrays(along, side, used, vectors, copies, rounds, units)
        along, side, used, vectors, copies, rounds, units = (jnp.asarray(n, jnp.float32) for n in numbers)
        everywhere, side = side * vectors * copies * used, side * vectors * rounds
        pace = timing.n_column(memory.level)
        steps = self.input_registers * self.registers  # columns of a tile
        bits_in = everywhere * along * self.input_registers * banks.column_bytes * 8
        bits_out = everywhere * units * self.registers * banks.column_bytes * 8  # the lanes are added by the host
        tile_rows = jnp.ceil(steps / banks.columns)
        rows = along * tile_rows + 1  # of all even or all odd banks; the last holds the results
        columns = everywhere * along * steps * units
        nothing = jnp.zeros_like(along)
        return Commands(
            activations=everywhere * rows * units,
            columns=columns,
            macs=columns * banks.column_bytes * 8 / memory.bits,
            bits_in=bits_in,
            preset_bits=nothing,
            bits_out=bits_out,
            pin_bits=bits_in + bits_out,
            refreshes=nothing,
            cycles=self._cycles(timing, pace, steps, tile_rows, along, side),
        )

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """The commands one by one; see `Kernel`."""
        return lockstep_schedule(memory, work, refresh, **vars(self))

    def _cycles(self, timing: DramTiming, pace: Any, steps: Any, rows: Any, along: Any, side: Any) -> Cycles:
        """Cycles of `side` tiles of outputs, each over `along` tiles of inputs, in the even and the odd bank.

        A tile has so many steps, in whole rows that are each opened once. Results that share the row of a tile shorter
        than a row find it open, which is not taken into account.
        """
        columns, inputs = steps * pace, self.input_registers * pace
        crossing = (rows - 1) * (timing.n_rtp + timing.n_rp + timing.n_first)  # rows end in the middle of a tile
        even, odd = jnp.ceil(along / 2), jnp.floor(along / 2)
        turn_even = self.n_write_read + self.n_read_write
        open_odd = self.n_write_close + timing.n_rp + timing.n_first + timing.n_rtp + timing.n_rp + timing.n_rcd_wr
        spaced = (1 + rows) * pace  # the last of the writes and of the columns of each row take no slot of their own
        return Cycles(
            broadcast=side * along * inputs,
            activation=side * (along * crossing + odd * open_odd),
            mac=side * along * columns,
            mode=self.n_start + side * (even * turn_even - along * spaced),
            readout=side * ((self.registers - 1) * pace + self.n_write_close + timing.n_rp + timing.n_rcd_wr),
            refresh=jnp.zeros_like(side),
        )
