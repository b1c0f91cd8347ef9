"""Schedules: what a channel is told, command by command, each with the cycle in which it is issued.

A closed form says how long work takes; a schedule says why. It is made by issuing the commands one after another, each
as soon as those before it allow (`command_bus.py`), and shares no sum with the closed form that it is tested against.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.concrete import interval


class Kind(NamedTuple):
    """A kind of command.

    Attributes:
        name: as in tables of commands, with the number of banks that take it at once: ACT16, MAC16, WRGB.
        access: "read" or "write" if it moves a column, else "".
        banks: which banks it goes to: "one", of that number; "units", the one of that number in each unit; "all"; or
            "registers", which are those of the units and the buffer, and no cells.
    """

    name: str
    access: str = ""
    banks: str = "all"


REFRESH = Kind("REFab")


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """The commands of one channel, the busiest, in the order in which they are issued.

    Attributes:
        kinds: the commands that there are.
        cycle: in which each is issued, counted from 0.
        command: its kind, a position in `kinds`.
        bank: a bank, by number or within its unit: see `Kind.banks`; -1 where it goes to none in particular.
        row: the row of the bank; -1 where there is none.
        column: the column of the row, or the position in the buffer or among the registers; -1 where there is none.
        end: cycles from the first command until the last result is there.

    Example:
        >>> schedule = pim.preset("dram-aim").model.schedule(Work("gemv", 1024, 1024))
        >>> schedule.end, schedule.counts()["MAC16"]
        (700, 128)
        >>> print(schedule.table(5))
    """

    kinds: tuple[Kind, ...]
    cycle: Int[np.ndarray, " commands"]
    command: Int[np.ndarray, " commands"]
    bank: Int[np.ndarray, " commands"]
    row: Int[np.ndarray, " commands"]
    column: Int[np.ndarray, " commands"]
    end: int

    def __len__(self) -> int:
        return len(self.cycle)

    def counts(self) -> dict[str, int]:
        """How often each command is issued, by its name; commands that never are do not appear."""
        found = np.bincount(self.command, minlength=len(self.kinds))
        return {kind.name: int(count) for kind, count in zip(self.kinds, found, strict=True) if count}

    def of(self, name: str) -> Int[np.ndarray, " issued"]:
        """The cycles in which the command of that name is issued."""
        chosen = [i for i, kind in enumerate(self.kinds) if kind.name == name]
        return self.cycle[np.isin(self.command, chosen)]

    def table(self, rows: int = 20) -> str:
        """The first commands as a table: cycle, command, bank, row, column; a run over columns is one line."""
        same = np.ones(max(len(self) - 1, 0), bool)
        for values in (self.command, self.bank, self.row):
            same &= values[1:] == values[:-1]
        starts = np.flatnonzero(np.r_[True, ~same])
        lines = [f"{'cycle':>13}  {'command':8} {'bank':>5} {'row':>6}  column"]
        for first, after in zip(starts[:rows], np.r_[starts[1:], len(self)], strict=False):
            cycle, column = (_span(values[first], values[after - 1]) for values in (self.cycle, self.column))
            bank, row = (_span(values[first], values[first]) for values in (self.bank, self.row))
            lines.append(f"{cycle:>13}  {self.kinds[self.command[first]].name:8} {bank:>5} {row:>6}  {column}")
        if len(starts) > rows:
            lines.append(f"... and so on: {len(self)} commands, {self.end} cycles in all")
        return "\n".join(lines)

    def __str__(self) -> str:
        issued = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        return f"{len(self)} commands in {self.end} cycles: {issued}\n{self.table()}"

    __repr__ = __str__


def _span(first: Any, last: Any) -> str:
    return "-" if first < 0 else str(first) if first == last else f"{first}..{last}"


def listed(kinds: Sequence[Kind], issued: Sequence[tuple[str, int, int, int, int]], end: int) -> Schedule:
    """The schedule of commands in the order in which they are issued: name, cycle, bank, row, column of each."""
    number = {kind.name: i for i, kind in enumerate(kinds)}
    command = np.array([number[name] for name, *_ in issued], np.int32)
    numbers = np.array([values for _, *values in issued], np.int64).reshape(-1, 4)
    bank, row, column = (values.astype(np.int32) for values in numbers[:, 1:].T)
    return Schedule(tuple(kinds), numbers[:, 0].copy(), command, bank, row, column, end)


def stalled(schedule: Schedule, refresh: Refresh | None) -> Schedule:
    """The same with the refreshes that fall into it: each is a REFab, and what follows comes later by its stall.

    The stall holds what a refresh brings with it: rows that are closed before it and opened again behind it are no
    commands of their own.
    """
    if refresh is None:
        return schedule
    n_refi, stall = interval(refresh.n_refi, "refresh.n_refi"), interval(refresh.stall, "refresh.stall")
    first = n_refi if refresh.n_first is None else interval(refresh.n_first, "refresh.n_first")
    between = max(n_refi - stall, 1)  # cycles of work from one to the next
    count = max((schedule.end - first) // between + 1, 0)
    due = first + between * np.arange(count)  # in cycles of work: those that were stalled are not among them
    before = np.searchsorted(due, schedule.cycle, side="right")
    at = np.searchsorted(schedule.cycle, due, side="left")
    places = {name: np.insert(getattr(schedule, name), at, -1) for name in ("bank", "row", "column")}
    return replace(
        schedule,
        kinds=(*schedule.kinds, REFRESH),
        cycle=np.insert(schedule.cycle + before * stall, at, due + np.arange(count) * stall),
        command=np.insert(schedule.command, at, len(schedule.kinds)),
        end=schedule.end + int(count) * stall,
        **places,
    )
