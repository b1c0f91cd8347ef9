"""Shifts: by how much the conductance of each write had moved at the times at which it was read."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pim.devices.fitting.estimate import NotMeasured
from pim.devices.fitting.groups import Units, compact, numbered, units_of
from pim.devices.fitting.history import history, levels_of
from pim.devices.fitting.table import Measurements

SAME_TIME = 0.1
"""Readings less than this apart (decades) are of one time."""
WIDEST = 0.3
"""Decades that one time may span: a dense series of readings is cut into pieces no longer than this."""
LEAST_GROUP = 10
"""Readings that a time and level must have."""


@dataclass(frozen=True)
class Shifts:
    """Shifts since programming by time and level, one of each write at each time; a group is one time and level."""

    shift: Float[np.ndarray, "data"]
    decades: Float[np.ndarray, "times"]
    time: Int[np.ndarray, "data"]
    levels: Float[np.ndarray, "levels"]
    level: Int[np.ndarray, "data"]
    write: Int[np.ndarray, "data"]
    units: Units
    against: str
    temperature: float
    g_limit: float
    """The largest conductance that was read (S)."""

    @property
    def group(self) -> Int[np.ndarray, "data"]:
        """The group of each datum."""
        return self.time * len(self.levels) + self.level

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.decades) * len(self.levels)

    def each_time(self) -> list[Int[np.ndarray, "some"]]:
        """The data of each time."""
        return [np.flatnonzero(self.time == k) for k in range(len(self.decades))]


def shifts_of(table: Measurements) -> Shifts:
    """The shifts in a table, against the conductance right after programming or, where less than half have it, the
    target.

    Of several readings of a write at one time the one in its middle is taken; states that were read at one time only
    are left out.

    Raises NotMeasured if there are not two times at which every level has ten readings.
    """
    _, readings = history(table)
    state = np.where(np.isfinite(readings.target), readings.target, readings.base)
    near, temperature = readings.at_one_temperature()
    aged = np.isfinite(state) & (readings.age > 0) & near
    fresh = 2 * (aged & np.isfinite(readings.base)).sum() >= aged.sum()
    base = readings.base if fresh else readings.target
    good = np.flatnonzero(aged & np.isfinite(base))
    if len(good) < 2 * LEAST_GROUP:
        raise NotMeasured(
            "no readings at times (t_s) after a write, with the conductance written or asked for (g_target_S)"
        )
    age = np.log10(readings.age[good])
    time = times_of(age)
    single = _one_each(readings.write[good], time, age)
    good, age, time = good[single], age[single], time[single]
    level, levels = levels_of(state[good], least=2 * LEAST_GROUP)
    counts = np.bincount(time * len(levels) + level, minlength=(time.max() + 1) * len(levels))
    enough = counts.reshape(-1, len(levels)) >= LEAST_GROUP
    followed = enough.sum(axis=0) >= 2
    full = enough[:, followed].all(axis=1)
    if not followed.any() or full.sum() < 2:
        raise NotMeasured(f"there are not two times at which every state was read {LEAST_GROUP} times")
    kept = full[time] & followed[level]
    good, time, level = good[kept], compact(time[kept])[0], (np.cumsum(followed) - 1)[level[kept]]
    units = units_of(readings.cell[good], readings.write[good])
    decades = np.bincount(time, age[kept]) / np.bincount(time)
    against = "the conductance right after programming" if fresh else "the target"
    shift, write = readings.g[good] - base[good], compact(readings.write[good])[0]
    g_limit = float(readings.g[good].max())
    g_limit = float(readings.g[good].max())
    return Shifts(shift, decades, time, levels[followed], level, write, units, against, temperature, g_limit)


def times_of(age: Float[np.ndarray, "data"]) -> Int[np.ndarray, "data"]:
    """The time to which each age (decades) belongs, numbered in order: what lies close together is of one time."""
    order = np.argsort(age, kind="stable")
    near = np.empty(len(age), int)
    near[order] = np.cumsum(np.diff(age[order], prepend=age[order[0]]) > SAME_TIME)
    low, high = np.full(near.max() + 1, np.inf), np.full(near.max() + 1, -np.inf)
    np.minimum.at(low, near, age)
    np.maximum.at(high, near, age)
    pieces = np.maximum(np.ceil((high - low) / WIDEST), 1)
    length = np.maximum((high - low) / pieces, 1e-12)
    piece = np.minimum(np.floor((age - low[near]) / length[near]), pieces[near] - 1)
    return numbered(near, piece)


def _one_each(write: np.ndarray, time: np.ndarray, age: np.ndarray) -> Int[np.ndarray, "kept"]:
    """Of the readings of each write at each time, in order, the place of that whose age is nearest to the time's."""
    centre = np.bincount(time, age) / np.bincount(time)
    pair = numbered(write, time)
    order = np.lexsort((np.abs(age - centre[time]), pair))
    return np.sort(order[np.flatnonzero(np.diff(pair[order], prepend=-1))])
