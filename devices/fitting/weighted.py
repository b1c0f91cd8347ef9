"""What estimators are made of: sums, quantiles and likelihoods for many sets of weights of the cells at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import gammaln, stdtr
from scipy.stats import beta, norm

from pim.devices.fitting.estimate import CONFIDENCE, NotMeasured, Weights


def group_sums(
    values: Float[np.ndarray, "data"], group: Int[np.ndarray, "data"], groups: int, cell_of: np.ndarray, cells: int
) -> csr_array:
    """The matrix [cells, groups] by which weights [draws, cells] are multiplied for the weighted sums of each group."""
    return csr_array((values, (cell_of, group)), shape=(cells, groups))


@dataclass(frozen=True)
class GroupQuantiles:
    """Weighted quantiles of groups of data, each datum standing in the middle of its weight.

    >>> quantiles = group_quantiles(values, group, groups, cell_of)
    >>> quantiles(weights, (0.25, 0.5, 0.75))
    """

    values: Sequence[Float[np.ndarray, "members"]]
    """Of each group, in ascending order."""
    cell_of: Sequence[Int[np.ndarray, "members"]]

    def __call__(self, weights: Weights, shares: Sequence[float]) -> Float[np.ndarray, "draws groups shares"]:
        """The quantiles at these shares, for each set of weights; NaN of a group without data."""
        found = np.full((len(weights), len(self.values), len(shares)), np.nan)
        row = np.arange(len(weights))
        for g, (values, cell_of) in enumerate(zip(self.values, self.cell_of, strict=True)):
            if not len(values):
                continue
            w = weights[:, cell_of]
            middle = np.cumsum(w, axis=1)
            total = np.maximum(middle[:, -1:], 1e-300)
            middle -= w / 2
            middle /= total
            for j, share in enumerate(shares):
                after = np.clip((middle < share).sum(axis=1), min(1, len(values) - 1), len(values) - 1)
                before = np.maximum(after - 1, 0)
                step = middle[row, after] - middle[row, before]
                f = np.clip((share - middle[row, before]) / np.where(step > 0, step, 1.0), 0.0, 1.0)
                found[:, g, j] = (1 - f) * values[before] + f * values[after]
        return found


def group_quantiles(
    values: Float[np.ndarray, "data"], group: Int[np.ndarray, "data"], groups: int, cell_of: np.ndarray
) -> GroupQuantiles:
    """The data of each group in ascending order, ready for their weighted quantiles."""
    order = np.lexsort((values, group))
    ends = np.cumsum(np.bincount(group, minlength=groups))[:-1]
    return GroupQuantiles(np.split(values[order], ends), np.split(cell_of[order], ends))


QUARTILES = (0.25, 0.5, 0.75)
QUARTILE = float(norm.ppf(0.75))


def robust_spread(quartiles: Float[np.ndarray, "*groups 3"]) -> Float[np.ndarray, "*groups"]:
    """Standard deviation of the normal distribution with these quartiles."""
    return (quartiles[..., 2] - quartiles[..., 0]) / (2 * QUARTILE)


def least_squares(design: Float[np.ndarray, "points terms"], weight: Float[np.ndarray, "points"]) -> np.ndarray:
    """The matrix [terms, points] that takes values to the coefficients of a weighted fit."""
    root = np.sqrt(weight)[:, None]
    return np.linalg.pinv(design * root) * root.T


LEAST_PEAK = 0.01
"""Information on the least certain parameter, of order 1, below which a likelihood has no peak."""
LONGEST_STEP = 30.0


def maximum_likelihood(
    log_likelihood: Callable[[np.ndarray], np.ndarray], start: Sequence[float], peaked: bool = False
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Parameters of the largest likelihood, and those of any weights of the cells by one Newton step from there.

    `log_likelihood(parameters)` gives one number a cell. Parameters must be of order 1 (logarithms, ratios): gradients
    are differences. One step is right to the second order of the weights' deviations (R. Davidson and J. G. MacKinnon,
    Int. Econ. Rev. 40, 487-508, 1999). Parameters that make numbers overflow are the unlikeliest.

    Raises NotMeasured where the likelihood must be `peaked` and has no peak.
    """
    with np.errstate(all="ignore"):
        return _maximum_likelihood(log_likelihood, start, peaked)


