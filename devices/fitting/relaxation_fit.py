"""Relaxation: how conductances shift and scatter with the time since programming.

At each time and level: mean and variance, whose growth with log time is the law, Var = c1(G) log10 t + c2(G) and
mean = a(G) log10 t + b(G); location and scale from the quartiles; and one tail index for each time, since the shifts of
RRAM are far from normal. A variance has no meaning where the index is below 2, which is why a device takes the scales.
How a cell's shifts at two times hang together gives the correlation of its path.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.history import compact, history, levels_of
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import (
    QUARTILE,
    QUARTILES,
    group_quantiles,
    group_sums,
    least_squares,
    normal_scores,
    robust_spread,
    student_fit,
)

SAME_TIME = 0.1
"""Readings less than this apart (decades) are of one time."""
LEAST_GROUP = 10
"""Readings that a time and level must have."""


@dataclass(frozen=True)
class Shifts:
    """Shifts since programming by time and level; a group is one of both."""

    shift: Float[np.ndarray, "data"]
    decades: Float[np.ndarray, "times"]
    time: Int[np.ndarray, "data"]
    levels: Float[np.ndarray, "levels"]
    level: Int[np.ndarray, "data"]
    cell_of: Int[np.ndarray, "data"]
    cells: int
    against: str
    temperature: float

    @property
    def group(self) -> Int[np.ndarray, "data"]:
        """The group of each datum."""
        return self.time * len(self.levels) + self.level

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.decades) * len(self.levels)


def shifts_of(table: Measurements) -> Shifts:
    """The shifts in a table, against the conductance right after programming or, where that was not read, the target.

    Raises NotMeasured if there are not two times at which every level has ten readings.
    """
    _, readings = history(table)
    base = np.where(np.isfinite(readings.base), readings.base, readings.target)
    state = np.where(np.isfinite(readings.target), readings.target, readings.base)
    near, temperature = readings.at_one_temperature()
    good = np.isfinite(base) & (readings.age > 0) & near
    if good.sum() < 2 * LEAST_GROUP:
        raise NotMeasured(
            "no readings at times (t_s) after a write, with the conductance written or asked for (g_target_S)"
        )
    age, state = np.log10(readings.age[good]), state[good]
    order = np.argsort(age, kind="stable")
    time = np.empty(len(age), int)
    time[order] = np.cumsum(np.diff(age[order], prepend=age[order[0]]) > SAME_TIME)
    level, levels = levels_of(state, least=2 * LEAST_GROUP)
    counts = np.zeros((time.max() + 1, len(levels)), int)
    np.add.at(counts, (time, level), 1)
    full = (counts >= LEAST_GROUP).all(axis=1)
    if full.sum() < 2:
        raise NotMeasured(f"there are not two times at which every state was read {LEAST_GROUP} times")
    kept = np.isin(time, np.flatnonzero(full))
    time = (np.cumsum(full) - 1)[time[kept]]
    cell_of, cells = compact(readings.cell[good][kept])
    decades = np.bincount(time, age[kept]) / np.bincount(time)
    against = "the conductance right after programming" if np.isfinite(readings.base[good]).all() else "the target"
    shift = (readings.g[good] - base[good])[kept]
    return Shifts(shift, decades, time, levels, level[kept], cell_of, cells, against, temperature)


def fit_relaxation(table: Measurements, seed: int = 0) -> LawFit:
    """Mean, variance, location, scale and tails of the shift by time and level, and the correlation between times.

    Parameters with an index: `variance_slope[level]`, `variance_at_1s[level]`, `mean_slope[level]`,
    `mean_at_1s[level]`, `nu[time]`, `location[group]` and `scale[group]` with group = time * levels + level; and
    `slow_share`, `slow_decades` of the path (see `pim.devices.cells.path`) where cells were read at two times or more.

    Raises:
        NotMeasured: see `shifts_of`; or no shift at all.
    """
    shifts = shifts_of(table)
    ones = np.ones((1, shifts.cells))
    quartiles = _quartiles(shifts, ones)[0]
    spread = robust_spread(quartiles)
    if not (spread > 0).all():
        raise NotMeasured("at a time and state half of the cells have not shifted at all")
    standard = (shifts.shift - quartiles[shifts.group, 1]) / spread[shifts.group]
    tails = [student_fit(standard[at], *_own(shifts, at)) for at in _each_time(shifts)]
    moments = _Moments(shifts)
    path = _Path(shifts, standard)

    def estimate(weights: np.ndarray) -> np.ndarray:
        quartiles = _quartiles(shifts, weights)
        nu = np.stack(
            [tail(_sub(weights, shifts, at)) for (_, tail), at in zip(tails, _each_time(shifts), strict=True)], 1
        )
        wide = student.ppf(0.75, nu).repeat(len(shifts.levels), axis=1) / QUARTILE
        parts = [
            *moments.lines(weights),
            nu,
            quartiles[..., 1],
            robust_spread(quartiles) / wide,
            path.estimate(weights),
        ]
        return np.concatenate(parts, axis=1)

    unknowns = _unknowns(shifts) + path.unknowns

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = {stem: values[[u.name.startswith(f"{stem}[") for u in unknowns]] for stem in ("nu", "location", "scale")}
        scale, nu = at["scale"][shifts.group], at["nu"][shifts.time]
        z = (shifts.shift - at["location"][shifts.group]) / scale
        return student.logpdf(z, nu) - np.log(scale), normal_scores(student.cdf(z, nu))

    estimator = Estimator(unknowns, shifts.cell_of, shifts.cells, estimate, predict)
    law = (
        "shift from {}; Var = variance_slope log10(t / s) + variance_at_1s, mean likewise; Student-t with scale and nu"
    )
    fit = judge(estimator, "relaxation", law.format(shifts.against), seed, kind="student", constants=_constants(shifts))
    return replace(fit, pictures=_pictures(fit, shifts, moments), notes=_notes(fit))


def _unknowns(shifts: Shifts) -> list[Unknown]:
    by_level = {
        "variance_slope": ("S^2", "growth of the variance for each decade of time"),
        "variance_at_1s": ("S^2", "variance at 1 s"),
        "mean_slope": ("S", "growth of the mean shift for each decade of time"),
        "mean_at_1s": ("S", "mean shift at 1 s"),
    }
    name = lambda stem, i, unit, doc, positive=False: Unknown(f"{stem}[{i}]", unit, doc, positive)
    found = [name(stem, i, *about) for stem, about in by_level.items() for i in range(len(shifts.levels))]
    found += [name("nu", i, "1", "tail index at a time", True) for i in range(len(shifts.decades))]
    found += [name("location", i, "S", "median shift at a time and level") for i in range(shifts.groups)]
    return found + [name("scale", i, "S", "scale at a time and level", True) for i in range(shifts.groups)]


def _quartiles(shifts: Shifts, weights: np.ndarray) -> np.ndarray:
    return group_quantiles(shifts.shift, shifts.group, shifts.groups, shifts.cell_of, weights, QUARTILES)


def _each_time(shifts: Shifts) -> list[np.ndarray]:
    return [np.flatnonzero(shifts.time == k) for k in range(len(shifts.decades))]


def _own(shifts: Shifts, at: np.ndarray) -> tuple[np.ndarray, int]:
    return compact(shifts.cell_of[at])


def _sub(weights: np.ndarray, shifts: Shifts, at: np.ndarray) -> np.ndarray:
    """The weights of the cells that were read at one time."""
    return weights[:, np.unique(shifts.cell_of[at])]


class _Moments:
    """Mean and variance by group, and their straight lines in log time by level."""

    def __init__(self, shifts: Shifts) -> None:
        self.shifts = shifts
        mean, variance = (values[0].reshape(-1, len(shifts.levels)) for values in self.at(np.ones((1, shifts.cells))))
        counts = np.bincount(shifts.group, minlength=shifts.groups).reshape(mean.shape)
        self.measured = mean, variance
        design = np.stack([shifts.decades, np.ones(len(shifts.decades))], axis=1)
        # A variance is known to a share of itself, so that small ones weigh more; the mean to its standard error.
        weigh = lambda power: [
            least_squares(design, counts[:, i] / np.maximum(variance[:, i], 1e-30) ** power)
            for i in range(len(shifts.levels))
        ]
        self.to_variance, self.to_mean = np.array(weigh(2)), np.array(weigh(1))

    def at(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and unbiased variance of each group, for each set of weights."""
        s = self.shifts
        sums = lambda values: group_sums(values, s.group, s.groups, s.cell_of, weights)
        count = sums(np.ones(len(s.shift)))
        count = np.maximum(count, 1e-300)
        mean = sums(s.shift) / count
        n = np.bincount(s.group, minlength=s.groups)
        variance = (sums(s.shift**2) / count - mean**2) * n / (n - 1)
        return mean, variance

    def lines(self, weights: np.ndarray) -> list[np.ndarray]:
        """Slopes and values at 1 s of the variance, then of the mean, [draws, levels] each."""
        shape = (len(weights), len(self.shifts.decades), len(self.shifts.levels))
        mean, variance = (values.reshape(shape) for values in self.at(weights))
        fits = [
            np.einsum("lkt,dtl->kdl", to, values) for to, values in ((self.to_variance, variance), (self.to_mean, mean))
        ]
        return [*fits[0], *fits[1]]


