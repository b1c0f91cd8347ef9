"""What the scores of a run say: perplexity, paired differences and their intervals.

Everything is paired: all chips and all points of a sweep score the same tokens, so that the digital model's loss on a
document is taken off before anything is averaged. Sums over documents are exact counts of tokens, never means of means.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def perplexity(
    nll: Float[np.ndarray, "*lead documents"], tokens: Int[np.ndarray, " documents"]
) -> Float[np.ndarray, "*lead"]:
    """exp of the mean loss a token; `nll` are sums of nats over the scored tokens of each document."""
    return np.asarray(np.exp(nll.sum(axis=-1) / tokens.sum()))


def paired_difference(
    nll: Float[np.ndarray, "chips documents"],
    digital: Float[np.ndarray, " documents"],
    tokens: Int[np.ndarray, " documents"],
    seed: int = 0,
) -> Interval:
    """Loss a token beyond the digital model's, in nats, with a 95 % bootstrap interval over documents and chips.

    Documents and chips are resampled independently of each other, since both are samples of a larger population
    (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007).
    """
    extra = nll - digital[None]
    chips, documents = extra.shape
    generator = np.random.default_rng(seed)
    by_document = generator.multinomial(documents, np.full(documents, 1 / documents), RESAMPLES)
    by_chip = generator.multinomial(chips, np.full(chips, 1 / chips), RESAMPLES)
    sums = np.einsum("rc,cd,rd->r", by_chip / chips, extra, by_document)
    draws = sums / (by_document @ tokens)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(extra.sum() / chips / tokens.sum()), float(low), float(high))


def chip_yield(
    nll: Float[np.ndarray, "chips documents"],
    digital: Float[np.ndarray, " documents"],
    tokens: Int[np.ndarray, " documents"],
    loss: float,
) -> Interval:
    """Share of chips that lose at most `loss` nats a token, and its 95 % interval.

    The interval is that of a share of so few: E. B. Wilson, J. Am. Stat. Assoc. 22(158), 1927.

    >>> chip_yield(nll, digital, tokens, 0.02).mean
    """
    each = (nll - digital[None]).sum(axis=1) / tokens.sum()
    found = binomtest(int((each <= loss).sum()), len(each))
    low, high = found.proportion_ci(method="wilson")
    return Interval(float(found.statistic), float(low), float(high))
