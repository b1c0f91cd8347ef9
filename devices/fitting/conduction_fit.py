"""Current against voltage: a cubic, or a hyperbolic sine, whichever has the lower AIC.

Residuals are relative, (model - I) / I. The conductance at low voltage is each sweep's own and fitted along with it;
the shape is one for all sweeps, for the cubic with coefficients that are polynomials in log10 of the conductance.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import Units, compact, fill, numbered, units_of
from pim.devices.fitting.series import ALIKE
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import maximum_likelihood

LEAST_VOLTAGES = 6
LEAST_SWEEPS = 5
MOST_TERMS = 3
"""Coefficients of N2 and N3 in log10 G."""


@dataclass(frozen=True)
class Sweeps:
    """Points of all sweeps, sorted by sweep."""

    v: Float[np.ndarray, "data"]
    i: Float[np.ndarray, "data"]
    sweep: Int[np.ndarray, "data"]
    units: Units

    @property
    def cell_of(self) -> Int[np.ndarray, "data"]:
        """The unit of each point."""
        return self.units.of

    @property
    def cells(self) -> int:
        """Number of units."""
        return self.units.count

    @property
    def count(self) -> int:
        """Number of sweeps."""
        return int(self.sweep[-1]) + 1

    def total(self, values: Float[np.ndarray, "data"]) -> Float[np.ndarray, "sweeps"]:
        """Sum over each sweep."""
        return np.bincount(self.sweep, values, minlength=self.count)

    def without_own(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """What is left of `values` when each sweep's own multiple of `x` is taken off."""
        return values - x * (self.total(x * values) / self.total(x * x))[self.sweep]


def sweeps_of(table: Measurements) -> Sweeps:
    """Readings with a current and a voltage, of cells and cycles read at six voltages or more.

    Raises NotMeasured if those are fewer than five sweeps.
    """
    part = table.where(is_sweep(table) & (table["i_A"] * table["v_read_V"] > 0))
    sweep = _sweep_of(part)
    order = np.argsort(sweep, kind="stable")
    sweep, count = compact(sweep[order])
    if count < LEAST_SWEEPS:
        raise NotMeasured(
            f"{count} cells have current (i_A) at {LEAST_VOLTAGES} reading voltages (v_read_V); "
            f"{LEAST_SWEEPS} are needed"
        )
    return Sweeps(part["v_read_V"][order], part["i_A"][order], sweep, units_of(part.cells[order], sweep))


def is_sweep(table: Measurements) -> Bool[np.ndarray, "rows"]:
    """Which rows are of a sweep: readings of a cell in a cycle at six voltages or more, 2 % of the largest apart.

    What such readings say of a cell's conductance at its usual voltage is another matter.
    """
    rows = np.flatnonzero(table.is_op("read") & np.isfinite(table["i_A"]) & np.isfinite(table["v_read_V"]))
    found = np.zeros(len(table), bool)
    if not rows.size:
        return found
    sweep, v = _sweep_of(table)[rows], table["v_read_V"][rows]
    largest = np.zeros(sweep.max() + 1)
    np.maximum.at(largest, sweep, np.abs(v))
    point = numbered(sweep, np.round(v / np.maximum(ALIKE * largest[sweep], 1e-30)))
    first = np.unique(point, return_index=True)[1]
    found[rows] = np.bincount(sweep[first], minlength=len(largest))[sweep] >= LEAST_VOLTAGES
    return found


def _sweep_of(table: Measurements) -> Int[np.ndarray, "rows"]:
    """The number of each row's cell, cycle and target."""
    return numbered(table.cells, fill(table["cycle"]), fill(table["g_target_S"]))


def _cubic(s: Sweeps, terms: int) -> Estimator:
    """I = G V + N2(G) V^2 + N3(G) V^3 with N2, N3 of `terms` coefficients in log10(G / S): linear least squares."""
    own = s.v / s.i
    g = s.total(own * 1.0) / s.total(own**2)  # of a straight line; then twice that of the cubic itself
    for _ in range(3):
        decades = np.log10(np.maximum(g, 1e-12))[s.sweep]
        powers = decades[:, None] ** np.arange(terms)
        design = np.concatenate([powers * (s.v**2 / s.i)[:, None], powers * (s.v**3 / s.i)[:, None]], axis=1)
        left = np.stack([s.without_own(column, own) for column in design.T], axis=1)
        right = s.without_own(np.ones(len(s.v)), own)
        scale = np.sqrt((left**2).sum(axis=0))
        found = np.linalg.lstsq(left / scale, right, rcond=None)[0] / scale
        g = s.total(own * (1 - design @ found)) / s.total(own**2)
    outer = left[:, :, None] * left[:, None, :] / (scale[:, None] * scale[None, :])
    by_cell = lambda values: np.stack(
        [np.bincount(s.cell_of, column, minlength=s.cells) for column in values.reshape(len(s.v), -1).T], axis=1
    )
    normal, vector = by_cell(outer), by_cell(left * right[:, None] / scale)
    freedom = np.bincount(s.cell_of, 1 - 1 / np.bincount(s.sweep)[s.sweep], minlength=s.cells)
    square = lambda coefficients: np.bincount(s.cell_of, (right - left @ coefficients) ** 2, minlength=s.cells)

    def estimate(weights: np.ndarray) -> np.ndarray:
        matrix = (weights @ normal).reshape(-1, 2 * terms, 2 * terms)
        coefficients = np.linalg.solve(matrix, (weights @ vector)[..., None])[..., 0] / scale
        noise = [np.sqrt(w @ square(c) / (w @ freedom)) for w, c in zip(weights, coefficients, strict=True)]
        return np.column_stack([coefficients, noise])

    unknowns = [Unknown(f"quadratic_{k}", "A/V^2", f"coefficient {k} of N2 in log10(G / S)") for k in range(terms)]
    unknowns += [Unknown(f"cubic_{k}", "A/V^3", f"coefficient {k} of N3 in log10(G / S)") for k in range(terms)]
    unknowns += [NOISE]
    return Estimator(unknowns, s.cell_of, s.cells, estimate, _predict(s, lambda values: right - left @ values[:-1]))


