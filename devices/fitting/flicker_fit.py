"""1/f noise: the spectrum of each cell's relative conductance, A / f and a white floor, and A over cells.

Spectra are Welch's (P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70-73, 1967), whose densities scatter like sums
of squares about S(f) (P. Whittle, Ark. Mat. 2, 423-434, 1953). A is lognormal over cells, as in the RRAM-Relaxation
data. Every cell counts with all that its spectrum says of A, also where that is little: to leave such cells out would
leave out the quiet ones. Cells with telegraph noise are left out: theirs is another spectrum.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.signal import welch

from pim.devices.fitting.estimate import AT_ONCE, Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.series import even_series
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.telegraph_fit import two_groups
from pim.devices.fitting.weighted import maximum_likelihood

LEAST_READINGS = 256
LEAST_CELLS = 10
SKIPPED = 3
"""Lowest frequencies left out: the mean taken off each segment and its window bend them."""
INFORMATION = 0.48
"""Independent numbers in a Welch density: Hann windows that overlap by half correlate neighbours by 4/9 and 1/36 along
the frequencies and by 1/36 from segment to segment, 1 / (1 + 2 (4/9 + 1/36)) / (1 + 2/36)."""
REACH, POINTS = 9.0, 161
"""Range of ln A about the middle one and points in it."""
LEAST_EVIDENCE = 5.0
"""Logarithm of the likelihood that 1/f noise must gain over none."""


def fit_flicker(table: Measurements, seed: int = 0) -> LawFit:
    """S(f) = A / f + white of the conductance over its mean: A lognormal over cells, a power of G where states differ.

    Parameters: `amplitude` (median A), `amplitude_log` (standard deviation of ln A), `white` (1/Hz, mean) and
    `exponent` (A grows as (G / g_reference)^exponent).

    Raises:
        NotMeasured: fewer than 10 cells have 256 evenly spaced readings with times; or there is no 1/f noise in them.
    """
    series = [one for one in even_series(table, LEAST_READINGS) if one.interval > 0 and np.ptp(one.g) > 0]
    count = min((len(one.g) for one in series), default=0)
    relative = [one.g[:count] / one.g[:count].mean() for one in series]
    jumps = [bool(two_groups(one[None]).clear[0]) for one in relative]
    series, relative = ([one for one, jump in zip(ones, jumps, strict=True) if not jump] for ones in (series, relative))
    if len(series) < LEAST_CELLS:
        raise NotMeasured(
            f"{len(series)} cells have {LEAST_READINGS} evenly spaced readings with times; {LEAST_CELLS} are needed"
        )
    rate = 1 / np.array([one.interval for one in series])
    segment = 2 ** int(np.log2(count / 4))
    shape, density = welch(np.stack(relative), nperseg=segment, axis=1)
    f, density = shape[None, SKIPPED:-1] * rate[:, None], density[:, SKIPPED:-1] / rate[:, None]
    grid = np.log(np.median(density * f)) + np.linspace(-REACH, REACH, POINTS)
    size = max(1, AT_ONCE // (POINTS * f.shape[1]))  # spectra at a time: memory stays small with many of them
    parts = [slice(i, i + size) for i in range(0, len(f), size)]
    information = INFORMATION * (2 * count / segment - 1)
    profiles = [_profile(f[part], density[part], grid, information) for part in parts]
    likelihood, floor = (np.concatenate(values) for values in zip(*profiles, strict=True))

    reference = table.sidecar.g_max_S or float(max(one.g.mean() for one in series))
    log_u = np.log([one.g.mean() / reference for one in series])
    terms = 2 if log_u.std() > 0.1 else 1
    units = units_of(np.array([one.cell for one in series]), np.arange(len(series)))
    cell_of, cells = units.of, units.count
    best = likelihood.max(axis=1, keepdims=True)
    share = np.exp(likelihood - best)
    log_a = grid[likelihood.argmax(axis=1)]
    white = floor[np.arange(len(floor)), likelihood.argmax(axis=1)]

    def log_likelihood(values: np.ndarray) -> np.ndarray:
        """Of each series: its likelihood over all A, weighed by how frequent they are."""
        centre = np.log(values[0]) + (values[3] if terms == 2 else 0.0) * log_u
        z = (grid - centre[:, None]) / values[1]
        frequency = np.exp(-0.5 * z**2)
        return np.log(np.maximum((share * frequency).sum(axis=1) / frequency.sum(axis=1), 1e-300)) + best[:, 0]

    def to_values(theta: np.ndarray) -> np.ndarray:
        """Values but for the white floor, which is zero, from parameters of order 1."""
        spread = np.clip(np.exp(theta[..., 1]), grid[1] - grid[0], REACH)
        first = np.stack([np.exp(middle + theta[..., 0]), spread, np.zeros_like(spread)], axis=-1)
        return np.concatenate([first, theta[..., 2:]], axis=-1)

    middle = float(np.median(log_a))
    by_cell = lambda theta: np.bincount(cell_of, log_likelihood(to_values(theta)), minlength=cells)
    theta, found = maximum_likelihood(by_cell, (0.0, -0.5, 0.0)[: 1 + terms])
    if (log_likelihood(to_values(theta)) - likelihood[:, 0]).sum() < LEAST_EVIDENCE:
        raise NotMeasured("the spectra show no 1/f noise above the white noise of the readings")

    def estimate(weights: np.ndarray) -> np.ndarray:
        w = weights[:, cell_of]
        values = to_values(found(weights))
        values[:, 2] = w @ white / w.sum(axis=1)
        return values

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre = np.log(values[0]) + (values[3] if terms == 2 else 0.0) * log_u
        known = share / share.sum(axis=1, keepdims=True)
        error = known @ grid**2 - (known @ grid) ** 2
        clear = (likelihood.argmax(axis=1) > 0) & (error < 1)
        z = np.where(clear, (known @ grid - centre) / np.sqrt(values[1] ** 2 + error), np.nan)
        return log_likelihood(values), z

    unknowns = [
        Unknown("amplitude", "1", "median A over cells, at u = 1", True),
        Unknown("amplitude_log", "1", "standard deviation of ln A over cells", True),
        Unknown("white", "1/Hz", "white noise of the relative conductance, mean over cells", True),
        Unknown("exponent", "1", "power of u by which A grows"),
    ]
    fit = judge(
        Estimator(unknowns[: 2 + terms], cell_of, cells, estimate, predict),
        "flicker",
        f"S(f) = A / f + white of G over its mean; A lognormal over cells, u = G / {reference * 1e6:.4g} µS",
        seed,
        kind="flicker",
        constants={"g_reference": reference, "interval": float(np.median(1 / rate))},
    )
    notes = (f"{sum(jumps)} series jump between two levels: left out",) if any(jumps) else ()
    typical = fit["amplitude"] * np.exp((fit["exponent"] if terms == 2 else 0.0) * np.median(log_u))
    hidden = len(series) - len(fit.scores)
    if hidden:
        notes += (f"{hidden} spectra say little of their A: they enter the fit, but are not among the residuals",)
    return replace(
        fit, cells=units.cells, pictures=(_picture(f, density, typical, fit["white"]),), notes=(*units.notes, *notes)
    )


def _profile(
    f: Float[np.ndarray, "series bins"],
    density: Float[np.ndarray, "series bins"],
    grid: Float[np.ndarray, "points"],
    information: float,
) -> tuple[Float[np.ndarray, "series points"], Float[np.ndarray, "series points"]]:
    """Log-likelihood of each ln A of the grid with the white floor that suits it best, and that floor."""
    flicker = np.exp(grid)[None, :, None] / f[:, None, :]
    density = density[:, None, :]
    least = 1e-6 * density.mean(axis=2)
    white = np.broadcast_to(np.median(density, axis=2), flicker.shape[:2])
    for _ in range(12):  # scoring: weighted least squares, the weights from the floor before
        weight = 1 / (flicker + white[..., None]) ** 2
        white = np.maximum(((density - flicker) * weight).sum(axis=2) / weight.sum(axis=2), least)
    model = flicker + white[..., None]
    return -information * (np.log(model) + density / model).sum(axis=2), white


def _picture(f: np.ndarray, density: np.ndarray, amplitude: float, white: float) -> Picture:
    middle = slice(None, None, max(1, f.shape[1] // 60))
    x = np.median(f, axis=0)[middle]
    low, median, high = np.quantile(density, (0.25, 0.5, 0.75), axis=0)[:, middle]
    return Picture(
        "Spectrum of the relative conductance",
        "frequency (Hz)",
        "density (1/Hz)",
        lines={
            "median cell, quartiles": (x, median, low, high),
            "A / f + white of the median state": (x, amplitude / x + white),
        },
        log_x=True,
        log_y=True,
    )
