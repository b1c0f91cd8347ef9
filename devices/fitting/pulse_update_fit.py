"""Pulse updates: how far one pulse moves a cell, against the state it is in, up and down.

Conductances are taken as u, 0 at the bottom and 1 at the top of each cell's own window (for pulses down turned round).
A pulse moves a cell by

    step(u) = first + (last - first) (exp(bend u) - 1) / (exp(bend) - 1) + noise,

which is linear in u for bend 0: soft bounds, whose course over pulses is NeuroSim's
G = B (1 - exp(-P / A)) + G_min with 1 / A = ln(first / last), P counted in shares of the pulses that cross the
window. Another bend is an exponential step. The noise is that from cycle to cycle; what the
cells' own first steps differ by is that from device to device.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import LEAST_CELLS, compact, units_of
from pim.devices.fitting.history import in_order, trains
from pim.devices.fitting.table import Measurements

LEAST_TRAIN = 5
"""Steps that a train of pulses must have."""
BENDS = np.linspace(-8, 8, 65)
LEAST_SQUARE = 1e-16
"""Mean square left by any law of steps: numbers have digits."""
LABEL = 10.10
"""NeuroSim's label over the largest departure of the course from a straight line."""


def neurosim_label(curvature: Float[np.ndarray, "*any"] | float) -> Float[np.ndarray, "*any"] | np.floating:
    """NeuroSim's non-linearity label of a course f(p) = (1 - exp(-p / A)) / (1 - exp(-1 / A)) with 1 / A = `curvature`.

    10.10 max |f(p) - p|, with the sign of A; positive where the first pulses do most. It replaces the published table
    of labels, of which 16 rows agree with it to 0.03 %. NeuroSim gives pulses down the opposite sign.

    >>> float(neurosim_label(1 / 0.5).round(3))
    2.411
    """
    k = np.maximum(np.abs(curvature), 1e-6)
    a, full = 1 / k, -np.expm1(-k)
    p = a * np.log(1 / (a * full))
    return np.sign(curvature) * LABEL * (-np.expm1(-p * k) / full - p)


@dataclass(frozen=True)
class Steps:
    """Steps of one direction: the state before each, and by how much it moved, in shares of the cell's window."""

    u: Float[np.ndarray, "data"]
    step: Float[np.ndarray, "data"]
    cell_of: Int[np.ndarray, "data"]
    window: Float[np.ndarray, "cells"]
    """The cells' windows (S)."""

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.window)


def steps_of(table: Measurements, op: str) -> Steps:
    """The steps of `set` or `reset` pulses without a target.

    The states before and after a pulse are the conductances read last before it in its cycle, and with or right after
    it. A cell's window goes from the mean of the lower ends of its trains of pulses to that of the upper ends.

    Raises NotMeasured if no train has five steps.
    """
    rows = in_order(table.where(table.is_op("set", "reset", "read") & np.isnan(table["g_target_S"])))
    cell, g, at = rows.cells, rows["g_S"], np.arange(len(rows))
    train = trains(rows)
    known = np.isfinite(g)
    before = np.roll(np.maximum.accumulate(np.where(known, at, -1)), 1)
    read_next = known | (np.roll(rows["op"], -1) == "read")
    after = np.where(known, at, np.roll(at, -1))
    good = (rows["op"] == op) & (at > 0) & (before >= 0) & read_next & known[after]
    good = np.flatnonzero(good & (train[before] == train) & (train[after] == train))
    good = good[np.bincount(train[good], minlength=1 + train.max(initial=0))[train[good]] >= LEAST_TRAIN]
    if not good.size:
        raise NotMeasured(
            f"no cycle has {LEAST_TRAIN} {op} pulses without a target, each with the conductance after it"
        )
    start, end, where = g[before[good]], g[after[good]], train[good]
    first = np.flatnonzero(np.diff(where, prepend=-1))
    final = np.append(first[1:], len(where)) - 1
    cell_of, _ = compact(cell[good])
    mean = lambda values: np.bincount(cell_of[first], values) / np.bincount(cell_of[first])
    low, high = mean(np.minimum(start[first], end[final])), mean(np.maximum(start[first], end[final]))
    window = high - low
    if not (window > 0).all():
        raise NotMeasured(f"the {op} pulses of a cell do not move it")
    moved, behind = (end - start, start - low[cell_of]) if op == "set" else (start - end, high[cell_of] - start)
    if not moved.mean() > 0:
        raise NotMeasured(f"the {op} pulses move cells the other way, {'down' if op == 'set' else 'up'}")
    return Steps(behind / window[cell_of], moved / window[cell_of], cell_of, window)