class _Path:
    """The correlation of a cell's latent states at two times, `slow_share` exp(-decades apart / `slow_decades`)."""

    def __init__(self, shifts: Shifts, standard: np.ndarray) -> None:
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        """Of each pair of times: the cells read at both, and their products and squares [3, cells]."""
        apart, size = [], []
        latent = np.empty(len(standard))
        for at in _each_time(shifts):
            latent[at] = norm.ppf((rankdata(standard[at]) - 0.5) / len(at))
        for i, j in combinations(range(len(shifts.decades)), 2):
            cells, first, second = np.intersect1d(_once(shifts, i), _once(shifts, j), return_indices=True)
            if len(cells) >= 2 * LEAST_GROUP:
                a, b = (latent[_once_rows(shifts, k)][rows] for k, rows in ((i, first), (j, second)))
                self.pairs.append((cells, np.stack([a * b, a * a, b * b])))
                apart.append(shifts.decades[j] - shifts.decades[i])
                size.append(len(cells))
        self.unknowns: list[Unknown] = []
        if not self.pairs:
            return
        self.unknowns.append(Unknown("slow_share", "1", "share of the slow part in the variance of the path"))
        both = len(set(np.round(apart, 3))) > 1
        if both:
            self.unknowns.append(
                Unknown("slow_decades", "1", "decades over which the slow part forgets", positive=True)
            )
        design = np.stack([np.ones(len(apart)), -np.array(apart)][: 1 + both], axis=1)
        r = self.correlations(np.ones((1, shifts.cells)))[0]
        # ln r of n pairs has the variance (1 - r^2)^2 / (n r^2)
        self.to_line = least_squares(design, np.array(size) * r**2 / (1 - np.minimum(r, 0.99) ** 2) ** 2)

    def correlations(self, weights: np.ndarray) -> np.ndarray:
        """Correlation of each pair of times, kept in [0.01, 1]."""
        found = []
        for cells, products in self.pairs:
            ab, aa, bb = (weights[:, cells] @ row for row in products)
            found.append(ab / np.sqrt(aa * bb))
        return np.clip(np.stack(found, axis=1), 0.01, 1.0)

    def estimate(self, weights: np.ndarray) -> np.ndarray:
        """The unknowns for each set of weights."""
        if not self.unknowns:
            return np.empty((len(weights), 0))
        line = np.log(self.correlations(weights)) @ self.to_line.T
        share = np.exp(np.minimum(line[:, :1], 0.0))
        return np.concatenate([share, 1 / np.maximum(line[:, 1:], 1e-3)], axis=1)


