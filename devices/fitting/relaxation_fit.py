"""Relaxation: how conductances shift and scatter with the time since programming.

At each time and level: mean and variance, whose growth with log time is the law, Var = c1(G) log10 t + c2(G) and
mean = a(G) log10 t + b(G); location and scale from the quartiles; and one tail index for each time, since the shifts of
RRAM are far from normal. A variance has no meaning where the index is below 2, which is why a device takes the scales.
How a cell's shifts at two times hang together gives the correlation of its path.
"""

from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import compact
from pim.devices.fitting.relaxation_path import RelaxationPath
from pim.devices.fitting.shifts import Shifts, shifts_of
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
    student_logpdf,
)


def fit_relaxation(table: Measurements, seed: int = 0) -> LawFit:
    """Mean, variance, location, scale and tails of the shift by time and level, and the correlation between times.

    Parameters with an index: `variance_slope[level]`, `variance_at_1s[level]`, `mean_slope[level]`,
    `mean_at_1s[level]`, `nu[time]`, `location[group]` and `scale[group]` with group = time * levels + level; and
    `slow_share`, `slow_decades` of the path (see `pim.devices.cells.path`) where cells were read at two times or more.

    Raises:
        NotMeasured: see `shifts_of`; or no shift at all.
    """
    shifts = shifts_of(table)
    units = shifts.units
    sorted_groups = group_quantiles(shifts.shift, shifts.group, shifts.groups, units.of)
    quartiles = sorted_groups(np.ones((1, units.count)), QUARTILES)[0]
    spread = robust_spread(quartiles)
    if not (spread > 0).all():
        raise NotMeasured("at a time and state half of the cells have not shifted at all")
    standard = (shifts.shift - quartiles[shifts.group, 1]) / spread[shifts.group]
    read = [np.unique(units.of[at]) for at in shifts.each_time()]
    tails = [
        student_fit(standard[at], *compact(units.of[at]), _edges(shifts, k, quartiles), shifts.level[at])[1]
        for k, at in enumerate(shifts.each_time())
    ]
    moments = _Moments(shifts)
    path = RelaxationPath(shifts, standard)

    def estimate(weights: np.ndarray) -> np.ndarray:
        quartiles = sorted_groups(weights, QUARTILES)
        nu = np.stack([tail(weights[:, at]) for tail, at in zip(tails, read, strict=True)], axis=1)
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
        return student_logpdf(z, nu) - np.log(scale), normal_scores(student.cdf(z, nu))

    estimator = Estimator(unknowns, units.of, units.count, estimate, predict)
    law = (
        "shift from {}; Var = variance_slope log10(t / s) + variance_at_1s, mean likewise; Student-t with scale and nu"
    )
    fit = judge(estimator, "relaxation", law.format(shifts.against), seed, kind="student", constants=_constants(shifts))
    pictures, notes = _pictures(fit, shifts, moments), (*units.notes, *_notes(fit))
    return replace(fit, cells=units.cells, pictures=pictures, notes=notes)


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


def _edges(shifts: Shifts, time: int, quartiles: np.ndarray) -> np.ndarray:
    """The least and largest standard shift of each level [levels, 2]: conductances are from 0 to the limit."""
    own = quartiles.reshape(len(shifts.decades), -1, 3)[time]
    edges = np.stack([-shifts.levels, shifts.g_limit - shifts.levels], axis=1)
    return (edges - own[:, 1:2]) / robust_spread(own)[:, None]


class _Moments:
    """Mean and variance by group, and their straight lines in log time by level."""

    def __init__(self, shifts: Shifts) -> None:
        self.shifts, units, ones = shifts, shifts.units, np.ones(len(shifts.shift))
        self.size = np.bincount(shifts.group, minlength=shifts.groups)
        powers = ones, shifts.shift, shifts.shift**2
        self.sums = [group_sums(values, shifts.group, shifts.groups, units.of, units.count) for values in powers]
        mean, variance = (v[0].reshape(-1, len(shifts.levels)) for v in self.at(np.ones((1, units.count))))
        counts = self.size.reshape(mean.shape)
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
        count, total, squares = (weights @ matrix for matrix in self.sums)
        count = np.maximum(count, 1e-300)
        mean = total / count
        return mean, (squares / count - mean**2) * self.size / (self.size - 1)

    def lines(self, weights: np.ndarray) -> list[np.ndarray]:
        """Slopes and values at 1 s of the variance, then of the mean, [draws, levels] each."""
        shape = (len(weights), len(self.shifts.decades), len(self.shifts.levels))
        mean, variance = (values.reshape(shape) for values in self.at(weights))
        fits = [
            np.einsum("lkt,dtl->kdl", to, values) for to, values in ((self.to_variance, variance), (self.to_mean, mean))
        ]
        return [*fits[0], *fits[1]]


def _constants(shifts: Shifts) -> dict[str, float]:
    times = {f"time[{i}]": float(10**s) for i, s in enumerate(shifts.decades)}
    levels = {f"level[{i}]": float(g) for i, g in enumerate(shifts.levels)}
    from_target = float(shifts.against == "the target")
    rest = {"from_target": from_target, "temperature": shifts.temperature, "g_limit": shifts.g_limit}
    return times | levels | rest


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
        Picture(
            "Tail index, 95 % bands",
            "time (s)",
            "tail index ν",
            lines={"ν": (t, nu, low, high)},
            log_x=True,
            log_y=True,
        ),
    )


def _notes(fit: LawFit) -> tuple[str, ...]:
    heavy = fit.group("nu") < 4
    if not heavy.any():
        return ()
    return (
        "where the tail index is below 4 the variance has no finite error: take the scales, and its line as a summary",
    )
