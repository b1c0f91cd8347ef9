"""What happened to each cell: which pulses wrote which state, and which readings belong to it.

A *write* is what one cell was told to do in one cycle: all rows with the same cell, cycle and target (a row without a
target has that of the row before). Its readings are those after its last pulse; their age is the time since that pulse,
or the time as it stands where no pulse was recorded.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float, Int

from pim.devices.fitting.columns import PULSES
from pim.devices.fitting.groups import fill, first_rows, numbered
from pim.devices.fitting.table import Measurements

ROOM = 300.0  # K
SAME_TEMPERATURE = 10.0  # K
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Readings:
    """Readings of written cells, one entry each, sorted by write."""

    cell: Int[np.ndarray, "data"]
    write: Int[np.ndarray, "data"]
    target: Float[np.ndarray, "data"]
    """Conductance that was asked for (S)."""
    base: Float[np.ndarray, "data"]
    """Conductance right after the last pulse (S), NaN where it was not read."""
    age: Float[np.ndarray, "data"]
    """Time since the last pulse (s)."""
    g: Float[np.ndarray, "data"]
    temperature: Float[np.ndarray, "data"]
    """Temperature (K), NaN where it was not recorded."""
    v_read: Float[np.ndarray, "data"]
    """Reading voltage (V), NaN where it was not recorded."""

    def by_write(self, least: int = 1) -> list[Int[np.ndarray, "some"]]:
        """The places of the readings of each write that has at least so many, in order."""
        starts = np.flatnonzero(np.diff(self.write, prepend=-1))
        ends = np.append(starts, len(self.g))[1:]
        return [np.arange(a, b) for a, b in zip(starts, ends, strict=True) if b - a >= least]

    def at_one_temperature(self) -> tuple[Bool[np.ndarray, "data"], float]:
        """Which readings were taken near one temperature, the one nearest to 300 K, and that temperature (K).

        Readings without a temperature count as taken at 300 K.
        """
        temperature = np.where(np.isnan(self.temperature), ROOM, self.temperature)
        nearest = float(temperature[np.argmin(np.abs(temperature - ROOM))]) if len(temperature) else ROOM
        return np.abs(temperature - nearest) <= SAME_TEMPERATURE, nearest


@dataclass(frozen=True)
class Writes:
    """Writes to a target: one entry each."""

    cell: Int[np.ndarray, "writes"]
    target: Float[np.ndarray, "writes"]
    written: Float[np.ndarray, "writes"]
    """Conductance where the write ended (S), NaN where it was not read."""
    age: Float[np.ndarray, "writes"]
    """Time from the last pulse to that reading (s): 0 right after it."""
    pulses: Int[np.ndarray, "writes"]
    success: Bool[np.ndarray, "writes"]


def in_order(table: Measurements) -> Measurements:
    """The rows sorted by cell, cycle and sequence; otherwise as in the file."""
    sequence = np.where(np.isnan(table["seq"]), np.arange(len(table), dtype=float), table["seq"])
    return table.where(np.lexsort((sequence, fill(table["cycle"]), table.cells)))


HISTORIES: "WeakKeyDictionary[Measurements, tuple[Writes, Readings]]" = WeakKeyDictionary()
"""The histories of the tables that are still in use."""


def history(table: Measurements) -> tuple[Writes, Readings]:
    """All writes to a target, and all readings of written cells (with or without a target).

    >>> writes, readings = history(read_table("cells.csv"))
    """
    if table not in HISTORIES:
        HISTORIES[table] = _history(table)
    return HISTORIES[table]


def _history(table: Measurements) -> tuple[Writes, Readings]:
    table = in_order(table.where(table["op"] != "form"))
    cell, pulse, g = table.cells, table.is_op(*PULSES), table["g_S"]
    target = _targets(table)
    write = numbered(cell, fill(table["cycle"]), fill(target))
    count = int(write.max()) + 1 if len(write) else 0
    rows = np.arange(len(table))
    last = np.full(count, -1)
    np.maximum.at(last, write[pulse], rows[pulse])
    time = np.where(np.isnan(table["t_s"]), 0.0, table["t_s"])
    start = np.where(last >= 0, time[np.maximum(last, 0)], 0.0)[write]
    age = np.where(last[write] >= 0, time - start, time)
    reading = ~pulse & np.isfinite(g) & (rows > last[write])

    own = (last >= 0) & np.isfinite(g[np.maximum(last, 0)])
    fresh = first_rows(write, reading & (age == 0) & ~np.isnan(table["t_s"]), count)
    base = np.where(own, g[np.maximum(last, 0)], np.where(fresh >= 0, g[np.maximum(fresh, 0)], np.nan))
    pulses = np.bincount(write[pulse], minlength=count)
    earliest = first_rows(write, reading, count)
    alone = (pulses > 0) | (np.bincount(write[reading], minlength=count) == 1)
    written = np.where(np.isnan(base) & alone & (earliest >= 0), g[np.maximum(earliest, 0)], base)

    lead = first_rows(write, np.ones(len(write), bool), count)
    aimed = np.isfinite(target[lead]) if count else np.zeros(0, bool)
    failed = np.zeros(count, bool)
    failed[write[(table["ok"] == 0) & (rows == last[write])]] = True
    late = np.where(np.isnan(base) & (earliest >= 0), age[np.maximum(earliest, 0)], 0.0)
    writes = Writes(cell[lead][aimed], target[lead][aimed], written[aimed], late[aimed], pulses[aimed], ~failed[aimed])
    at = np.flatnonzero(reading)[np.argsort(write[reading], kind="stable")]
    return writes, Readings(
        cell[at], write[at], target[at], base[write[at]], age[at], g[at], table["temp_K"][at], table["v_read_V"][at]
    )


def _targets(table: Measurements) -> Float[np.ndarray, "rows"]:
    """The target of each row, or of the row before it in the same cell and cycle."""
    rows, known = np.arange(len(table)), np.isfinite(table["g_target_S"])
    before = np.maximum.accumulate(np.where(known, rows, -1))
    cycle = fill(table["cycle"])
    same = (before >= 0) & (table.cells[before] == table.cells) & (cycle[before] == cycle)
    return np.where(same, table["g_target_S"][before], np.nan)


def trains(table: Measurements) -> Int[np.ndarray, "rows"]:
    """The number of each row's cell and cycle."""
    return numbered(table.cells, fill(table["cycle"]))


def levels_of(
    target: Float[np.ndarray, "data"], least: int = 10, most: int = 64
) -> tuple[Int[np.ndarray, "data"], Float[np.ndarray, "levels"]]:
    """The level of each datum and the levels' mean conductances: the targets themselves, or bins of equal counts.

    Targets stand for themselves where a few, each with enough data, have nearly all of them; the others go with the
    nearest one. Else bins hold 60 data or more.
    """
    unique, level, counts = np.unique(target, return_inverse=True, return_counts=True)
    common = np.flatnonzero(counts >= least)
    if 0 < len(common) <= most and counts[common].sum() >= NEARLY_ALL * len(target):
        nearest = np.abs(unique[:, None] - unique[common]).argmin(axis=1)
        return nearest[level.reshape(-1)], unique[common]
    bins = int(np.clip(len(target) // 60, 1, 32))
    edges = np.unique(np.quantile(target, np.linspace(0, 1, bins + 1)[1:-1]))
    level = np.unique(np.searchsorted(edges, target, side="right"), return_inverse=True)[1].reshape(-1)
    return level, np.bincount(level, target) / np.bincount(level)
