"""Drift: the exponent nu of G = G_0 (t / t_0)^(-nu) of each cell, and its mean and spread over cells by state.

The exponent is the slope of ln G against ln t. A reading at the noise floor says only that the conductance is below
it: such readings are put where the cell's own line and their being below it expect them, again and again until nothing
moves (censored regression by expectation-maximisation; M. Aitkin, Technometrics 23, 161-163, 1981). Leaving them out
would leave out the cells that drift most.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import compact, units_of
from pim.devices.fitting.history import history, levels_of
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import group_sums, least_squares

LEAST_READINGS = 3
LEAST_WRITES = 20
LEAST_SIGMA = 1e-9
"""Scatter of ln G that any reading has: numbers have digits."""
ROUNDS = 200
SMALLEST = 1e-30  # S; keeps logarithms finite where nothing is used of them


@dataclass(frozen=True)
class Courses:
    """Readings of each write over time, sorted by write."""

    log_t: Float[np.ndarray, "data"]
    log_g: Float[np.ndarray, "data"]
    write: Int[np.ndarray, "data"]
    below: Bool[np.ndarray, "data"]
    """Readings at the noise floor."""
    log_floor: float
    state: Float[np.ndarray, "writes"]
    cell: Int[np.ndarray, "writes"]
    left_out: int
    """Writes with fewer than three readings above the floor."""
    temperature: float
    """Temperature of the readings (K)."""

    def total(self, values: Float[np.ndarray, "data"]) -> Float[np.ndarray, "writes"]:
        """Sum over the readings of each write."""
        return np.bincount(self.write, values, minlength=len(self.state))


def courses_of(table: Measurements) -> Courses:
    """The readings of each write that has three or more above the noise floor, at different times.

    Raises NotMeasured if those are fewer than 20.
    """
    _, readings = history(table)
    near, temperature = readings.at_one_temperature()
    floor = table.sidecar.noise_floor_S
    rows = np.flatnonzero((readings.age > 0) & near & ((readings.g > 0) | (floor > 0)))
    rows = rows[np.lexsort((readings.age[rows], readings.write[rows]))]
    write, count = compact(readings.write[rows])
    first = np.searchsorted(write, np.arange(count))
    log_floor = float(np.log(floor)) if floor > 0 else -np.inf
    log_t, log_g = np.log(readings.age[rows]), np.log(np.maximum(readings.g[rows], max(floor, SMALLEST)))
    below = log_g <= log_floor
    target, earliest = readings.target[rows][first], readings.g[rows][first]
    state = np.where(np.isfinite(target), target, earliest)
    earliest_log, latest_log = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(earliest_log, write[~below], log_t[~below])
    np.maximum.at(latest_log, write[~below], log_t[~below])
    enough = np.bincount(write[~below], minlength=count) >= LEAST_READINGS
    kept = enough & (state > 0) & (latest_log > earliest_log)
    if kept.sum() < LEAST_WRITES:
        raise NotMeasured(f"{kept.sum()} writes were read at {LEAST_READINGS} times (t_s); {LEAST_WRITES} are needed")
    data = kept[write]
    return Courses(
        log_t[data], log_g[data], compact(write[data])[0], below[data], log_floor, state[kept],
        readings.cell[rows][first][kept], int((~kept).sum()), temperature,
    )  # fmt: skip


def slopes_of(courses: Courses) -> tuple[np.ndarray, np.ndarray, float]:
    """The exponent of each write, its variance, and the standard deviation of ln G about the lines."""
    write, below, total = courses.write, courses.below, courses.total
    count = total(np.ones(len(write)))
    x = courses.log_t - (total(courses.log_t) / count)[write]
    y, scatter = courses.log_g, np.zeros(len(x))
    slope, sigma = np.zeros(len(count)), 0.0
    for _ in range(ROUNDS):
        before = slope
        slope = total(x * y) / total(x**2)
        line = (total(y) / count)[write] + x * slope[write]
        sigma = float(np.sqrt(((y - line) ** 2 + scatter).sum() / max(len(x) - 2 * len(count), 1)))
        if not below.any() or np.abs(slope - before).max() < 1e-9:
            break
        depth = (courses.log_floor - line) / max(sigma, 1e-12)
        mills = np.exp(norm.logpdf(depth) - norm.logcdf(depth))
        y = np.where(below, line - sigma * mills, courses.log_g)
        scatter = np.where(below, sigma**2 * np.clip(1 - depth * mills - mills**2, 0, 1), 0.0)
    known = 1.0 - below
    away = courses.log_t - (total(courses.log_t * known) / total(known))[write]
    return -slope, max(sigma, LEAST_SIGMA) ** 2 / total(away**2 * known), sigma


def fit_drift(table: Measurements, seed: int = 0) -> LawFit:
    """Drift exponents by state u = G / g_reference: mean `nu_mean` + `nu_mean_slope` ln u, spread over cells likewise.

    The state is the target, or the first reading where there is none.

    Raises:
        NotMeasured: fewer than 20 writes have three readings above the noise floor (`noise_floor_S` of the sidecar).
    """
    courses = courses_of(table)
    slope, error, noise = slopes_of(courses)
    reference = table.sidecar.g_max_S or float(courses.state.max())
    log_u = np.log(courses.state / reference)
    level, levels = levels_of(courses.state, least=LEAST_WRITES)
    units = units_of(courses.cell, np.arange(len(slope)))
    cell_of, cells = units.of, units.count
    counts = np.bincount(level)
    centres = np.bincount(level, log_u) / counts
    terms = 2 if np.ptp(centres) > 0.1 else 1
    design = np.vander(centres, terms, increasing=True)
    powers = np.ones(len(slope)), slope, slope**2, error
    sums = [group_sums(values, level, len(levels), cell_of, cells) for values in powers]

    def by_level(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread of the exponent; the spread is without the error of the slopes themselves."""
        count, total, squares, errors = (weights @ matrix for matrix in sums)
        mean = total / count
        variance = (squares / count - mean**2) * counts / (counts - 1) - errors / count
        return mean, np.sqrt(np.maximum(variance, 0.0))

    mean, spread = (values[0] for values in by_level(np.ones((1, cells))))
    to_line = least_squares(design, counts / (np.mean(spread**2) + np.bincount(level, error) / counts + 1e-30))

    def estimate(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([values @ to_line.T for values in by_level(weights)], axis=1)

    powers = np.vander(log_u, terms, increasing=True)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.sqrt(np.maximum(powers @ values[terms:], 0.0) ** 2 + error)
        z = (slope - powers @ values[:terms]) / sigma
        return norm.logpdf(z) - np.log(sigma), z

    unknowns = (
        Unknown("nu_mean", "1", "mean exponent at u = 1"),
        Unknown("nu_mean_slope", "1", "its change with ln u"),
        Unknown("nu_sigma", "1", "spread of the exponent over cells at u = 1"),
        Unknown("nu_sigma_slope", "1", "its change with ln u"),
    )
    fit = judge(
        Estimator(unknowns if terms == 2 else unknowns[::2], cell_of, cells, estimate, predict),
        "drift",
        f"ln G falls by nu for each e-fold of time; nu normal over cells, linear in ln(G / {reference * 1e6:.4g} µS)",
        seed,
        kind="power",
        constants={
            "g_reference": reference,
            "t_0": float(np.exp(np.median(courses.log_t[np.diff(courses.write, prepend=-1) > 0]))),
            "t_last": float(np.exp(courses.log_t.max())),
            "reading_noise": noise,
            "temperature": courses.temperature,
            "g_lowest": float(levels.min()),
            "g_highest": float(levels.max()),
        },
    )
    u = np.geomspace(levels.min(), levels.max(), 60) / reference
    line = lambda values: np.vander(np.log(u), terms, increasing=True) @ values
    picture = Picture(
        "Drift exponent", "state (µS)", "exponent ν",
        {"mean": (levels * 1e6, mean), "spread over cells": (levels * 1e6, spread)},
        {"mean": (u * reference * 1e6, line(fit.values[:terms])),
         "spread over cells": (u * reference * 1e6, line(fit.values[terms:]))},
    )  # fmt: skip
    return replace(fit, cells=units.cells, pictures=(picture,), notes=(*units.notes, *_notes(courses)))


def _notes(courses: Courses) -> tuple[str, ...]:
    notes = []
    if courses.below.any():
        share = courses.below.sum() / len(courses.below)
        notes.append(f"{share:.1%} of the readings lie at the noise floor and count as lower than it")
    if courses.left_out:
        notes.append(f"{courses.left_out} writes have fewer than {LEAST_READINGS} readings above the floor: left out")
    return tuple(notes)
