"""The relaxation of a fitted cell: its Student distributions by time and level, and its path.

The laws of a device are cut off at zero and at the largest conductance, and add the noise of a reading by themselves:
the fitted ones, which have neither in them, are taken back to what gives the measured spread.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import root
from scipy.stats import t as student

from pim.devices.fitting.device_figure import Figure, Part
from pim.devices.fitting.estimate import LawFit
from pim.devices.fitting.noise_part import reading_variance
from pim.devices.fitting.weighted import QUARTILE

if TYPE_CHECKING:
    from pim.devices.fitting.cell_fit import CellFit

LEAST_SHARE = 0.01
"""Least share of the variance that is left of a shift when the noise of its reading is taken off."""


def _listed(law: LawFit, stem: str) -> np.ndarray:
    """The constants `stem[0]`, `stem[1]`, ... of a law."""
    return np.array([value for name, value in law.constants.items() if name.startswith(f"{stem}[")])


def relaxation_part(law: LawFit, fit: "CellFit") -> Part:
    """The law as a device holds it."""
    times, levels = _listed(law, "time"), _listed(law, "level")
    shape = len(times), len(levels)
    location, scale = (law.group(stem).reshape(shape) for stem in ("location", "scale"))
    nu = np.maximum(np.broadcast_to(law.group("nu")[:, None], shape), 0.5)
    note = "by the quartiles at each time and level, which are those within the window"
    noise = reading_variance(fit, times, levels)
    if noise.any():
        spread = scale * student.ppf(0.75, nu) / QUARTILE
        scale = scale * np.sqrt(np.maximum(1 - noise / spread**2, LEAST_SHARE))
        note += ", the variance of a reading taken off"
    limit = max(fit.window[1], law.constants["g_limit"])
    location, scale = _within(location, scale, nu, levels, limit)
    if len(levels) == 1:
        levels = np.array([levels[0], 1.001 * levels[0] + 1e-9])
        location, scale, nu = (np.repeat(values, 2, axis=1) for values in (location, scale, nu))
    share = law["slow_share"] if "slow_share" in law else 1.0
    known = "" if "slow_share" in law else "not measured: no cell was read at two times"
    decades = law["slow_decades"] if "slow_decades" in law else 1000.0
    path: Part = {
        "type": "LatentPath",
        "slow_share": Figure(share, "1", known, "chosen" if known else "measured"),
        "slow_decades": Figure(decades) if "slow_decades" in law
        else Figure(decades, "1", "not measured: the slow part is taken as lasting", "chosen"),
    }  # fmt: skip
    return {
        "type": "StudentRelaxation",
        "times": Figure(times, "s"),
        "levels": Figure(levels, "S"),
        "location": Figure(location, "S", note),
        "scale": Figure(scale, "S", note),
        "nu": Figure(nu, "1", "by maximum likelihood, one for all levels of a time"),
        "g_limit": Figure(limit, "S", "largest conductance measured"),
        "path": path,
    }


def _within(
    location: np.ndarray, scale: np.ndarray, nu: np.ndarray, levels: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of the distributions that, cut off at 0 and `limit`, have the uncut ones' median and spread.

    Where no such distribution is found the uncut one stays.
    """
    location, scale = location.copy(), scale.copy()
    for k, i in np.ndindex(location.shape):
        edges = np.array([-levels[i], limit - levels[i]])
        at, width = location[k, i], scale[k, i]
        if np.ptp(student.cdf((edges - at) / width, nu[k, i])) > 0.999:
            continue
        range_ = 2 * width * student.ppf(0.75, nu[k, i])
        found = root(partial(_missed, start=(at, width), tail=nu[k, i], edges=edges, range_=range_), (0.0, 0.0))
        if found.success:
            location[k, i], scale[k, i] = at + found.x[0] * width, width * np.exp(found.x[1])
    return location, scale


def _missed(x: np.ndarray, start: tuple[float, float], tail: float, edges: np.ndarray, range_: float) -> np.ndarray:
    """By how much the cut distribution misses the median and the range between the quartiles."""
    at, width = start[0] + x[0] * start[1], start[1] * np.exp(np.clip(x[1], -5, 5))
    low, high = student.cdf((edges - at) / width, tail)
    first, middle, last = at + width * student.ppf(low + (high - low) * np.array([0.25, 0.5, 0.75]), tail)
    return np.array([middle - start[0], last - first - range_]) / range_
