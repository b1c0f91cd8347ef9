"""The bus of a channel: commands go over it one a cycle, each as soon as those before it allow.

What they allow is a table of intervals: {(before, after): cycles} says that `after` comes that many cycles behind the
last `before`, or later. A run of the same command, such as the columns of a row, is issued in one call.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pim.devices.dram.schedules.schedule import Kind, Schedule


class CommandBus:
    """Issues commands in the order in which they are given, and keeps what was issued when.

    Example:
        >>> bus = CommandBus([Kind("ACT16"), Kind("MAC16", "read")], {("ACT16", "MAC16"): 56, ("MAC16", "MAC16"): 2})
        >>> bus.issue("ACT16", row=7)
        0
        >>> bus.issue("MAC16", 64, row=7, column=0)
        56
        >>> bus.last("MAC16")
        182
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        gaps: Mapping[tuple[str, str], int],
        *,
        switch: Kind | None = None,
        n_switch: int = 0,
        inside: Sequence[str] = (),
    ):
        """Bus of a channel on which nothing has been issued.

        Args:
            kinds: the commands.
            gaps: cycles from the one to the other, by their names; 1 for those that are not in it.
            switch: a command that enters and leaves a mode, in which alone the commands `inside` can be issued. It goes
                out by itself, when the command that needs it would be ready.
            n_switch: cycles that it takes; 0: there is no such mode.
            inside: names of the commands of that mode.
        """
        self._kinds = (*kinds, switch) if switch is not None else tuple(kinds)
        self._number = {kind.name: i for i, kind in enumerate(self._kinds)}
        self._before: dict[str, list[tuple[str, int]]] = {kind.name: [] for kind in self._kinds}
        for (before, after), cycles in gaps.items():
            self._before[after].append((before, cycles))
        self._pace = {kind.name: max(gaps.get((kind.name, kind.name), 1), 1) for kind in self._kinds}
        self._switch, self._n_switch = switch, n_switch
        self._inside, self._in_mode = frozenset(inside), False
        self._last: dict[str, int] = {}
        self._free = 0  # the next cycle in which the bus is free
        self._taken: set[int] = set()  # cycles in which that for rows is not
        self._runs: list[tuple[int, ...]] = []

    def last(self, name: str) -> int:
        """The cycle in which a command was last issued; -1 if it never was."""
        return self._last.get(name, -1)

    def issue(
        self,
        name: str,
        count: int = 1,
        *,
        bank: int = -1,
        row: int = -1,
        column: int = -1,
        not_before: int = 0,
        ahead: bool = False,
    ) -> int:
        """Issue a command, or a run of it over so many columns, as soon as may be; the cycle of the first.

        Args:
            name: the command.
            count: how often, over columns that follow one another.
            bank: where it goes, as are `row` and `column` (of the first): see `Schedule`.
            not_before: a cycle that must be reached.
            ahead: whether it goes over a bus for rows, beside that for columns, and past commands that wait.
        """
        start = not_before if ahead else max(self._free, not_before)
        for before, cycles in self._before[name]:
            if before in self._last:
                start = max(start, self._last[before] + cycles)
        if ahead:
            while start in self._taken:
                start += 1
            self._taken.add(start)
            self._put(name, start, count, bank, row, column)
            return start
        if self._switch is not None and self._n_switch and (name in self._inside) != self._in_mode:
            self._put(self._switch.name, start, 1, -1, -1, -1)
            start += self._n_switch
            self._in_mode = not self._in_mode
        self._free = self._put(name, start, count, bank, row, column) + 1
        return start

    def _put(self, name: str, start: int, count: int, bank: int, row: int, column: int) -> int:
        pace = self._pace[name]
        self._runs.append((self._number[name], start, count, pace, bank, row, column))
        self._last[name] = start + (count - 1) * pace
        return self._last[name]

    def schedule(self, end: int) -> Schedule:
        """What was issued, in the order of the cycles, in work that ends after so many."""
        runs = np.array(self._runs, np.int64).reshape(-1, 7)
        count = runs[:, 2]
        of_run = np.repeat(np.arange(len(runs)), count)
        step = np.arange(len(of_run)) - np.repeat(np.cumsum(count) - count, count)
        number, start, _, pace, bank, row, column = runs[of_run].T
        cycle = start + step * pace
        order = np.argsort(cycle, kind="stable")
        column = np.where(column < 0, -1, column + step)
        small = [values[order].astype(np.int32) for values in (number, bank, row, column)]
        return Schedule(self._kinds, cycle[order], *small, end)