def _once_rows(shifts: Shifts, time: int) -> np.ndarray:
    """One row of each cell read at a time, by the cell's number."""
    at = np.flatnonzero(shifts.time == time)
    return at[np.unique(shifts.cell_of[at], return_index=True)[1]]


def _once(shifts: Shifts, time: int) -> np.ndarray:
    return shifts.cell_of[_once_rows(shifts, time)]


def _constants(shifts: Shifts) -> dict[str, float]:
    times = {f"time[{i}]": float(10**s) for i, s in enumerate(shifts.decades)}
    levels = {f"level[{i}]": float(g) for i, g in enumerate(shifts.levels)}
    return times | levels | {"from_target": float(shifts.against == "the target")}


def _pictures(fit: LawFit, shifts: Shifts, moments: _Moments) -> tuple[Picture, ...]:
    mean, variance = moments.measured
    shown = sorted({0, len(shifts.levels) // 2, len(shifts.levels) - 1})
    name = lambda i: f"{shifts.levels[i] * 1e6:.3g} µS"
    t = 10**shifts.decades
    curve = lambda stem, i: fit.group(f"{stem}_slope")[i] * shifts.decades + fit.group(f"{stem}_at_1s")[i]
    nu, low, high = (
        values[[u.name.startswith("nu[") for u in fit.unknowns]] for values in (fit.values, fit.low, fit.high)
    )
    draw = lambda title, y, values, stem, scale: Picture(
        title, "time (s)", y, {name(i): (t, scale * values[:, i]) for i in shown},
        {name(i): (t, scale * curve(stem, i)) for i in shown}, log_x=True,
    )  # fmt: skip
    return (
        draw("Variance of the shift", "variance (µS²)", variance, "variance", 1e12),
        draw("Mean shift", "shift (µS)", mean, "mean", 1e6),
        Picture("Tails", "time (s)", "tail index ν", lines={"ν": (t, nu, low, high)}, log_x=True, log_y=True),
    )


def _notes(fit: LawFit) -> tuple[str, ...]:
    heavy = fit.group("nu") < 4
    if not heavy.any():
        return ()
    return (
        "where the tail index is below 4 the variance has no finite error: take the scales, and its line as a summary",
    )
