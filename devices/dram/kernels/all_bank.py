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

from pim.devices.dram.kernel import Memory
from pim.devices.dram.layout import Layout, Piece, layout
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.all_bank_schedule import all_bank_schedule
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work
from pim.devices.record import leaf, record, static


@record
class AllBankKernel:
    """A channel with a buffer for the vector and an arithmetic unit with registers at each bank, or at each few."""

    buffer_bytes: Float[Array, ""] = leaf("1", "bytes of the vector that a channel's buffer holds", low=1)
    n_buffer: Float[Array, ""] = leaf("1", "cycles between two columns written into the buffer", low=1)
    n_turn: Float[Array, ""] = leaf("1", "cycles from reading results to writing what comes next, or to the end", low=0)
    registers: Float[Array, ""] = leaf("1", "results that a unit keeps before they are read", low=1, default=1.0)
    n_read: Float[Array, ""] = leaf("1", "cycles between two results that are read, at least one", low=0, default=0.0)
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
        """Cycles of the busiest channel: a slot for each column, and what is between two of them beyond it.

        Between two columns the row changes or stays, and results are read or not; between two pieces they are, and the
        buffer is filled. A row changes when it may be closed and the registers are done with, whichever is later; then
        the mode is switched. Units with several banks open a row in one while they read another, and wait for the
        first alone: rows of so few columns that this takes longer wait in the schedule, and not here. A row is taken to
        be open as long as its columns take; what is read between them (keys side by side) only helps it to `n_ras`.
        """
        banks, timing = memory.banks, memory.timing
        at_bank = memory.level == "bank"
        n_ccd, opened = timing.n_column(memory.level), timing.opened(banks.banks if at_bank else at.units)
        read = jnp.maximum(self.n_read, 1.0)
        turn = jnp.maximum(self.n_turn, 1.0)
        held = jnp.minimum(self.registers, at.per)
        last = at.per - (at.groups - 1) * held  # results of the last group

        def preset(results: Any) -> Any:
            return jnp.where(self.n_preset > 0, (results - 1) * self.n_preset + 1, 0.0)

        def closing(columns: Any) -> Any:
            """Cycles beyond a slot from the last of so many columns in a row to closing it."""
            return timing.closed(columns, n_ccd) - n_ccd

        def beyond(read_out: Any, then: Any, close: Any = None, fill: Any = None) -> Any:
            """Cycles beyond a slot and beyond what is booked below, between two columns with results read between them.

            So many results are read, the buffer is filled if at all, so many registers are preset `then`. The row is
            closed as soon as it may be, or it stays, and reading takes a slot of its own.
            """
            reads = (read_out - 1) * read
            filled = 0.0 if fill is None else turn + fill
            written = jnp.where(self.n_preset > 0, turn if fill is None else filled, filled) + preset(then)
            after = self.n_mode + reads + jnp.maximum(written, 1.0)
            stays = jnp.maximum(after, self.n_mode + reads + n_ccd)
            ready = stays if close is None or not at_bank else jnp.maximum(after, close)
            return ready + self.n_mode - reads - (0.0 if fill is None else fill) - (then - 1) * self.n_preset

        def within(piece: Piece, close: Any) -> Any:
            """Between the groups of results of a piece, the last of which may be smaller."""
            more = at.groups > 1
            changes = (piece.both - 1 - piece.ends) * beyond(held, held, close)
            stays = (at.groups - piece.both - more + piece.ends) * beyond(held, held)
            ending = piece.ends * beyond(held, last, close) + (more - piece.ends) * beyond(held, last)
            return changes + stays + ending

        full, rest = at.pieces
        fills = [piece.columns * self.n_buffer for piece in at.pieces]
        final = closing(jnp.where(rest.count > 0, rest.final, full.final))
        again = jnp.where(at.one_row, at.turns - at.openings, 0.0) if at_bank else 0.0  # another vector, the same row
        mode = 3 * self.n_mode + (self.n_preset > 0) + turn  # to the first column, and from the last
        mode += (at.turns - 1 - again) * beyond(last, held, final, fills[0]) + again * beyond(
            last, held, None, fills[0]
        )
        for count, fill in zip((full.count - 1, rest.count), fills, strict=True):
            mode += at.turns * count * beyond(last, held, closing(full.final), fill)
        broadcast = mac = readout = 0.0
        activation = (at.openings if at_bank else 1.0) * (timing.n_rp + opened) - timing.n_rp
        for piece, fill in zip(at.pieces, fills, strict=True):
            count, close = at.turns * piece.count, closing(piece.last)
            inside = at.per * (piece.rows - 1)  # rows that change within an output
            between = piece.visits - piece.both - inside  # and between outputs that are kept
            mode += count * within(piece, close)
            broadcast += count * fill
            mac += count * at.per * piece.columns * n_ccd
            readout += count * (at.per - at.groups) * (read + self.n_preset)
            if at_bank:  # elsewhere nothing is waited for
                activation += count * (inside * closing(banks.columns * banks.banks_per_unit) + between * close)
        early = jnp.where(self.n_mode > 0, 0.0, jnp.minimum(fills[0] + preset(held), opened))
        return Cycles(
            broadcast=broadcast,
            activation=activation - (early if self.early_row == "yes" else 0.0),
            mac=mac,
            mode=mode,
            readout=readout,
            refresh=jnp.zeros_like(mac),
        )
