"""Retention: the time until a state is lost, and its activation energy.

A state counts as lost when the conductance is further from where it began than the sidecar's `retention_loss`. The time
is only known to lie between two readings, or beyond the last one: the likelihood says just that.
"""

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from pim.devices.constants import BOLTZMANN, ELECTRONVOLT
from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.history import history
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import maximum_likelihood, normal_scores

LEAST_CELLS = 5
"""Cells that must lose their state, in all; and be baked, at each temperature."""
SAME_TEMPERATURE = 3.0  # K


def fit_retention(table: Measurements, seed: int = 0) -> LawFit:
    """Time to the loss of a state, lognormal over cells, its median by Arrhenius' law.

    Parameters: `time` (s), the median at `reference_temperature` (a constant: the mean of the bakes, in 1/T),
    `activation_energy` (J) and `sigma_log`, the standard deviation of ln t over cells.

    Raises:
        NotMeasured: fewer than two temperatures with five cells each, or fewer than five cells that lost their state;
            or the times at which they were read tell no activation energy.
    """
    first, last, temperature, cell = _intervals(table)
    groups = np.unique(np.round(temperature / SAME_TEMPERATURE), return_counts=True)[1]
    lost = np.isfinite(last)
    if (groups >= LEAST_CELLS).sum() < 2 or lost.sum() < LEAST_CELLS:
        raise NotMeasured(
            f"retention needs readings over time at two temperatures (temp_K) with {LEAST_CELLS} cells each, and "
            f"{LEAST_CELLS} cells that lose their state: {(groups >= LEAST_CELLS).sum()} and {lost.sum()} here"
        )
    units = units_of(cell, np.arange(len(cell)))
    cell_of, cells = units.of, units.count
    inverse = ELECTRONVOLT / (BOLTZMANN * temperature)
    middle = inverse.mean()
    log_first, log_last = np.log(np.maximum(first, 1e-300)), np.log(last)

    def cut(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two ends of each interval as standard normal numbers."""
        centre = np.log(values[0]) + values[1] / ELECTRONVOLT * (inverse - middle)
        return (log_first - centre) / values[2], (log_last - centre) / values[2]

    def log_likelihood(values: np.ndarray) -> np.ndarray:
        low, high = cut(values)
        # both ends on the side where the normal distribution keeps its digits
        turned = np.where(low > 0, -1.0, 1.0)
        chance = np.abs(norm.cdf(turned * high) - norm.cdf(turned * low))
        return np.log(np.maximum(chance, 1e-300))

    to_values = lambda theta: np.stack([np.exp(theta[..., 0]), ELECTRONVOLT * theta[..., 1], np.exp(theta[..., 2])], -1)
    by_cell = lambda theta: np.bincount(cell_of, log_likelihood(to_values(theta)), minlength=cells)
    guess = np.log(np.where(lost, np.sqrt(np.maximum(first, last / 10) * np.where(lost, last, 1.0)), 2 * first))
    slope, offset = np.polyfit(inverse - middle, guess, 1)
    _, estimate = maximum_likelihood(by_cell, (offset, slope, 0.0), peaked=True)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle_of = norm.cdf(cut(values)).mean(axis=0)
        return log_likelihood(values), np.where(lost, normal_scores(middle_of), np.nan)

    unknowns = (
        Unknown("time", "s", "median time to the loss of a state", positive=True),
        Unknown("activation_energy", "J", "activation energy of that time"),
        Unknown("sigma_log", "1", "standard deviation of ln t over cells", positive=True),
    )
    reference = ELECTRONVOLT / (BOLTZMANN * middle)
    fit = judge(
        Estimator(unknowns, cell_of, cells, lambda weights: to_values(estimate(weights)), predict), "retention",
        f"ln t normal over cells about ln time + E_a / k (1 / T - 1 / {reference:.4g} K)", seed, kind="arrhenius",
        constants={"reference_temperature": float(reference), "loss": table.sidecar.retention_loss},
    )  # fmt: skip
    energy = fit["activation_energy"] / ELECTRONVOLT
    low, high = (bound / ELECTRONVOLT for bound in fit.band("activation_energy"))
    note = (
        f"activation energy {energy:.3g} eV ({low:.3g} to {high:.3g} eV); {lost.sum()} of {len(lost)} states were lost"
    )
    pictures, notes = (_picture(fit, first, last, temperature),), (*units.notes, note)
    return replace(fit, cells=units.cells, pictures=pictures, notes=notes)


def _intervals(table: Measurements) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each write: last time at which the state was there, first at which it was not (inf: never), T, and cell."""
    found = []
    _, readings = history(table)
    loss = table.sidecar.retention_loss
    known = np.isfinite(readings.temperature)
    baked = bool(known.any()) and np.ptp(readings.temperature[known]) > SAME_TEMPERATURE
    for rows in readings.by_write(3) if baked else []:
        rows = rows[np.argsort(readings.age[rows], kind="stable")]
        t, temperature, g = readings.age[rows], readings.temperature[rows], readings.g[rows]
        base = readings.base[rows[0]] if np.isfinite(readings.base[rows[0]]) else g[0]
        same = np.isfinite(temperature).all() and np.ptp(temperature) <= SAME_TEMPERATURE
        if not same or base <= 0 or np.ptp(t) == 0:
            continue
        gone = np.abs(g / base - 1) > loss
        k = int(np.argmax(gone)) if gone.any() else len(g)
        before = t[k - 1] if k else 0.0
        found.append((before, t[k] if k < len(g) else np.inf, temperature.mean(), readings.cell[rows[0]]))
    first, last, temperature, cell = np.array(found).reshape(-1, 4).T
    return first, last, temperature, cell.astype(int)


def _picture(fit: LawFit, first: np.ndarray, last: np.ndarray, temperature: np.ndarray) -> Picture:
    lost = np.isfinite(last)
    x = 1000 / temperature
    line = np.linspace(x.min(), x.max(), 30)
    reference = fit.constants["reference_temperature"]
    slope = fit["activation_energy"] / BOLTZMANN * (line / 1000 - 1 / reference)
    return Picture(
        "Time to the loss of a state", "1000 K / T", "time (s)",
        {"lost": (x[lost], last[lost]), "not yet": (x[~lost], first[~lost])},
        {"median": (line, fit["time"] * np.exp(slope))}, log_y=True,
    )  # fmt: skip
