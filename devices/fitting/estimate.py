"""From weighted cells to parameters with bands, residuals and held-out likelihood, the same way for every law.

A law gives one function, `estimate`: weights of the cells -> parameters. With all weights 1 it is the fit; with weights
from a flat Dirichlet distribution it is a replicate of the Bayesian bootstrap (D. B. Rubin, Ann. Statist. 9, 130-134,
1981); with zeros it leaves cells out. The weights belong to cells, not to readings: readings of a cell hang together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student

REPLICATES = 200
FOLDS = 5
CONFIDENCE = 0.95
WIDEST_FACTOR = 10.0
"""A band in the logarithm that would reach further than this times the value is none: the value may be zero."""
AT_ONCE = 4_000_000  # numbers in a block of replicates: memory stays small with many readings

Weights = Float[np.ndarray, "draws cells"]
Values = Float[np.ndarray, "draws parameters"]


class NotMeasured(Exception):
    """The table does not hold what a fit needs; the message says what."""


@dataclass(frozen=True)
class Unknown:
    """A parameter to be found."""

    name: str
    unit: str
    doc: str
    positive: bool = False
    """Bands of positive parameters are symmetric in their logarithm."""


@dataclass(frozen=True)
class Estimator:
    """How a law's parameters follow from weighted cells, and what the law then says of each datum.

    `predict` gives, for one set of parameters, the log-likelihood of every datum and its residual as a normal score:
    what a standard normal number would be if the law were true. A datum without a score has NaN.
    """

    unknowns: Sequence[Unknown]
    cell_of: Int[np.ndarray, "data"]
    cells: int
    estimate: Callable[[np.ndarray], np.ndarray]
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Picture:
    """What a figure of a fit shows: points as measured, lines as fitted, with the band of a line where it has one."""

    title: str
    x: str
    y: str
    points: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    lines: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class LawFit:
    """One fitted law: parameters with covariance and 95 % bands, residuals, and what it says of cells it has not seen.

    >>> fit["write_error"]["sigma_0"]
    >>> fit["write_error"].band("sigma_0")
    """

    name: str
    law: str
    """The law in words, with its equation."""
    unknowns: Sequence[Unknown]
    values: Float[np.ndarray, "parameters"]
    covariance: Float[np.ndarray, "parameters parameters"]
    low: Float[np.ndarray, "parameters"]
    high: Float[np.ndarray, "parameters"]
    scores: Float[np.ndarray, "scores"]
    """Residuals as normal scores, sorted: against normal quantiles they are a QQ plot."""
    held_out: float | None
    """Mean log-likelihood (nat) of a datum of cells that were left out, over five folds; None below ten cells."""
    cells: int
    data: int
    kind: str = ""
    """Which of the possible laws it is, in a word."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Figures of the law that were not fitted, SI units."""
    criteria: Mapping[str, float] = field(default_factory=dict)
    """What the choice between laws was made by (the least wins): BIC or AIC of each."""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()

    def __getitem__(self, name: str) -> float:
        return float(self.values[self._index(name)])

    def __contains__(self, name: str) -> bool:
        return any(unknown.name == name for unknown in self.unknowns)

    def band(self, name: str) -> tuple[float, float]:
        """The 95 % band of a parameter."""
        i = self._index(name)
        return float(self.low[i]), float(self.high[i])

    def group(self, stem: str) -> Float[np.ndarray, "members"]:
        """The values of the parameters `stem[0]`, `stem[1]`, ..."""
        return np.array([v for u, v in zip(self.unknowns, self.values, strict=True) if u.name.startswith(f"{stem}[")])

    def _index(self, name: str) -> int:
        names = [unknown.name for unknown in self.unknowns]
        if name not in names:
            raise KeyError(f"{self.name} has no parameter {name!r}; it has {', '.join(names)}")
        return names.index(name)


def judge(estimator: Estimator, name: str, law: str, seed: int, **rest) -> LawFit:
    """The fit of an estimator: value, covariance and band of each parameter, scores and held-out likelihood.

    A band is the value and Student's t times the standard deviation of the bootstrap's replicates, for positive
    parameters in their logarithm: on tens of cells it holds 95 % better than the replicates' percentiles, which
    repeat the estimator's bias. A positive parameter that is hardly told from zero has a band on the plain scale, which
    begins at zero.

    Raises NotMeasured where a parameter comes out as no number.
    """
    draw = np.random.default_rng(seed)
    cells = estimator.cells
    values = estimator.estimate(np.ones((1, cells)))[0]
    undetermined = [u.name for u, value in zip(estimator.unknowns, values, strict=True) if not np.isfinite(value)]
    if undetermined:
        raise NotMeasured(f"the data do not determine {', '.join(undetermined)}")
    positive = np.array([unknown.positive for unknown in estimator.unknowns], bool)
    replicates = _in_blocks(estimator, cells * draw.dirichlet(np.ones(cells), REPLICATES))
    # Dirichlet weights give the mean of n cells a variance that is (n - 1) / (n + 1) of what it should be.
    widen = np.sqrt((cells + 1) / max(cells - 1, 1))
    times = widen * student.ppf(0.5 + CONFIDENCE / 2, max(cells - 1, 1))
    logs = np.log(np.maximum(np.where(positive, replicates, 1.0), 1e-300))
    factor = np.exp(np.minimum(times * logs.std(axis=0, ddof=1), 100.0))
    positive &= factor < WIDEST_FACTOR
    reach = times * replicates.std(axis=0, ddof=1)
    low, high = np.where(positive, values / factor, values - reach), np.where(positive, values * factor, values + reach)
    low = np.where([unknown.positive for unknown in estimator.unknowns], np.maximum(low, 0.0), low)
    covariance = widen**2 * np.atleast_2d(np.cov(replicates, rowvar=False))
    scores = estimator.predict(values)[1]
    return LawFit(
        name, law, tuple(estimator.unknowns), values, covariance, low, high,
        np.sort(scores[np.isfinite(scores)]), _held_out(estimator, draw), cells, len(estimator.cell_of), **rest,
    )  # fmt: skip


def _in_blocks(estimator: Estimator, weights: Weights) -> Values:
    size = max(1, AT_ONCE // max(len(estimator.cell_of), estimator.cells))
    blocks = np.array_split(weights, max(1, -(-len(weights) // size)))
    return np.concatenate([estimator.estimate(block) for block in blocks])


def _held_out(estimator: Estimator, draw: np.random.Generator) -> float | None:
    if estimator.cells < 2 * FOLDS:
        return None
    fold = draw.permutation(estimator.cells) % FOLDS
    values = _in_blocks(estimator, (fold != np.arange(FOLDS)[:, None]).astype(float))
    total = 0.0
    for k in range(FOLDS):
        total += float(estimator.predict(values[k])[0][fold[estimator.cell_of] == k].sum())
    return total / len(estimator.cell_of)