def _maximum_likelihood(
    log_likelihood: Callable[[np.ndarray], np.ndarray], start: Sequence[float], peaked: bool
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    size = len(start)
    total = lambda theta: -float(np.nan_to_num(log_likelihood(theta).sum(), nan=-1e12, neginf=-1e12))
    found = minimize(
        total,
        np.asarray(start, float),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-8, "maxiter": 400 * size},
    )
    theta = np.asarray(found.x, float)
    step = 1e-3 * np.eye(size)
    here = log_likelihood(theta)
    at: dict[tuple[int, int], np.ndarray] = {}
    for i in range(size):
        for sign in (1, -1):
            at[i, sign] = log_likelihood(theta + sign * step[i])
    gradient = np.stack([(at[i, 1] - at[i, -1]) / 2e-3 for i in range(size)], axis=1)
    hessian = np.zeros((len(gradient), size, size))
    for i in range(size):
        hessian[:, i, i] = (at[i, 1] - 2 * here + at[i, -1]) / 1e-6
        for j in range(i):
            both = log_likelihood(theta + step[i] + step[j]) + log_likelihood(theta - step[i] - step[j])
            sides = at[i, 1] + at[i, -1] + at[j, 1] + at[j, -1]
            hessian[:, i, j] = hessian[:, j, i] = (both + 2 * here - sides) / 2e-6

    if peaked and not (np.isfinite(hessian).all() and np.linalg.eigvalsh(-hessian.sum(axis=0)).min() > LEAST_PEAK):
        raise NotMeasured("the likelihood has no peak: other parameters would say the same of these data")

    def estimate(weights: np.ndarray) -> np.ndarray:
        curvature = np.einsum("dc,cij->dij", weights, hessian)
        slope = weights @ gradient
        # where the likelihood is flat (a tail index at its bound) there is no step
        step = (np.linalg.pinv(curvature, hermitian=True) @ slope[..., None])[..., 0]
        return theta - np.clip(step, -LONGEST_STEP, LONGEST_STEP)

    return theta, estimate


def normal_scores(probability: np.ndarray) -> np.ndarray:
    """The standard normal numbers of these probabilities."""
    return norm.ppf(np.clip(probability, 1e-15, 1 - 1e-15))


def student_logpdf(x: Float[np.ndarray, "data"], nu: float | Float[np.ndarray, "data"]) -> Float[np.ndarray, "data"]:
    """Log density of Student's distribution with `nu` degrees of freedom, four times as fast as SciPy's."""
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * nu)
    return constant - (nu + 1) / 2 * np.log1p(x**2 / nu)


def student_fit(
    values: Float[np.ndarray, "data"],
    cell_of: Int[np.ndarray, "data"],
    cells: int,
    edges: Float[np.ndarray, "groups 2"] | None = None,
    group: Int[np.ndarray, "data"] | None = None,
) -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
    """Tail index of centred values, by maximum likelihood over the index and a scale; and that of any weights.

    Values that cannot lie beyond some `edges`, by their `group`, are taken as Student's cut off there: else what the
    edges cut off would pass for light tails. The index is looked for up to 200, which is as good as normal.
    """

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        nu, scale = np.exp(np.clip(theta[0], np.log(0.3), np.log(200))), np.exp(theta[1])
        found = student_logpdf(values / scale, nu) - theta[1]
        if edges is not None:
            found = found - np.log(np.maximum(np.diff(stdtr(nu, edges / scale), axis=1)[:, 0], 1e-300))[group]
        return np.bincount(cell_of, found, minlength=cells)

    spread = np.subtract(*np.quantile(values, (0.75, 0.25))) / 1.6
    theta, estimate = maximum_likelihood(log_likelihood, (np.log(4.0), np.log(max(spread, 1e-12))))
    return float(np.exp(theta[0])), lambda weights: np.exp(np.clip(estimate(weights)[:, 0], np.log(0.3), np.log(200)))


def proportion(count: int, total: int) -> tuple[float, float, float]:
    """A share with its 95 % interval of C. J. Clopper and E. S. Pearson (Biometrika 26, 404-413, 1934).

    >>> proportion(0, 100)
    (0.0, 0.0, 0.036216693...)
    """
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return count / total, low, high
