"""Series of evenly spaced readings of one state: what noise is measured on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pim.devices.fitting.history import history
from pim.devices.fitting.table import Measurements

UNEVEN = 0.5
"""Standard deviation over mean of the spacing from which readings are not even: those of an ageing test are not."""
ALIKE = 0.02
"""Range over magnitude of the voltages and of the temperatures up to which they are the same."""


@dataclass(frozen=True)
class Series:
    """Readings of one cell in one state, in order."""

    cell: int
    g: Float[np.ndarray, "readings"]
    interval: float
    """Time from reading to reading (s), NaN where there are no times."""


def even_series(table: Measurements, least: int) -> list[Series]:
    """The series of at least that many readings, even in time, at one voltage and temperature, of a mean above zero.

    Readings without times count as even.
    """
    _, readings = history(table)
    alike = lambda values: bool(np.isnan(values).all() or np.ptp(values) <= ALIKE * np.abs(values).max())
    found = []
    starts = np.flatnonzero(np.diff(readings.write, prepend=-1))
    for start, end, interval in zip(starts, *_spacing(readings.age, starts), strict=True):
        rows = slice(start, end)
        if end - start < least or interval < 0 or not readings.g[rows].mean() > 0:
            continue
        if alike(readings.v_read[rows]) and alike(readings.temperature[rows]):
            found.append(Series(int(readings.cell[start]), readings.g[rows], float(interval) or np.nan))
    return found


def _spacing(age: Float[np.ndarray, "readings"], starts: Int[np.ndarray, "writes"]) -> tuple[np.ndarray, np.ndarray]:
    """Where each write's readings end, and the mean time between them: 0 without times, -1 where it is not even."""
    ends = np.append(starts, len(age))[1:]
    if not len(starts):
        return ends, np.zeros(0)
    step = np.diff(age, append=0.0)
    step[ends - 1] = 0.0
    count = np.maximum(ends - starts - 1, 1)
    mean = np.add.reduceat(step, starts) / count
    away = (step - np.repeat(mean, ends - starts)) ** 2
    away[ends - 1] = 0.0
    spread = np.sqrt(np.add.reduceat(away, starts) / count)
    still = np.add.reduceat(np.abs(step), starts) == 0
    step[ends - 1] = np.inf
    even = (np.minimum.reduceat(step, starts) > 0) & (spread <= UNEVEN * mean)
    return ends, np.select([still, even], [0.0, mean], -1.0)