def _sinh(s: Sweeps) -> Estimator:
    """I = G v_0 sinh(V / v_0)."""

    def residual(v_0: float) -> np.ndarray:
        x = v_0 * np.sinh(s.v / v_0) / s.i
        return s.without_own(np.ones(len(s.v)), x)

    freedom = np.bincount(s.cell_of, 1 - 1 / np.bincount(s.sweep)[s.sweep], minlength=s.cells)
    largest = np.abs(s.v).max()

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        square = np.bincount(s.cell_of, residual(max(np.exp(theta[0]), largest / 50)) ** 2, minlength=s.cells)
        return -freedom * theta[1] - square / (2 * np.exp(2 * theta[1]))

    _, estimate = maximum_likelihood(log_likelihood, (np.log(largest), np.log(residual(largest).std() + 1e-9)))
    unknowns = (Unknown("v_0", "V", "voltage scale of the sinh", True), NOISE)
    return Estimator(
        unknowns, s.cell_of, s.cells, lambda weights: np.exp(estimate(weights)), _predict(s, lambda v: residual(v[0]))
    )


NOISE = Unknown("noise", "1", "relative standard deviation about the curve", True)


def _predict(s: Sweeps, residual):
    """Log-likelihood and score of the relative residuals, the free conductance of each sweep allowed for."""
    lost = np.sqrt(1 - 1 / np.bincount(s.sweep)[s.sweep])

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = residual(values) / (values[-1] * lost)
        return norm.logpdf(z) - np.log(values[-1]), z

    return predict


def fit_conduction(table: Measurements, seed: int = 0) -> LawFit:
    """The shape of I(V) and its departure from a straight line at the reading voltage and at half of it.

    Parameters: `v_0` (V) of the sinh, or `quadratic_k`, `cubic_k` of the cubic; `noise`. Constants: `nonlinearity` and
    `nonlinearity_half`, I(V) / (G V) - 1 at `v_read` (the sidecar's `read_voltage_V`, else the largest voltage) and at
    half of it, at the median conductance.

    Raises:
        NotMeasured: see `sweeps_of`.
    """
    s = sweeps_of(table)
    ones = np.ones((1, s.cells))
    estimators = {"sinh": _sinh(s)}
    g = s.total(s.v / s.i) / s.total((s.v / s.i) ** 2)
    most = MOST_TERMS if np.ptp(np.log10(g)) > 0.2 else 1
    cubics = [_cubic(s, terms) for terms in range(1, most + 1)]
    likelihood = lambda estimator: estimator.predict(estimator.estimate(ones)[0])[0].sum()
    bic = [len(e.unknowns) * np.log(len(s.v)) - 2 * likelihood(e) for e in cubics]
    estimators["cubic"] = cubics[int(np.argmin(bic))]
    criteria = {kind: float(2 * len(e.unknowns) - 2 * likelihood(e)) for kind, e in estimators.items()}
    kind = min(criteria, key=lambda kind: criteria[kind])
    words = {"sinh": "I = G v_0 sinh(V / v_0)", "cubic": "I = G V + N2(G) V^2 + N3(G) V^3"}[kind]
    v_read = table.sidecar.read_voltage_V or float(np.abs(s.v).max())
    fit = judge(estimators[kind], "conduction", words, seed, kind=kind, criteria=criteria)
    middle = float(np.median(g))
    bend = lambda v: _bend(kind, fit.values, middle, v)
    constants = {"v_read": v_read, "nonlinearity": bend(v_read), "nonlinearity_half": bend(v_read / 2), "g": middle,
                 "g_lowest": float(g.min())}  # fmt: skip
    v = np.linspace(s.v.min(), s.v.max(), 81)
    measured = s.i / (g[s.sweep] * s.v)
    scale = np.median(measured[np.abs(s.v) <= np.quantile(np.abs(s.v), 0.2)])
    picture = Picture(
        "Conduction", "voltage (V)", "I / (G V)", {"readings": (s.v, measured / scale)},
        {"fit": (v, np.array([1 + bend(x) for x in v]))},
    )  # fmt: skip
    return replace(fit, cells=s.units.cells, constants=constants, pictures=(picture,), notes=s.units.notes)


def _bend(kind: str, values: np.ndarray, g: float, v: float) -> float:
    """I / (G V) - 1."""
    if kind == "sinh":
        return float(np.sinh(v / values[0]) / (v / values[0]) - 1) if v else 0.0
    second, third = np.split(values[:-1], 2)
    powers = np.log10(g) ** np.arange(len(second))
    return float((second @ powers * v + third @ powers * v**2) / g)
