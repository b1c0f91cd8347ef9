"""Temperature coefficient: how the conductance of one state changes with the temperature at which it is read."""

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.history import history
from pim.devices.fitting.table import Measurements

LEAST_TEMPERATURES = 3
LEAST_CELLS = 5
LEAST_RANGE = 20.0  # K


def fit_tcr(table: Measurements, seed: int = 0) -> LawFit:
    """G(T) = G(T_0) (1 + tcr (T - T_0)): mean `tcr` and its spread `tcr_sigma` over cells, in 1/K.

    T_0 (`reference_temperature`) is the median temperature of such readings.

    Raises:
        NotMeasured: fewer than five cells were read at three temperatures, 20 K apart in all.
    """
    _, readings = history(table)
    known = np.isfinite(readings.temperature)
    writes = readings.by_write(LEAST_TEMPERATURES) if known.any() and np.ptp(readings.temperature[known]) > 0 else []
    sweeps = [rows[known[rows]] for rows in writes if _is_sweep(readings.temperature[rows])]
    reference = float(np.median(readings.temperature[np.concatenate(sweeps)])) if sweeps else 0.0
    slopes, errors, used = [], [], []
    for rows in sweeps:
        x, g = readings.temperature[rows] - reference, readings.g[rows]
        slope, offset = np.polyfit(x, g, 1)
        noise = ((g - offset - slope * x) ** 2).sum() / (len(x) - 2)
        slopes.append(slope / offset)
        errors.append(noise / ((x - x.mean()) ** 2).sum() / offset**2)
        used.append(rows[0])
    if len(slopes) < LEAST_CELLS:
        raise NotMeasured(
            f"{len(slopes)} cells were read at {LEAST_TEMPERATURES} temperatures (temp_K) over {LEAST_RANGE:g} K "
            f"or more; {LEAST_CELLS} are needed"
        )
    slope, error = np.array(slopes), np.array(errors)
    units = units_of(readings.cell[used], readings.write[used])
    cell_of, count = units.of, units.count

    def estimate(weights: np.ndarray) -> np.ndarray:
        w = weights[:, cell_of]
        total = w.sum(axis=1)
        mean = w @ slope / total
        own = (w @ slope**2 / total - mean**2) * len(slope) / (len(slope) - 1) - w @ error / total
        return np.stack([mean, np.sqrt(np.maximum(own, 1e-6 * slope.var() + 1e-24))], axis=1)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.sqrt(values[1] ** 2 + error)
        return norm.logpdf((slope - values[0]) / sigma) - np.log(sigma), (slope - values[0]) / sigma

    unknowns = (Unknown("tcr", "1/K", "mean over cells"), Unknown("tcr_sigma", "1/K", "spread over cells", True))
    fit = judge(
        Estimator(unknowns, cell_of, count, estimate, predict), "tcr",
        f"G(T) = G({reference:.4g} K) (1 + tcr (T - {reference:.4g} K)), tcr normal over cells", seed, kind="linear",
        constants={"reference_temperature": reference},
    )  # fmt: skip
    shares = (np.arange(len(slope)) + 0.5) / len(slope)
    model = norm.ppf(shares, fit["tcr"], np.sqrt(fit["tcr_sigma"] ** 2 + error.mean()))
    picture = Picture(
        "Temperature coefficient", "coefficient (10⁻³/K)", "share of cells below",
        {"cells": (1e3 * np.sort(slope), shares)}, {"fit": (1e3 * model, shares)},
    )  # fmt: skip
    return replace(fit, cells=units.cells, pictures=(picture,), notes=units.notes)


def _is_sweep(temperature: np.ndarray) -> bool:
    known = temperature[np.isfinite(temperature)]
    return bool(len(np.unique(known)) >= LEAST_TEMPERATURES and np.ptp(known) >= LEAST_RANGE)
