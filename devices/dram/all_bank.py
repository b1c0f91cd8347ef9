"""Products by one command to all banks of a channel, from a shared buffer: GDDR6-AiM, Newton, and any DRAM so equipped.

Each output lies in the rows of one bank; the channels share the outputs, and so do their banks. The vector comes into a
buffer of the channel, piece by piece if it is longer. For each piece every output's rows are opened and their columns
multiplied; results are read when the units' registers are full. Keys of a score lie side by side, several in a row.

The form is that of the command-level simulator of AiM (aim_simulator, part of CENT, ASPLOS 2025), where registers and
buffer are reached in a mode of their own; `all_bank_schedule.py` issues the same commands one by one.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.all_bank_schedule import all_bank_schedule
from pim.devices.dram.kernel import Memory
from pim.devices.dram.layout import Layout, layout
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work
from pim.devices.record import leaf, record, static


@record
class AllBankKernel:
    """A channel with a buffer for the vector and an arithmetic unit with registers at each bank, or at each few."""

    buffer_bytes: Float[Array, ""] = leaf("1", "bytes of the vector that a channel's buffer holds", low=1)
    n_buffer: Float[Array, ""] = leaf("1", "cycles between two columns written into the buffer", low=1)
    n_turn: Float[Array, ""] = leaf("1", "cycles from reading results to writing what comes next, or to the end", low=0)
    registers: Float[Array, ""] = leaf("1", "results that a unit keeps before they are read", low=1, default=1.0)
    n_read: Float[Array, ""] = leaf("1", "cycles between two results that are read", low=0, default=0.0)
    n_preset: Float[Array, ""] = leaf(
        "1", "cycles between two registers that are preset before a sum; 0: sums begin at zero", low=0, default=0.0
    )
    n_mode: Float[Array, ""] = leaf(
        "1", "cycles between the mode for registers and buffer and the one for rows; 0: there is one mode only", low=0,
        default=0.0,
    )  # fmt: skip
    early_row: str = static(
        "whether the first row is opened while the vector comes in", choices=("no", "yes"), default="no"
    )

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of work; see `Kernel`."""
        banks, bits = memory.banks, memory.bits
        at = layout(memory, work, buffer_bytes=self.buffer_bytes, registers=self.registers)
        everywhere = at.matrices * at.channels
        filled = everywhere * sum(piece.count * piece.columns for piece in at.pieces)
        columns = filled * at.per * at.units
        bits_in = filled * banks.column_bytes * 8
        results = everywhere * at.per * at.units * bits * sum(piece.count for piece in at.pieces)
        return Commands(
            activations=at.openings / at.turns * everywhere * (banks.banks if memory.level == "bank" else at.units),
            columns=columns,
            macs=columns * banks.column_bytes * 8 / bits,
            bits_in=bits_in,
            preset_bits=results * (self.n_preset > 0),
            bits_out=results,
            pin_bits=bits_in + results * (1 + (self.n_preset > 0)),
            refreshes=jnp.zeros_like(columns),
            cycles=self._cycles(memory, at),
        )

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """The commands one by one; see `Kernel`."""
        return all_bank_schedule(memory, work, refresh, **vars(self))

    def _cycles(self, memory: Memory, at: Layout) -> Cycles:
        """Cycles of the busiest channel: a slot for each column, and what is between them beyond it.

        Between two columns the row changes or not, and results are read or not; between two pieces both, and the buffer
        is filled. Before the first piece no row is open, and after the last none is opened. Units with several banks
        open a row in one while they read another, and wait for the first alone.
        """
        banks, timing = memory.banks, memory.timing
        n_ccd, opened = timing.n_column(memory.level), timing.opened(banks.banks)
        modal = self.n_mode > 0
        leave = jnp.where(modal, 2 * self.n_mode + self.n_turn + 1, 1.0)  # to read results, and go on with a row
        stay = jnp.where(modal, leave, n_ccd)  # the same, where the row stays
        refill = jnp.where(modal, leave, self.n_turn)  # the same, where the buffer is filled, less the filling
        held = jnp.minimum(self.registers, at.per)
        reads = (held - 1) * self.n_read
        last_reads = (at.per - (at.groups - 1) * held - 1) * self.n_read
        mac = broadcast = activation = mode = readout = 0.0

        def closing(columns: Any) -> Any:
            """Cycles beyond a slot from the last of so many columns in a row to closing it."""
            return timing.closed(columns, n_ccd) - n_ccd if memory.level == "bank" else 0.0 * columns

        for piece in at.pieces:
            close, fill = closing(piece.last), piece.columns * self.n_buffer
            whole_row = closing(banks.columns * banks.banks_per_unit)  # at the banks: elsewhere nothing is waited for
            inside = at.per * (piece.rows - 1)  # rows that change within an output
            between = piece.visits - piece.both - inside  # and between outputs that are kept
            first = jnp.where(at.one_row, 0.0, jnp.maximum(close - refill - last_reads - fill, 0.0))
            mac += piece.count * at.per * piece.columns * n_ccd
            broadcast += piece.count * fill
            activation += piece.count * (inside * whole_row + between * close)
            readout += piece.count * ((at.per - at.groups) * (self.n_read + self.n_preset))
            mode += piece.count * (
                (piece.both - 1) * (jnp.maximum(leave + reads, close) - reads)
                + (at.groups - piece.both) * stay
                + (refill + first)
            )
        openings = at.openings if memory.level == "bank" else 1.0
        activation = at.turns * activation + openings * (timing.n_rp + opened) - timing.n_rp
        spent = [at.turns * value for value in (broadcast, mac, mode, readout)]
        return Cycles(
            broadcast=spent[0] - (jnp.minimum(self._fill(at), opened) if self.early_row == "yes" else 0.0),
            activation=activation,
            mac=spent[1],
            mode=spent[2] + jnp.where(modal, self.n_mode, 0.0),
            readout=spent[3],
            refresh=jnp.zeros_like(spent[1]),
        )

    def _fill(self, at: Layout) -> Any:
        """Cycles in which the first piece comes in."""
        full, rest = at.pieces
        return jnp.where(full.count > 0, full.columns, rest.columns) * self.n_buffer
