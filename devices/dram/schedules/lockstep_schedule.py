"""The commands of a product whose every step a host's access drives, one by one: HBM-PIM.

A controller takes the accesses of `lockstep_program.py`, opens and closes the rows that they need, and issues one
command a cycle, the first of these that may go:

1. an access to an open row, in any order between two barriers; the last before a barrier waits for all the others;
2. the opening of a row for such an access, and once only the last is left, for those behind the barrier;
3. the closing of a row that no access before the barrier needs.

A barrier orders, it does not wait for data. Rows are therefore opened and closed behind the accesses to other banks,
and what a tile costs comes out: nothing but intervals between pairs of commands goes in. When a refresh is due, open
rows are closed as soon as they may be, ahead of everything else, and the refresh follows.

The rules are those of the vendor's simulator (PIMSimulator), whose runs this reproduces to the cycle.
"""

from collections.abc import Iterator
from typing import Any

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.concrete import interval
from pim.devices.dram.schedules.lockstep_program import GROUP, Access, Program, program
from pim.devices.dram.schedules.schedule import REFRESH, Kind, Schedule, listed
from pim.devices.dram.work import Work

NEVER = -(10**9)
"""A cycle so long ago that nothing waits for it."""


def lockstep_schedule(
    memory: Memory,
    work: Work,
    refresh: Refresh | None,
    *,
    input_registers: Any,
    registers: Any,
    n_write_read: Any,
    n_read_write: Any,
    n_write_close: Any,
    **_: Any,
) -> Schedule:
    """The schedule of work in the busiest channel; the intervals are the fields of `LockstepKernel`.

    Setting up and leaving the mode come out as well, so that its `n_start` is not needed.

    Raises:
        DeviceError: see `program`.
    """
    at = program(memory, work, input_registers=input_registers, registers=registers)
    controller = _Controller(
        memory,
        at,
        interval(n_write_read, "kernel.n_write_read"),
        interval(n_read_write, "kernel.n_read_write"),
        interval(n_write_close, "kernel.n_write_close"),
    )
    if refresh is not None:
        controller.refresh_at(refresh)
    controller.run(at.groups())
    return controller.schedule()


