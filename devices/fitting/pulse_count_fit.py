"""Pulses until a write succeeds: negative binomial or lognormal, by AIC; writes that failed only say "more than"."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.stats import nbinom, norm

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.history import history
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import maximum_likelihood, normal_scores, proportion

Distribution = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _negative_binomial(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """P(pulses <= count): one pulse, and a negative binomial number more, of the given mean and shape."""
    mean, shape = values
    return nbinom.cdf(count - 1, shape, shape / (shape + np.maximum(mean - 1, 1e-9)))


def _lognormal(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """P(pulses <= count) where the logarithm of a count, taken from half a pulse before to half after, is normal."""
    median, sigma = values
    cut = norm.cdf((np.log(0.5) - np.log(median)) / sigma)
    return (norm.cdf((np.log(count + 0.5) - np.log(median)) / sigma) - cut) / (1 - cut)


LAWS: dict[str, tuple[Distribution, str, tuple[Unknown, Unknown]]] = {
    "negative_binomial": (
        _negative_binomial,
        "one pulse and a negative binomial number more",
        (
            Unknown("mean", "1", "mean number of pulses", positive=True),
            Unknown("shape", "1", "shape of the negative binomial: 1 is geometric", positive=True),
        ),
    ),
    "lognormal": (
        _lognormal,
        "lognormal number of pulses",
        (
            Unknown("median", "1", "median number of pulses", positive=True),
            Unknown("sigma_log", "1", "standard deviation of its logarithm", positive=True),
        ),
    ),
}


def fit_pulse_count(table: Measurements, seed: int = 0) -> LawFit:
    """How many pulses a write to a target takes.

    Raises:
        NotMeasured: fewer than 40 writes with pulses, or all of the same number.
    """
    writes, _ = history(table)
    pulsed = writes.pulses > 0
    count, success = writes.pulses[pulsed].astype(float), writes.success[pulsed]
    if pulsed.sum() < 40 or len(np.unique(count)) < 2:
        raise NotMeasured("fewer than 40 writes with a target have their pulses recorded, or all took the same number")
    units = units_of(writes.cell[pulsed], np.arange(pulsed.sum()))
    cell_of, cells = units.of, units.count

    def log_likelihood(law: Distribution, values: np.ndarray) -> np.ndarray:
        until, before = law(values, count), law(values, count - 1)
        share = np.where(success, until - np.where(count > 1, before, 0.0), 1 - until)
        return np.log(np.maximum(share, 1e-300))

    found = {}
    for kind, (law, _, _) in LAWS.items():
        by_cell = lambda theta, law=law: np.bincount(cell_of, log_likelihood(law, np.exp(theta)), minlength=cells)
        start = (np.log(count.mean()), 0.0) if kind == "negative_binomial" else (np.log(np.median(count)), -0.5)
        theta, estimate = maximum_likelihood(by_cell, start)
        found[kind] = float(2 * len(theta) - 2 * by_cell(theta).sum()), estimate
    kind = min(found, key=lambda kind: found[kind][0])
    law, words, unknowns = LAWS[kind]

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = (law(values, count) + np.where(count > 1, law(values, count - 1), 0.0)) / 2
        return log_likelihood(law, values), np.where(success, normal_scores(middle), np.nan)

    estimator = Estimator(unknowns, cell_of, cells, lambda weights: np.exp(found[kind][1](weights)), predict)
    criteria = {name: aic for name, (aic, _) in found.items()}
    share, low, high = proportion(int(success.sum()), len(success))
    constants = {"success": share, "success_low": low, "success_high": high, "mean_measured": float(count.mean())}
    fit = judge(estimator, "pulse_count", words, seed, kind=kind, criteria=criteria, constants=constants)
    n = np.arange(1, int(np.quantile(count, 0.99)) + 2)
    share_of = np.array([(count[success] == k).sum() for k in n]) / len(count)
    model = law(fit.values, n.astype(float)) - np.where(n > 1, law(fit.values, n - 1.0), 0.0)
    picture = Picture(
        "Pulses until success",
        "pulses",
        "share of writes",
        points={"measured": (n, share_of)},
        lines={"fit": (n, model)},
    )
    note = f"{share:.2%} of the writes succeeded ({low:.2%} to {high:.2%})"
    return replace(fit, cells=units.cells, pictures=(picture,), notes=(*units.notes, note))