class _Regression:
    """The steps' least squares for each bend, by unit: sums over the steps of one cell, or single steps."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        units = units_of(steps.cell_of, np.arange(len(steps.u)))
        self.by_cell = steps.cells >= LEAST_CELLS  # only then is there a spread from device to device
        self.units, self.unit_of, self.notes = units.count, units.of, units.notes
        x = np.stack([_shape(steps.u, bend) for bend in BENDS], axis=1)
        y = np.broadcast_to(steps.step[:, None], x.shape)
        self.sums = {name: self._sum(v) for name, v in {"x": x, "xx": x * x, "y": y, "xy": x * y, "yy": y * y}.items()}
        self.count = np.bincount(self.unit_of, minlength=self.units).astype(float)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(self.unit_of, column, minlength=self.units) for column in values.T], axis=1)

    def lines(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First and last step and the sum of squares left, [draws, bends] each."""
        n = (weights @ self.count)[:, None]
        s = {name: weights @ sums / n for name, sums in self.sums.items()}
        xx, xy = s["xx"] - s["x"] ** 2, s["xy"] - s["x"] * s["y"]
        slope = xy / np.maximum(xx, 1e-300)
        first = s["y"] - slope * s["x"]
        left = n * np.maximum(s["yy"] - s["y"] ** 2 - slope * xy, LEAST_SQUARE)
        return first, first + slope, left

    def own_lines(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First step, the variance of its error, and the sum of squares left, of each cell by itself."""
        n = self.count
        s = {name: sums[:, column] / n for name, sums in self.sums.items()}
        xx, xy = s["xx"] - s["x"] ** 2, s["xy"] - s["x"] * s["y"]
        slope = xy / np.maximum(xx, 1e-300)
        left = n * np.maximum(s["yy"] - s["y"] ** 2 - slope * xy, LEAST_SQUARE)
        error = left / (n - 2) / n * (1 + s["x"] ** 2 / np.maximum(xx, 1e-300))
        return s["y"] - slope * s["x"], error, left


def _shape(u: np.ndarray, bend: float) -> np.ndarray:
    return u if abs(bend) < 1e-9 else np.expm1(bend * u) / np.expm1(bend)


def fit_pulse_update(table: Measurements, seed: int = 0, op: str = "set") -> LawFit:
    """Steps of `set` or `reset` pulses: soft bounds or an exponential step, by AIC.

    Parameters, in shares of a cell's window: `first` and `last` step, `bend` (of an exponential step), `curvature`
    (ln(first / last), 1 / A of NeuroSim, of soft bounds), `nonlinearity` (NeuroSim's label), `c2c` (standard deviation
    of a step about the law) and, from 8 cells on, `d2d` (standard deviation of the cells' first steps in S, over their
    mean).

    Raises:
        NotMeasured: see `steps_of`.
    """
    steps = steps_of(table, op)
    regression = _Regression(steps)
    straight = len(BENDS) // 2
    count = len(steps.u)
    squares = regression.lines(np.ones((1, regression.units)))[2][0]
    criteria = {
        "soft_bounds": float(count * np.log(squares[straight]) + 6),
        "exponential_step": float(count * np.log(squares.min()) + 8),
    }
    kind = min(criteria, key=lambda kind: criteria[kind])
    bent = kind == "exponential_step"
    own_first, own_error, own_left = regression.own_lines(int(np.argmin(squares)) if bent else straight)

    absolute, absolute_error = own_first * steps.window, own_error * steps.window**2  # S and S^2

    def estimate(weights: np.ndarray) -> np.ndarray:
        first, last, left = regression.lines(weights)
        place = _lowest(left) if bent else np.full(len(weights), float(straight))
        at = lambda table: _between(table, place)
        first, last, left = at(first), at(last), at(left)
        bend = np.interp(place, np.arange(len(BENDS)), BENDS)
        total = weights.sum(axis=1)
        parts = [first, last]
        parts += [bend] if bent else [_curvature(first, last)]
        parts.append(_labels(first, last, bend) if bent else neurosim_label(parts[-1]))
        if not regression.by_cell:
            return np.stack([*parts, np.sqrt(left / (total - 2))], axis=1)
        c2c = np.sqrt(weights @ own_left / (weights @ (regression.count - 2)))
        mean = weights @ absolute / total
        own = (weights @ absolute**2 / total - mean**2) * steps.cells / (steps.cells - 1)
        own = own - weights @ absolute_error / total
        return np.stack([*parts, c2c, np.sqrt(np.maximum(own / mean**2, 1e-8))], axis=1)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = values[0] + (values[1] - values[0]) * _shape(steps.u, values[2] if bent else 0.0)
        z = (steps.step - mean) / values[4]
        return norm.logpdf(z) - np.log(values[4]), z

    unknowns = [
        Unknown("first", "1", "step at the beginning of the window, over the window", True),
        Unknown("last", "1", "step at its end"),
        Unknown("bend", "1", "bend of the exponential step")
        if bent
        else Unknown("curvature", "1", "ln(first / last), 1 / A"),
        Unknown("nonlinearity", "1", "NeuroSim's label; positive where the first pulses do most"),
        Unknown("c2c", "1", "standard deviation of a step from cycle to cycle, over the window", True),
        Unknown("d2d", "1", "standard deviation of the first step (S) from device to device, over its mean", True),
    ]
    estimator = Estimator(
        unknowns if regression.by_cell else unknowns[:-1], regression.unit_of, regression.units, estimate, predict
    )
    law = (
        "step(u) = first + (last - first) u"
        if not bent
        else "step(u) = first + (last - first) (e^(bend u) - 1) / (e^bend - 1)"
    )
    name = "pulse_up" if op == "set" else "pulse_down"
    fit = judge(estimator, name, f"{law}, u the share of the window that is behind", seed, kind=kind, criteria=criteria)
    return replace(fit, cells=steps.cells, pictures=(_picture(fit, steps, bent),), notes=regression.notes)


def _curvature(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(first, 1e-12) / np.maximum(last, 1e-3 * np.abs(first) + 1e-15))


def _lowest(values: np.ndarray) -> np.ndarray:
    """The place of each row's least value, between columns: the lowest point of the parabola through three."""
    k = np.clip(np.argmin(values, axis=1), 1, values.shape[1] - 2)
    row = np.arange(len(values))
    before, at, after = (values[row, k + i] for i in (-1, 0, 1))
    curve = before - 2 * at + after
    return k + np.clip(np.where(curve > 0, (before - after) / (2 * np.where(curve > 0, curve, 1.0)), 0.0), -1, 1)


def _between(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Each row's value at a place between columns."""
    k = np.clip(place.astype(int), 0, values.shape[1] - 2)
    row, f = np.arange(len(values)), place - k
    return (1 - f) * values[row, k] + f * values[row, k + 1]


def _labels(first: np.ndarray, last: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """The label of each course, whose pulses are the integral of 1 / step."""
    u = np.linspace(0, 1, 201)
    shape = np.stack([_shape(u, one) for one in bend])
    step = np.maximum(first[:, None] + (last - first)[:, None] * shape, 1e-3 * np.abs(first)[:, None] + 1e-15)
    pulses = np.cumsum((1 / step[:, 1:] + 1 / step[:, :-1]) / 2, axis=1)
    away = u[1:] - pulses / pulses[:, -1:]
    return LABEL * away[np.arange(len(away)), np.abs(away).argmax(axis=1)]


def _picture(fit: LawFit, steps: Steps, bent: bool) -> Picture:
    u = np.linspace(0, 1, 60)
    bins = np.clip((steps.u * 20).astype(int), 0, 19)
    counts = np.bincount(bins, minlength=20)
    shown = counts >= 5
    centre, mean = (np.bincount(bins, values, 20)[shown] / counts[shown] for values in (steps.u, steps.step))
    first, last = fit.values[:2]
    line = first + (last - first) * _shape(u, fit.values[2] if bent else 0.0)
    return Picture(
        "Step of a pulse", "state, share of the window", "step, share of the window", {"mean": (centre, mean)},
        {"fit, ± one standard deviation": (u, line, line - fit["c2c"], line + fit["c2c"])},
    )  # fmt: skip
