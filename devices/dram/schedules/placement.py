"""Where one product lies in the banks of a channel, in plain numbers: the layout that a schedule and its exports walk.

The rules are those of `layout.py`, which has them in arrays. Every piece of an output has rows of its own, in the order
in which they are visited: piece by piece, output by output.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pim.devices.dram.kernel import Memory
from pim.devices.dram.schedules.concrete import interval, sizes
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError


class Visit(NamedTuple):
    """Columns of one row that are multiplied for one output.

    Attributes:
        place: the row, counted over those of a copy of the matrix in a unit.
        column: the first of the columns.
        columns: how many.
    """

    place: int
    column: int
    columns: int


class Placement(NamedTuple):
    """A matrix on the channels that share it.

    Attributes:
        pieces: columns of each piece of the inputs.
        per: outputs of a unit.
        held: outputs that it keeps before they are read.
        packed: outputs that lie in one row.
        columns: columns of a row, over all banks that a unit opens at once.
        units: units of a channel.
        share: channels that a copy gets.
        used: channels of them that hold a part of it.
        last: outputs of the busiest unit of the last of these.
        rounds: copies that the busiest channel goes through.
        vectors: vectors of each copy.
        copies: copies of the matrix.
        channels: channels of the device.
        banks: banks of a unit that open their rows one after another.
        rows: rows of a bank.
    """

    pieces: tuple[int, ...]
    per: int
    held: int
    packed: int
    columns: int
    units: int
    share: int
    used: int
    last: int
    rounds: int
    vectors: int
    copies: int
    channels: int
    banks: int
    rows: int

    def groups(self) -> Iterator[range]:
        """Outputs whose results are read together, of a unit."""
        for first in range(0, self.per, self.held):
            yield range(first, min(first + self.held, self.per))

    def places(self, piece: int) -> int:
        """Rows of a piece, for all outputs of a unit."""
        if self.packed > 1:
            return -(-self.per // self.packed)
        return self.per * -(-self.pieces[piece] // self.columns)

    def visits(self, piece: int, output: int) -> Iterator[Visit]:
        """The rows of a piece that an output of a unit lies in."""
        columns, base = self.pieces[piece], sum(self.places(earlier) for earlier in range(piece))
        if self.packed > 1:
            yield Visit(base + output // self.packed, output % self.packed * columns, columns)
            return
        rows = -(-columns // self.columns)
        for row in range(rows):
            yield Visit(base + output * rows + row, 0, min(self.columns, columns - row * self.columns))

    @property
    def height(self) -> int:
        """Rows of a copy in a unit."""
        return sum(self.places(piece) for piece in range(len(self.pieces)))


def placement(memory: Memory, work: Work, *, buffer_bytes: Any, registers: Any) -> Placement:
    """The placement of one product.

    Raises:
        DeviceError: a size is no plain number, or the rows of the banks do not suffice.
    """
    n_in, n_out, vectors, copies = sizes(work)
    at_bank = memory.level == "bank"
    lanes = interval(memory.banks.column_bytes, "banks.column_bytes") * 8 // memory.bits
    row = interval(memory.banks.row_bytes, "banks.row_bytes") * 8 // memory.bits
    banks_per_unit = interval(memory.banks.banks_per_unit, "banks.banks_per_unit")
    units = -(-interval(memory.banks.banks, "banks.banks") // banks_per_unit)
    channels = interval(memory.banks.channels, "banks.channels")
    if at_bank:  # all banks of a unit open together: their rows are one
        row *= banks_per_unit
    share = max(channels // copies, 1)
    per = -(-n_out // (units * share))
    longest = min(interval(buffer_bytes, "kernel.buffer_bytes") * 8 // memory.bits, n_in)
    lengths = [min(longest, n_in - first) for first in range(0, n_in, longest)]
    pieces = tuple(-(-length // lanes) for length in lengths)
    packed = max(row // lanes // pieces[0], 1) if work.operation == "score" and len(pieces) == 1 else 1
    full, rest = divmod(n_out, per)  # units with all their outputs, and those of one more
    used = -(-(full + (rest > 0)) // units)
    at = Placement(
        pieces=pieces,
        per=per,
        held=min(interval(registers, "kernel.registers"), per),
        packed=packed,
        columns=row // lanes,
        units=units,
        share=share,
        used=used,
        last=per if full > (used - 1) * units else rest,
        rounds=-(-copies // channels),
        vectors=vectors,
        copies=copies,
        channels=channels,
        banks=1 if at_bank else banks_per_unit,
        rows=interval(memory.banks.rows, "banks.rows"),
    )
    needed = -(-at.rounds * at.height // at.banks)
    if needed > at.rows:
        raise DeviceError(
            f"it does not fit: {needed} rows of each bank are needed, and there are {at.rows}: take a smaller matrix, "
            "fewer copies or more channels (banks.channels)"
        )
    return at
