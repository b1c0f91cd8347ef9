"""Endurance: how the window closes with the cycles, and after how many a cell no longer works.

A cell works while its conductance after set is `window_ratio` (of the sidecar) times that after reset. Cycles are
looked at now and then, so that a failure lies between two of them, or beyond the last: the Weibull likelihood says
just that.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import compact
from pim.devices.fitting.history import in_order, trains
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import maximum_likelihood, normal_scores

LEAST_CELLS = 10
LEAST_CYCLES = 3
LEAST_REACH = 100.0
"""Ratio of the last to the first cycle that was looked at, from which it is a test of endurance."""
LEAST_FAILURES = 5


@dataclass(frozen=True)
class Windows:
    """The window, log10 of set over reset conductance, of a cell at a cycle; sorted by cell and cycle."""

    window: Float[np.ndarray, "data"]
    cycle: Float[np.ndarray, "data"]
    cell_of: Int[np.ndarray, "data"]
    cells: int


def windows_of(table: Measurements) -> Windows:
    """The windows of cells whose set and reset conductances were read in three cycles or more, over two decades.

    Raises NotMeasured if those are fewer than 10 cells.
    """
    rows = in_order(table.where(table.is_op("set", "reset", "read")))
    at, train = np.arange(len(rows)), trains(rows)
    pulse = np.maximum.accumulate(np.where(rows["op"] != "read", at, -1))
    good = np.flatnonzero((pulse >= 0) & (train[pulse] == train) & (rows["g_S"] > 0))
    found = {}
    for op in ("set", "reset"):
        after = good[rows["op"][pulse[good]] == op]
        found[op] = dict(zip(train[after], np.log10(rows["g_S"][after]), strict=True))  # the last of each cycle stays
    both = np.array(sorted(found["set"].keys() & found["reset"].keys()), int)
    first = np.searchsorted(train, both)
    window = np.array([found["set"][k] - found["reset"][k] for k in both])
    cell, cycle = rows.cells[first], rows["cycle"][first]
    counted = cycle >= 1
    cell, cycle, window = cell[counted], cycle[counted], window[counted]
    kept = np.zeros(len(cell), bool)
    for places in np.split(np.arange(len(cell)), np.flatnonzero(np.diff(cell)) + 1):
        kept[places] = len(places) >= LEAST_CYCLES and cycle[places].max() >= LEAST_REACH * cycle[places].min()
    cell_of, cells = compact(cell[kept])
    if cells < LEAST_CELLS:
        raise NotMeasured(
            f"{cells} cells were read after set and after reset in {LEAST_CYCLES} cycles over a factor of "
            f"{LEAST_REACH:g}; {LEAST_CELLS} are needed"
        )
    return Windows(window[kept], cycle[kept], cell_of, cells)


def fit_window(table: Measurements, seed: int = 0) -> LawFit:
    """The window of cells that still work against the cycles, a straight line in log10 of both.

    Parameters: `window` (log10 of the ratio at cycle 1), `window_slope` (its change for each decade of cycles) and
    `window_sigma`, the standard deviation about the line.

    Raises:
        NotMeasured: see `windows_of`.
    """
    w = windows_of(table)
    last_good, _ = _failures(w, w.window < np.log10(table.sidecar.window_ratio))
    works = w.cycle <= last_good[w.cell_of]
    if works.sum() < LEAST_CYCLES * LEAST_CELLS:
        raise NotMeasured(f"cells have a window in {works.sum()} cycles only; {LEAST_CYCLES * LEAST_CELLS} are needed")
    x, y, cell_of = np.log10(w.cycle)[works], w.window[works], w.cell_of[works]
    sums = [np.bincount(cell_of, values, w.cells) for values in (np.ones_like(x), x, x * x, y, x * y, y * y)]

    def estimate(weights: np.ndarray) -> np.ndarray:
        n, sx, sxx, sy, sxy, syy = (weights @ values for values in sums)
        slope = (n * sxy - sx * sy) / (n * sxx - sx**2)
        start = (sy - slope * sx) / n
        square = (syy - start * sy - slope * sxy) / n * len(x) / (len(x) - 2)
        return np.stack([start, slope, np.sqrt(np.maximum(square, 1e-12))], axis=1)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (y - values[0] - values[1] * x) / values[2]
        return norm.logpdf(z) - np.log(values[2]), z

    unknowns = (
        Unknown("window", "1", "log10 of set over reset conductance at cycle 1"),
        Unknown("window_slope", "1", "its change for each decade of cycles"),
        Unknown("window_sigma", "1", "standard deviation about the line", positive=True),
    )
    law = "log10(G_set / G_reset) = window + window_slope log10(cycle), normal about it"
    fit = judge(Estimator(unknowns, cell_of, w.cells, estimate, predict), "window", law, seed, kind="line")
    ends = np.array([w.cycle.min(), w.cycle.max()])
    picture = Picture(
        "Window", "cycles", "set over reset conductance", {"cells": (w.cycle, 10**w.window)},
        {"fit": (ends, 10 ** (fit["window"] + fit["window_slope"] * np.log10(ends)))}, log_x=True, log_y=True,
    )  # fmt: skip
    return replace(fit, pictures=(picture,))


def fit_endurance(table: Measurements, seed: int = 0) -> LawFit:
    """The Weibull distribution of the cycles to failure: `life`, after which 63 % have failed, and `shape`.

    Raises:
        NotMeasured: see `windows_of`; or fewer than five cells fail, or all between the same two cycles.
    """
    w = windows_of(table)
    last_good, failure = _failures(w, w.window < np.log10(table.sidecar.window_ratio))
    failed = np.isfinite(failure)
    if failed.sum() < LEAST_FAILURES:
        raise NotMeasured(f"{failed.sum()} cells lose their window; {LEAST_FAILURES} are needed to tell their life")
    start = np.median(failure[failed])

    def gone(values: np.ndarray, cycle: np.ndarray) -> np.ndarray:
        return -np.expm1(-((np.where(np.isfinite(cycle), cycle, 1e300) / values[0]) ** values[1]))

    def log_likelihood(values: np.ndarray) -> np.ndarray:
        between = np.log(np.maximum(gone(values, failure) - gone(values, last_good), 1e-300))
        return np.where(failed, between, -((last_good / values[0]) ** values[1]))

    to_values = lambda theta: np.exp(theta) * np.array([start, 1.0])
    _, estimate = maximum_likelihood(lambda theta: log_likelihood(to_values(theta)), (0.2, 0.3), peaked=True)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = (gone(values, failure) + gone(values, last_good)) / 2
        return log_likelihood(values), np.where(failed, normal_scores(middle), np.nan)

    unknowns = (
        Unknown("life", "1", "cycles after which 63 % of the cells have failed", positive=True),
        Unknown("shape", "1", "Weibull shape: above 1 cells wear out", positive=True),
    )
    estimator = Estimator(unknowns, np.arange(w.cells), w.cells, lambda weights: to_values(estimate(weights)), predict)
    law = f"Weibull cycles until G_set / G_reset falls below {table.sidecar.window_ratio:g}"
    fit = judge(estimator, "endurance", law, seed, kind="weibull")
    x = np.geomspace(max(last_good[failed].min(), 1.0) / 2, failure[failed].max() * 2, 60)
    seen = np.unique(failure[failed])
    gone_by = np.array([(failure <= cycle).sum() for cycle in seen]) / w.cells
    picture = Picture(
        "Cells that have failed", "cycles", "share", {"measured": (seen, gone_by)},
        {"fit": (x, gone(fit.values, x))}, log_x=True,
    )  # fmt: skip
    notes = (f"{failed.sum()} of {w.cells} cells failed within {w.cycle.max():.3g} cycles",)
    return replace(fit, pictures=(picture,), notes=notes)


def _failures(w: Windows, closed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each cell: the last cycle before it failed (0: none), and the one at which it had (inf: never)."""
    last_good, failure = np.zeros(w.cells), np.full(w.cells, np.inf)
    np.minimum.at(failure, w.cell_of[closed], w.cycle[closed])
    before = w.cycle < failure[w.cell_of]
    np.maximum.at(last_good, w.cell_of[before], w.cycle[before])
    return last_good, failure