class _Controller:
    """The controller of one channel: its banks, and when each command was last issued to them."""

    def __init__(self, memory: Memory, at: Program, n_write_read: int, n_read_write: int, n_write_close: int):
        timing = memory.timing
        self.at, self.n_wtr, self.n_rtw, self.n_wtp = at, n_write_read, n_read_write, n_write_close
        self.n_rcd, self.n_rcd_wr = (
            interval(timing.n_first, "timing.n_rcd"),
            interval(timing.n_rcd_wr, "timing.n_rcd_wr"),
        )
        self.n_rp, self.n_ras = interval(timing.n_rp, "timing.n_rp"), interval(timing.n_ras, "timing.n_ras")
        self.n_rtp = interval(timing.n_rtp, "timing.n_rtp")
        self.n_ccd_s = interval(timing.n_ccd_s, "timing.n_ccd_s")
        self.n_ccd_l = interval(timing.n_column(memory.level), "timing.n_ccd_l")
        self.n_rrd_s, self.n_rrd_l = (interval(value, "timing.n_rrd") for value in timing.n_rrd)
        self.n_data = interval(timing.n_cl, "timing.n_cl") + interval(timing.n_bl, "timing.n_bl")
        every, groups = range(at.banks), range(-(-at.banks // GROUP))
        self.open: dict[int, int] = {}  # the row that is open in each bank
        self.idle = [0 for _ in every]  # when each may be opened, as far as closing and refreshing it go
        self.opened, self.read, self.written = ([NEVER for _ in every] for _ in range(3))
        self.opened_in, self.read_in, self.written_in = ([NEVER for _ in groups] for _ in range(3))
        self.entered: set[int] = set()  # banks of which the row that enters the mode was opened
        self.left: set[int] = set()  # and of which that which leaves it was closed
        self.together = False  # whether all banks take each command
        self.single = 0  # since when they do not
        self.turn = 0  # the bank at which the search for a row to close begins
        self.now = 1  # the first access is there a cycle after the start
        self.due: int | None = None
        self.n_refi = self.n_rfc = 0
        self.issued: list[tuple[str, int, int, int, int]] = []

    def refresh_at(self, refresh: Refresh) -> None:
        """Refresh in those intervals. What a refresh costs beside them comes out: `n_reopen` is not needed."""
        self.n_refi, self.n_rfc = interval(refresh.n_refi, "refresh.n_refi"), interval(refresh.n_rfc, "refresh.n_rfc")
        self.due = self.n_refi if refresh.n_first is None else interval(refresh.n_first, "refresh.n_first")

    def run(self, groups: Iterator[list[Access]]) -> None:
        """Issue all accesses, and what they need."""
        group = next(groups, [])
        while group:
            following = next(groups, [])
            while group:
                self._step(group, following)
            group = following

    def _step(self, group: list[Access], following: list[Access]) -> None:
        """Issue one command; an access is then taken off its group."""
        refreshing = self.due is not None and self.now >= self.due
        if refreshing and not self.open:
            self._refresh()
            return
        moves = [(self._may_close(bank), 0, bank, bank) for bank in self.open] if refreshing else []
        moves += self._accesses(group) + self._openings(group, following) + self._closings(group)
        at = max(self.now, min(move[0] for move in moves))
        if self.due is not None and not refreshing and at >= self.due:
            self.now = self.due
            return
        _, what, _, which = min((move for move in moves if move[0] <= at), key=lambda move: move[1:3])
        self.now = at
        if what == 1:
            self._access(group.pop(which))
        elif what == 2:
            self._activate((group + following)[which])
        else:
            self._close(which)
            if what == 3:
                self.turn = which
        self.now += 1

    # What may be issued: (cycle, precedence, order among its like, which).

    def _accesses(self, group: list[Access]) -> list[tuple[int, int, int, int]]:
        moves, seen = [], set()
        for i, access in enumerate(group[:-1] or group):
            if access.bank not in seen and self.open.get(access.bank) == access.row:
                moves.append((self._may_access(access), 1, i, i))
                seen.add(access.bank)
        return moves

    def _openings(self, group: list[Access], following: list[Access]) -> list[tuple[int, int, int, int]]:
        moves, seen = [], set(self.open)
        for i, access in enumerate(group[:-1] or group + following[:-1]):
            if access.bank not in seen and (not self.together or access.bank < 2):
                moves.append((self._may_open(access.bank), 2, i, i))
                seen.add(access.bank)
        return moves

    def _closings(self, group: list[Access]) -> list[tuple[int, int, int, int]]:
        needed = {access.bank for access in group if self.open.get(access.bank) == access.row}
        order = lambda bank: (bank - self.turn) % self.at.banks
        return [(self._may_close(bank), 3, order(bank), bank) for bank in self.open if bank not in needed]

    # When, by the intervals to the commands before.

    def _may_access(self, access: Access) -> int:
        bank, group = access.bank, access.bank // GROUP
        if access.name.startswith("WR"):
            same, other, turned = self.written_in, self.n_rtw, self.read_in
            opened = self.opened[bank] + self.n_rcd_wr
        else:
            same, other, turned = self.read_in, self.n_wtr, self.written_in
            opened = self.opened[bank] + self.n_rcd
        return max(opened, same[group] + self.n_ccd_l, max(same) + self.n_ccd_s, max(turned) + other)

    def _may_open(self, bank: int) -> int:
        again = self.opened[bank] + self.n_ras + self.n_rp
        near, far = self.opened_in[bank // GROUP] + self.n_rrd_l, max(self.opened_in) + self.n_rrd_s
        return max(self.idle[bank], again, near, far, self.single)

    def _may_close(self, bank: int) -> int:
        return max(self.opened[bank] + self.n_ras, self.read[bank] + self.n_rtp, self.written[bank] + self.n_wtp)

    # Issuing.

    def _access(self, access: Access) -> None:
        per_bank, per_group = (
            (self.written, self.written_in) if access.name.startswith("WR") else (self.read, self.read_in)
        )
        per_bank[access.bank] = per_group[access.bank // GROUP] = self.now
        self.issued.append((access.name, self.now, *access[1:]))

    def _activate(self, access: Access) -> None:
        bank = access.bank
        self.issued.append((f"ACT{self.at.units}" if self.together else "ACT", self.now, bank, access.row, -1))
        self.open[bank] = access.row
        self.opened[bank] = self.opened_in[bank // GROUP] = self.now
        if access.name == "WRENTER":
            self.entered.add(bank)
            self.together = self.entered == set(self.at.entering)

    def _close(self, bank: int) -> None:
        row = self.open.pop(bank)
        self.issued.append((f"PRE{self.at.units}" if self.together else "PRE", self.now, bank, row, -1))
        self.idle[bank] = self.now + self.n_rp
        if row == self.at.leaving_row:
            self.left.add(bank)
            if self.left == {0, 1}:
                self.together, self.single = False, self.now + 1

    def _refresh(self) -> None:
        """A refresh, a cycle after the last row was closed: the simulator does not wait for n_rp."""
        assert self.due is not None
        self.issued.append((REFRESH.name, self.now, -1, -1, -1))
        self.idle = [self.now + self.n_rfc for _ in self.idle]
        self.due += self.n_refi
        self.now += 1

    def schedule(self) -> Schedule:
        """What was issued; it ends when the data of the last read are there."""
        units = self.at.units
        kinds = (
            Kind("RD", "read", "one"),
            *(Kind(name, "write", "registers") for name in ("WRENTER", "WRLEAVE", "WRCRF", "WRPIM", "WRGRF")),
            Kind(f"MAC{units}", "read", "units"),
            Kind(f"WRRES{units}", "write", "units"),
            *(Kind(name, "", "one") for name in ("ACT", "PRE")),
            *(Kind(f"{name}{units}", "", "units") for name in ("ACT", "PRE")),
            REFRESH,
        )
        return listed(kinds, self.issued, max(self.read) + self.n_data + 2)
