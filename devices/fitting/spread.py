"""How the spread of deviations depends on the state: quartiles in bins, and a polynomial through them.

The quartiles do not move with a few failed writes, where a standard deviation would. The polynomial goes through the
bins' spreads by weighted least squares, its degree by BIC.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pim.devices.fitting.estimate import NotMeasured
from pim.devices.fitting.history import levels_of
from pim.devices.fitting.weighted import QUARTILES, GroupQuantiles, group_quantiles, least_squares, robust_spread

QUARTILE_VARIANCE = 1.36
"""Variance of the spread from the quartiles of n normal numbers, times n over the variance: its limit."""
MOST_TERMS = 5


@dataclass(frozen=True)
class Spread:
    """Deviations by state u, and the polynomial through their spreads."""

    deviation: Float[np.ndarray, "data"]
    u: Float[np.ndarray, "data"]
    cell_of: Int[np.ndarray, "data"]
    level: Int[np.ndarray, "data"]
    centres: Float[np.ndarray, "levels"]
    sorted_levels: GroupQuantiles
    to_coefficients: Float[np.ndarray, "terms levels"]

    @property
    def terms(self) -> int:
        """Number of coefficients."""
        return len(self.to_coefficients)

    def estimate(self, weights: np.ndarray) -> np.ndarray:
        """For each set of weights the coefficients of the spread, then the median deviation, mean over the data."""
        quartiles = self.quartiles(weights)
        share = np.bincount(self.level) / len(self.level)
        bias = quartiles[:, :, 1] @ share
        return np.concatenate([robust_spread(quartiles) @ self.to_coefficients.T, bias[:, None]], axis=1)

    def quartiles(self, weights: np.ndarray) -> np.ndarray:
        """Quartiles of each level's deviations, for each set of weights."""
        return self.sorted_levels(weights, QUARTILES)


def spread_at(coefficients: Float[np.ndarray, "terms"], u: Float[np.ndarray, "data"]) -> Float[np.ndarray, "data"]:
    """The spread at `u`, kept above a thousandth of its mean: a polynomial may dip below zero."""
    value = np.polynomial.polynomial.polyval(u, coefficients)
    return np.maximum(value, 1e-3 * np.abs(value).mean() + 1e-300)


def spread_of(
    deviation: Float[np.ndarray, "data"],
    u: Float[np.ndarray, "data"],
    cell_of: Int[np.ndarray, "data"],
    degree: int | None = None,
) -> Spread:
    """The spread of deviations against the state; its degree is chosen by BIC where none is given.

    Raises NotMeasured where half of a state's data do not deviate from one another at all.
    """
    level, centres = levels_of(u)
    counts = np.bincount(level)
    cells = int(cell_of.max()) + 1
    sorted_levels = group_quantiles(deviation, level, len(centres), cell_of)
    spread = robust_spread(sorted_levels(np.ones((1, cells)), QUARTILES)[0])
    if not (spread > 0).all():
        raise NotMeasured("at least half of the data of a state are one and the same")
    most = min(MOST_TERMS, len(centres))
    choices = []
    for terms in range(1, most + 1) if degree is None else [min(degree + 1, most)]:
        design = np.vander(centres, terms, increasing=True)
        model = np.full(len(centres), np.average(spread, weights=counts))
        for _ in range(3):  # weights follow the fit, not the scattered spreads: a small one is no more certain
            to_coefficients = least_squares(design, counts / model**2)
            model = np.maximum(design @ (to_coefficients @ spread), 0.05 * spread.mean() + 1e-300)
        misfit = counts @ ((spread - design @ (to_coefficients @ spread)) / model) ** 2 / QUARTILE_VARIANCE
        bic = misfit + 2 * np.log(model).sum() + terms * np.log(len(deviation))
        choices.append((float(bic), to_coefficients))
    to_coefficients = min(choices, key=lambda choice: choice[0])[1]
    return Spread(deviation, u, cell_of, level, centres, sorted_levels, to_coefficients)
