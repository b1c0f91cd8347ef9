"""Random telegraph noise: cells whose readings jump between two levels, and how fast they do.

A cell counts where its readings fall into two groups four standard deviations apart (readings of a normal distribution,
cut in two, come to 2.6, those of a straight drift to 3.5), each with 5 % of them. The rates are those of a hidden
Markov model of two states by the Baum-Welch algorithm (L. R. Rabiner, Proc. IEEE 77, 257-286, 1989).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import compact
from pim.devices.fitting.series import even_series
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import proportion

LEAST_READINGS = 64
LEAST_CELLS = 10
MOST_READINGS = 4096
ROUNDS = 10
APART, HELD = 4.0, 0.05


@dataclass(frozen=True)
class TwoLevels:
    """Two levels of each series, the lower first."""

    mean: Float[np.ndarray, "series 2"]
    sigma: Float[np.ndarray, "series"]
    low: Float[np.ndarray, "series"]
    """Share of the readings in the lower level."""

    @property
    def clear(self) -> np.ndarray:
        """Whether there are two levels indeed."""
        apart = self.mean[:, 1] - self.mean[:, 0] > APART * self.sigma
        return apart & (self.low > HELD) & (self.low < 1 - HELD)


def two_groups(g: Float[np.ndarray, "series readings"]) -> TwoLevels:
    """The readings of each series cut in two, each next to its own mean."""
    cut = (g.min(axis=1) + g.max(axis=1)) / 2
    for _ in range(30):
        low = g <= cut[:, None]
        count = low.sum(axis=1)
        below = np.sum(g, axis=1, where=low) / np.maximum(count, 1)
        above = np.sum(g, axis=1, where=~low) / np.maximum(g.shape[1] - count, 1)
        cut = (below + above) / 2
    residual = np.where(low, g - below[:, None], g - above[:, None])
    return TwoLevels(np.stack([below, above], axis=1), residual.std(axis=1) + 1e-300, count / g.shape[1])


def switching(g: Float[np.ndarray, "series readings"], levels: TwoLevels) -> Float[np.ndarray, "series 2"]:
    """The chance of leaving the lower and the upper level from one reading to the next."""
    scaled = (g[:, :, None] - levels.mean[:, None]) / levels.sigma[:, None, None]
    likely = np.moveaxis(np.exp(-0.5 * (scaled**2 - (scaled**2).min(axis=2, keepdims=True))), 1, 0)
    move = np.full((len(g), 2, 2), 0.1) + 0.8 * np.eye(2)
    share = np.stack([levels.low, 1 - levels.low], axis=1)
    for _ in range(ROUNDS):
        forward, backward = np.empty_like(likely), np.ones_like(likely)
        state = share * likely[0]
        for i in range(len(likely)):
            state = state if i == 0 else (state[:, None] @ move)[:, 0] * likely[i]
            state = forward[i] = state / state.sum(axis=1, keepdims=True)
        for i in range(len(likely) - 2, -1, -1):
            ahead = (move @ (likely[i + 1] * backward[i + 1])[..., None])[..., 0]
            backward[i] = ahead / ahead.sum(axis=1, keepdims=True)
        pair = forward[:-1, :, :, None] * move * (likely * backward)[1:, :, None]
        moves = (pair / pair.sum(axis=(2, 3), keepdims=True)).sum(axis=0)
        move = moves / moves.sum(axis=2, keepdims=True)
    return np.stack([move[:, 0, 1], move[:, 1, 0]], axis=1)


def fit_telegraph(table: Measurements, seed: int = 0) -> LawFit:
    """How many cells show telegraph noise, how large its step is, and how fast it goes.

    Parameters: `share` of the cells (interval of Clopper and Pearson); of those that have it `step` (conductance lost
    in the lower level over that of the upper, mean), `filled` (share of the time in the lower level, mean),
    `rate_down` and `rate_up` (1/s, or a reading where there are no times; median). Only `share`
    where fewer than 5 cells have it.

    Raises:
        NotMeasured: fewer than 10 cells have 64 evenly spaced readings.
    """
    series = [one for one in even_series(table, LEAST_READINGS) if np.ptp(one.g) > 0]
    read = len({one.cell for one in series})
    if read < LEAST_CELLS:
        raise NotMeasured(f"{read} cells have {LEAST_READINGS} evenly spaced readings; {LEAST_CELLS} are needed")
    count = min(MOST_READINGS, *(len(one.g) for one in series))
    g = np.stack([one.g[:count] for one in series])
    levels = two_groups(g)
    clear = levels.clear
    cell_of, cells = compact(np.array([one.cell for one in series]))
    has = np.bincount(cell_of, clear, minlength=cells) > 0
    interval = np.array([one.interval for one in series])[clear]
    timed = bool(np.isfinite(interval).all())  # without times rates are those of a reading
    interval = interval if timed else np.ones(len(interval))
    unknowns = [Unknown("share", "1", "share of the cells with telegraph noise")]
    figures = np.empty((0, 4))
    if has.sum() >= 5:
        own = TwoLevels(levels.mean[clear], levels.sigma[clear], levels.low[clear])
        rates = -np.log1p(-np.clip(switching(g[clear], own), 1e-6, 0.999)) / interval[:, None]
        step = 1 - own.mean[:, 0] / own.mean[:, 1]
        figures = np.column_stack([step, own.low, np.log(rates[:, ::-1])])
        unknowns += [
            Unknown("step", "1", "conductance lost in the lower level, over that of the upper", True),
            Unknown("filled", "1", "share of the time in the lower level"),
            Unknown("rate_down", "1/s" if timed else "1", "rate of falling to the lower level, geometric mean", True),
            Unknown("rate_up", "1/s" if timed else "1", "rate of rising to the upper level, geometric mean", True),
        ]

    def estimate(weights: np.ndarray) -> np.ndarray:
        share = weights @ has / weights.sum(axis=1)
        w = weights[:, cell_of[clear]]
        mean = w @ figures / w.sum(axis=1, keepdims=True) if len(figures) else np.empty((len(weights), 0))
        return np.column_stack([share, mean[:, :2], np.exp(mean[:, 2:])])

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = np.clip(values[0], 1 / (2 * cells), 1 - 1 / (2 * cells))
        return np.where(has, np.log(share), np.log(1 - share)), np.full(cells, np.nan)

    estimator = Estimator(unknowns, np.arange(cells), cells, estimate, predict)
    fit = judge(
        estimator, "telegraph", "two levels in some of the cells, left at constant rates", seed, kind="telegraph"
    )
    _, low, high = proportion(int(has.sum()), cells)
    fit.low[0], fit.high[0] = low, high
    shown = np.flatnonzero(clear)[:1]
    picture = [
        Picture("A cell with telegraph noise", "reading", "conductance (µS)",
                points={"readings": (np.arange(min(count, 400)), g[i, :400] * 1e6)})
        for i in shown
    ]  # fmt: skip
    return replace(fit, pictures=tuple(picture))
