"""What a host tells a channel of HBM-PIM for a product: groups of accesses, which a barrier ends.

Banks are parked by a read of each, four rows enter the mode in which all banks take a command, the program is written
into the units. Then for each tile of outputs and each vector: products are switched on, inputs written and columns
read, tile by tile, those in the even banks first; sums are stored, products switched off. Two rows leave the mode, and
every bank is read once more. The order is that of the vendor's kernel (PIMSimulator); its rows for the mode lie
elsewhere, which makes no difference.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pim.devices.dram.kernel import Memory
from pim.devices.dram.layout import shared
from pim.devices.dram.schedules.concrete import interval, refuse_above_most, sizes
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError

GROUP = 4
"""Banks of a group: of HBM2, as of its successors."""
RESERVED = 4
"""Rows of each bank that hold no matrix."""


class Access(NamedTuple):
    """A read or a write of one column: `name` of the command, bank, row, column."""

    name: str
    bank: int
    row: int
    column: int


class Program(NamedTuple):
    """A product in numbers.

    Attributes:
        along: tiles of inputs.
        side: tiles of outputs, over all vectors and copies that a channel goes through.
        banks: banks of the channel.
        rows: rows of a bank. The last four stand for registers, leave and enter the mode, and park.
        in_row: columns of a row.
        inputs: columns of inputs of a tile, and so accesses between two barriers.
        outputs: outputs of a unit, each a column of sums.
    """

    along: int
    side: int
    banks: int
    rows: int
    in_row: int
    inputs: int
    outputs: int

    @property
    def units(self) -> int:
        """Units of the channel, each with an even and an odd bank."""
        return self.banks // 2

    @property
    def leaving_row(self) -> int:
        """The row whose closing in banks 0 and 1 leaves the mode in which all banks take a command."""
        return self.rows - 2

    @property
    def entering(self) -> tuple[int, ...]:
        """Banks whose rows enter the mode."""
        return tuple(dict.fromkeys((0, 1, self.banks // 2, self.banks // 2 + 1)))

    def groups(self) -> Iterator[list[Access]]:
        """The accesses, each group up to a barrier."""
        registers, leave, enter, park = self.rows - 1, self.leaving_row, self.rows - 3, self.rows - 4
        parked = [bank for first in range(GROUP) for bank in range(first, self.banks, GROUP)]
        yield [Access("RD", bank, park, 0) for bank in parked]
        yield [Access("WRENTER", bank, enter, 0) for bank in self.entering]
        yield [Access("WRCRF", 1, registers, 1)]
        for tile in range(self.side):
            yield from self._tile(tile, registers)
        yield [Access("WRLEAVE", bank, leave, 0) for bank in (0, 1)]
        yield [Access("RD", bank, park, 0) for bank in parked]

    def _tile(self, tile: int, registers: int) -> Iterator[list[Access]]:
        steps, even = self.inputs * self.outputs, -(-self.along // 2)
        switch = Access("WRPIM", 0, registers, 0)
        yield [switch]
        for parity in (0, 1):
            for i in range(parity, self.along, 2):
                yield [Access("WRGRF", 1, registers, 2 + column) for column in range(self.inputs)]
                first = (tile * even + i // 2) * steps
                for start in range(first, first + steps, self.inputs):
                    yield [self._cells(f"MAC{self.units}", parity, start + step) for step in range(self.inputs)]
        first = self.side * even * steps + tile * self.outputs
        yield [self._cells(f"WRRES{self.units}", 1, column) for column in range(first, first + self.outputs)]
        yield [switch]

    def _cells(self, name: str, parity: int, column: int) -> Access:
        return Access(name, parity, *divmod(column, self.in_row))


def program(memory: Memory, work: Work, *, input_registers: Any, registers: Any) -> Program:
    """The program of work in the busiest channel.

    Raises:
        DeviceError: a size or a field is no plain number, a unit does not serve two banks, the matrix does not fit, or
            there are too many commands.
    """
    n_in, n_out, vectors, copies = sizes(work)
    banks = memory.banks
    count, rows = interval(banks.banks, "banks.banks"), interval(banks.rows, "banks.rows")
    if interval(banks.banks_per_unit, "banks.banks_per_unit") != 2 or count % 2 or count < 2 or memory.level != "bank":
        raise DeviceError(
            "a unit that is driven in lockstep serves an even and an odd bank, at the banks: set level = bank and "
            "banks.banks_per_unit = 2, with an even number of banks"
        )
    share, rounds = (int(value) for value in shared(interval(banks.channels, "banks.channels"), copies))
    columns = interval(input_registers, "kernel.input_registers")
    outputs = interval(registers, "kernel.registers")
    inputs = columns * interval(banks.column_bytes, "banks.column_bytes") * 8 // memory.bits
    tiles = -(-n_out // (count // 2 * outputs * share))
    at = Program(
        along=-(-n_in // inputs),
        side=tiles * rounds * vectors,
        banks=count,
        rows=rows,
        in_row=interval(banks.columns, "banks.row_bytes / banks.column_bytes"),
        inputs=columns,
        outputs=outputs,
    )
    refuse_above_most(at.side * (at.along * (columns * (outputs + 1) + 6) + outputs + 10))
    held = tiles * rounds * (-(-at.along // 2) * columns * outputs + vectors * outputs)
    if -(-held // at.in_row) > rows - RESERVED:
        raise DeviceError(
            f"it does not fit: matrix and results take {-(-held // at.in_row)} rows of each bank, and there are "
            f"{rows - RESERVED}: take a smaller matrix, fewer copies or more channels (banks.channels)"
        )
    return at
