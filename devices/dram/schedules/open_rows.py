"""The rows of a channel's banks while a product goes through them: which are open, and what opens the next.

Units at the banks read the same row of all banks, and close it before they open another. Units with several banks, at a
group of banks or on the buffer die, read one bank and meanwhile open the next rows in the others: rows that follow one
another lie in different banks, and each bank opens its next row as soon as its last one has been read.
"""

from pim.devices.dram.kernel import Memory
from pim.devices.dram.schedules.command_bus import CommandBus
from pim.devices.dram.schedules.concrete import interval
from pim.devices.dram.schedules.schedule import Kind
from pim.devices.dram.timing import ACTIVATED_AT_ONCE


class OpenRows:
    """Opens rows and multiplies columns on a bus, for copies of a matrix that each lie in `height` rows of a unit.

    Rows are counted over all copies: row `copy * height + place` is in the bank of that number modulo those of a unit.
    """

    def __init__(self, memory: Memory, *, height: int, copies: int, vectors: int):
        """The rows before the first command: all closed.

        Args:
            memory: the DRAM.
            height: rows of a unit that a copy lies in.
            copies: copies that come one after another.
            vectors: how often each is gone through.
        """
        banks, timing = memory.banks, memory.timing
        together = interval(banks.banks, "banks.banks")
        per_unit = interval(banks.banks_per_unit, "banks.banks_per_unit")
        self.ahead = memory.level != "bank"
        self.units = -(-together // per_unit)
        self.deep = per_unit if self.ahead else 1  # banks of a unit that open their rows one after another
        self.height, self.rows, self.vectors = height, height * copies, vectors
        self.bank_columns = interval(banks.columns, "banks.row_bytes / banks.column_bytes")
        self.n_ccd = interval(timing.n_column(memory.level), "timing.n_ccd_l")
        self.n_rcd = interval(timing.n_first, "timing.n_rcd")
        self.n_rp, self.n_ras = interval(timing.n_rp, "timing.n_rp"), interval(timing.n_ras, "timing.n_ras")
        self.n_rtp, self.n_faw = interval(timing.n_rtp, "timing.n_rtp"), interval(timing.n_faw, "timing.n_faw")
        opened, reach = (self.units, "units") if self.ahead else (together, "all")
        windowed = timing.all_bank_act == "t_faw"
        self.steps = -(-opened // ACTIVATED_AT_ONCE) if windowed else 1
        self.act = f"ACT{ACTIVATED_AT_ONCE if windowed else opened}"
        self.pre = f"PRE{opened}" if self.ahead else "PREA"
        self.mac = f"MAC{self.units}"
        self.kinds = (Kind(self.act, "", reach), Kind(self.pre, "", reach), Kind(self.mac, "read", "units"))
        self._open: dict[int, int] = {}  # the row that is open in each bank of a unit
        self._activated: dict[int, int] = {}  # when it was opened
        self._read: dict[int, int] = {}  # when a column of it was last read
        self._at = (-1, -1)

    @property
    def gaps(self) -> dict[tuple[str, str], int]:
        """Intervals between these commands; where rows are opened ahead, `multiply` keeps them bank by bank instead."""
        gaps = {(self.mac, self.mac): self.n_ccd}
        if self.steps > 1:
            gaps[self.act, self.act] = self.n_faw
        if not self.ahead:
            gaps |= {
                (self.act, self.mac): self.n_rcd,
                (self.mac, self.pre): self.n_rtp,
                (self.act, self.pre): self.n_ras,
                (self.pre, self.act): self.n_rp,
            }
        return gaps

    def begin(self, bus: CommandBus, *, early: bool, not_before: int = 0) -> None:
        """Open the first rows: ahead those of all banks, from a cycle on; else the first, if it is to be `early`."""
        for row in range(min(self.deep, self.rows) if self.ahead else int(early)):
            self._activate(bus, row, 0 if early else not_before, ahead=True)

    def multiply(self, bus: CommandBus, row: int, vector: int, column: int, columns: int) -> None:
        """Issue the products of columns of a row, and what must come before them.

        Args:
            bus: where to.
            row: counted over all copies.
            vector: which of the vectors goes through.
            column: the first; over all banks of a unit, where they are read as one.
            columns: how many.
        """
        if self.ahead and self._at not in ((row, vector), (-1, -1)):
            self._open_next(bus, *self._at)
        self._at = (row, vector)
        bank = row % self.deep
        if not self.ahead and self._open.get(0) != row:
            if self._open:
                self.close(bus)
            self._activate(bus, row, 0, ahead=False)
        ready = self._activated[bank] + self.n_rcd
        while columns:  # banks of a unit that are open together are read one after the other
            within, first = divmod(column, self.bank_columns)
            count = min(columns, self.bank_columns - first)
            place = {"bank": bank + within, "row": row // self.deep, "column": first}
            bus.issue(self.mac, count, not_before=ready, **place)
            column, columns = column + count, columns - count
        self._read[bank] = bus.last(self.mac)

    def close(self, bus: CommandBus) -> int:
        """Close the row that is open in all banks; the cycle."""
        return bus.issue(self.pre, row=self._open[0])

    def _open_next(self, bus: CommandBus, row: int, vector: int) -> None:
        """Open what its bank holds next, behind a row that has been read."""
        copy, place = divmod(row, self.height)
        again = place + self.deep >= self.height and vector + 1 < self.vectors  # from the start, with the next vector
        following = copy * self.height + place % self.deep if again else row + self.deep
        if following == row or following >= self.rows:
            return
        bank = row % self.deep
        ready = max(self._read[bank] + self.n_rtp, self._activated[bank] + self.n_ras)
        closed = bus.issue(self.pre, bank=bank, row=row // self.deep, not_before=ready, ahead=True)
        self._activate(bus, following, closed + self.n_rp, ahead=True)

    def _activate(self, bus: CommandBus, row: int, not_before: int, *, ahead: bool) -> None:
        bank, at = row % self.deep, {"row": row // self.deep}
        for _ in range(self.steps):
            bus.issue(self.act, bank=bank if self.ahead else -1, not_before=not_before, ahead=ahead, **at)
        self._open[bank], self._activated[bank] = row, bus.last(self.act)
