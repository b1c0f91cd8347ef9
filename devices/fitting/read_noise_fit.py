"""Read noise: how repeated readings of one state scatter, and how the scatter depends on the conductance.

Differences of neighbouring readings are taken, which a slow shift of the state does not enter: half their mean square
is the variance of what is white, with some of what is 1/f. Cells with telegraph noise are left out.
"""

from dataclasses import replace

import numpy as np
from scipy.special import polygamma, psi
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.series import Series, even_series
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.telegraph_fit import LEAST_READINGS as ENOUGH_TO_TELL
from pim.devices.fitting.telegraph_fit import two_groups

LEAST_READINGS = 8
LEAST_CELLS = 10
LAWS = {
    "proportional": (1.0, Unknown("sigma_relative", "1", "standard deviation over conductance, median cell", True)),
    "additive": (0.0, Unknown("sigma", "S", "standard deviation, median cell", True)),
}


def fit_read_noise(table: Measurements, seed: int = 0) -> LawFit:
    """Standard deviation from read to read, in proportion to G or the same for all G, and its spread over cells.

    Parameters: `sigma_relative` or `sigma` (S) of the median cell, `sigma_log` (standard deviation of ln sigma over
    cells), and `exponent`, the power of G by which the deviation grows, where states differ enough to tell.

    Raises:
        NotMeasured: fewer than 10 cells were read 8 times or more in one state, evenly in time.
    """
    series = [one for one in even_series(table, LEAST_READINGS) if np.ptp(one.g) > 0 and not _jumps(one)]
    if len(series) < LEAST_CELLS:
        raise NotMeasured(
            f"{len(series)} cells were read {LEAST_READINGS} times in one state, evenly in time; "
            f"{LEAST_CELLS} are needed"
        )
    units = units_of(np.array([one.cell for one in series]), np.arange(len(series)))
    cell_of, cells = units.of, units.count
    # n - 1 squares of differences, neighbours correlated by 1/4: as good as 2 n / 3 independent ones
    degrees = np.array([2 * len(one.g) / 3 for one in series])
    square = np.array([np.mean(np.diff(one.g) ** 2) / 2 for one in series])
    log_sigma = (np.log(square) - psi(degrees / 2) + np.log(degrees / 2)) / 2
    error = polygamma(1, degrees / 2) / 4
    log_g = np.log([one.g.mean() for one in series])
    differ = bool(log_g.std() > 0.1)

    def estimate_for(power: float):
        def estimate(weights: np.ndarray) -> np.ndarray:
            w = weights[:, cell_of]
            count = w.sum(axis=1)
            level = log_sigma - power * log_g
            mean = w @ level / count
            own = (w @ level**2 / count - mean**2) * len(level) / (len(level) - 1) - w @ error / count
            parts = [np.exp(mean), np.sqrt(np.maximum(own, 1e-8))]
            if differ:
                x = log_g - (w @ log_g / count)[:, None]
                parts.append((w * x) @ log_sigma / (w * x**2).sum(axis=1))
            return np.stack(parts, axis=1)

        return estimate

    def predict_for(power: float):
        def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            sigma = np.sqrt(values[1] ** 2 + error)
            z = (log_sigma - power * log_g - np.log(values[0])) / sigma
            return norm.logpdf(z) - np.log(sigma), z

        return predict

    criteria = {}
    for kind, (power, _) in LAWS.items():
        values = estimate_for(power)(np.ones((1, cells)))[0]
        criteria[kind] = float(4 - 2 * predict_for(power)(values)[0].sum())
    kind = min(criteria, key=lambda kind: criteria[kind]) if differ else "proportional"
    power, unknown = LAWS[kind]
    unknowns = [unknown, Unknown("sigma_log", "1", "standard deviation of ln sigma over cells", True)]
    unknowns += [Unknown("exponent", "1", "power of G by which sigma grows")] if differ else []
    words = "sigma = sigma_relative G" if power else "the same sigma for every G"
    fit = judge(
        Estimator(unknowns, cell_of, cells, estimate_for(power), predict_for(power)), "read_noise",
        f"normal from read to read, {words}, lognormal over cells", seed, kind=kind, criteria=criteria,
    )  # fmt: skip
    g = np.exp(np.linspace(log_g.min(), log_g.max(), 30))
    picture = Picture(
        "Read noise", "conductance (µS)", "standard deviation (µS)",
        {"cells": (np.exp(log_g) * 1e6, np.exp(log_sigma) * 1e6)}, {"fit": (g * 1e6, fit.values[0] * g**power * 1e6)},
        log_x=differ, log_y=True,
    )  # fmt: skip
    return replace(fit, cells=units.cells, pictures=(picture,), notes=units.notes)


def _jumps(series: Series) -> bool:
    """Whether a series goes between two levels, if it is long enough to tell."""
    return len(series.g) >= ENOUGH_TO_TELL and bool(two_groups(series.g[None]).clear[0])
