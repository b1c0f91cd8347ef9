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
from pim.devices.fitting.history import compact, history, levels_of
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import group_sums, least_squares

LEAST_READINGS = 3
LEAST_CELLS = 20
ROUNDS = 200
SMALLEST = 1e-30  # S; keeps logarithms finite where nothing is used of them


@dataclass(frozen=True)
class Series:
    """Readings of each write side by side; `there` says which places hold one."""

    log_t: Float[np.ndarray, "writes readings"]
    log_g: Float[np.ndarray, "writes readings"]
    there: Bool[np.ndarray, "writes readings"]
    below: Bool[np.ndarray, "writes readings"]
    """Readings at the noise floor."""
    log_floor: float
    state: Float[np.ndarray, "writes"]
    cell: Int[np.ndarray, "writes"]
    left_out: int
    """Writes with fewer than three readings above the floor."""
    temperature: float
    """Temperature of the readings (K)."""


def series_of(table: Measurements) -> Series:
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
    place = write, np.arange(len(write)) - first[write]
    shape = count, int(place[1].max(initial=0)) + 1
    log_t, log_g, there = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    log_floor = float(np.log(floor)) if floor > 0 else -np.inf
    log_t[place], there[place] = np.log(readings.age[rows]), True
    log_g[place] = np.log(np.maximum(readings.g[rows], max(floor, SMALLEST)))
    below = there & (log_g <= log_floor)
    target, earliest = readings.target[rows][first], readings.g[rows][first]
    state = np.where(np.isfinite(target), target, earliest)
    known = there & ~below
    reach = np.where(known, log_t, -np.inf).max(axis=1) - np.where(known, log_t, np.inf).min(axis=1)
    kept = (known.sum(axis=1) >= LEAST_READINGS) & (state > 0) & (reach > 0)
    if kept.sum() < LEAST_CELLS:
        raise NotMeasured(f"{kept.sum()} writes were read at {LEAST_READINGS} times (t_s); {LEAST_CELLS} are needed")
    cell = readings.cell[rows][first]
    return Series(
        log_t[kept], log_g[kept], there[kept], below[kept], log_floor, state[kept], cell[kept], int((~kept).sum()),
        temperature,
    )  # fmt: skip


def slopes_of(series: Series) -> tuple[np.ndarray, np.ndarray, float]:
    """The exponent of each write, its variance, and the standard deviation of ln G about the lines."""
    there, below = series.there, series.below
    count = there.sum(axis=1, keepdims=True)
    x = np.where(there, series.log_t - np.sum(series.log_t, axis=1, keepdims=True, where=there) / count, 0.0)
    y, scatter = np.where(there, series.log_g, 0.0), np.zeros_like(x)
    slope, sigma = np.zeros(len(x)), 0.0
    for _ in range(ROUNDS):
        before = slope
        slope = (x * y).sum(axis=1) / (x**2).sum(axis=1)
        line = y.sum(axis=1, keepdims=True) / count + x * slope[:, None]
        degrees = max(there.sum() - 2 * len(x), 1)
        sigma = float(np.sqrt((np.where(there, y - line, 0.0) ** 2 + scatter).sum() / degrees))
        if not below.any() or np.abs(slope - before).max() < 1e-9:
            break
        depth = (series.log_floor - line) / max(sigma, 1e-12)
        mills = np.exp(norm.logpdf(depth) - norm.logcdf(depth))
        y = np.where(below, line - sigma * mills, y)
        scatter = np.where(below, sigma**2 * np.clip(1 - depth * mills - mills**2, 0, 1), 0.0)
    known = there & ~below
    mean = np.sum(series.log_t, axis=1, keepdims=True, where=known) / known.sum(axis=1, keepdims=True)
    return -slope, sigma**2 / np.sum((series.log_t - mean) ** 2, axis=1, where=known), sigma


def fit_drift(table: Measurements, seed: int = 0) -> LawFit:
    """Drift exponents by state u = G / g_reference: mean `nu_mean` + `nu_mean_slope` ln u, spread over cells likewise.

    The state is the target, or the first reading where there is none.

    Raises:
        NotMeasured: fewer than 20 writes have three readings above the noise floor (`noise_floor_S` of the sidecar).
    """
    series = series_of(table)
    slope, error, noise = slopes_of(series)
    reference = table.sidecar.g_max_S or float(series.state.max())
    log_u = np.log(series.state / reference)
    level, levels = levels_of(series.state, least=LEAST_CELLS)
    cell_of, cells = compact(series.cell)
    counts = np.bincount(level)
    centres = np.bincount(level, log_u) / counts
    terms = 2 if np.ptp(centres) > 0.1 else 1
    design = np.vander(centres, terms, increasing=True)

    def by_level(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread of the exponent; the spread is without the error of the slopes themselves."""
        sums = lambda values: group_sums(values, level, len(levels), cell_of, weights)
        count = sums(np.ones(len(slope)))
        mean = sums(slope) / count
        variance = (sums(slope**2) / count - mean**2) * counts / (counts - 1) - sums(error) / count
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
            "t_0": float(np.exp(series.log_t[series.there].min())),
            "t_last": float(np.exp(series.log_t[series.there].max())),
            "reading_noise": noise,
            "temperature": series.temperature,
            "g_lowest": float(levels.min()),
            "g_highest": float(levels.max()),
        },
    )
    measured = {"mean": mean, "spread": spread}
    fitted = {"mean": design @ fit.values[:terms], "spread": design @ fit.values[terms:]}
    at = lambda curves: {name: (levels * 1e6, values) for name, values in curves.items()}
    picture = Picture("Drift exponent", "state (µS)", "exponent ν", at(measured), at(fitted))
    return replace(fit, pictures=(picture,), notes=_notes(series))


def _notes(series: Series) -> tuple[str, ...]:
    notes = []
    if series.below.any():
        share = series.below.sum() / series.there.sum()
        notes.append(f"{share:.1%} of the readings lie at the noise floor and count as lower than it")
    if series.left_out:
        notes.append(f"{series.left_out} writes have fewer than {LEAST_READINGS} readings above the floor: left out")
    return tuple(notes)
