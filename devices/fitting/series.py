"""Series of evenly spaced readings of one state: what noise is measured on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

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
    found = []
    alike = lambda values: bool(np.isnan(values).all() or np.ptp(values) <= ALIKE * np.abs(values).max())
    for rows in readings.by_write():
        if len(rows) < least or not (alike(readings.v_read[rows]) and alike(readings.temperature[rows])):
            continue
        g, spacing = readings.g[rows], np.diff(readings.age[rows])
        timed = bool((spacing > 0).all())
        even = timed and spacing.std() <= UNEVEN * spacing.mean()
        if g.mean() > 0 and (even or not spacing.any()):
            found.append(Series(int(readings.cell[rows[0]]), g, float(spacing.mean()) if timed else np.nan))
    return found
