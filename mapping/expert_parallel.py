"""Experts spread over devices, each whole on one of them: how much the busiest has to do.

Tokens choose their experts by themselves, so that some devices get more than others, and the step waits for the
busiest. The number that a device gets of independent tokens has the mean and the variance of draws without replacement,
as each token chooses different experts; a binomial of the same mean and variance stands for its law, exactly so where
a device has one expert. Of four tokens and more it is within 2 % of drawn ones, of one or two within 5 %.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import betainc

from pim.llm_workloads.operators import Count
from pim.mapping.errors import MappingError

CUT, SPREAD = "cut", "spread"
PLACED = (CUT, SPREAD)
"""Every expert over all devices of a name, or each whole on one of them."""
WIDE = 10.0
"""Standard deviations beyond which a number of tokens does not occur."""


def busiest(
    tokens: Count, experts: int, chosen: int, devices: int, routing: Sequence[float] = ()
) -> tuple[Count, Count]:
    """Experts that the busiest device is asked for, and tokens that it gets for them, both expected.

    Args:
        tokens: that choose; may be an array.
        experts: there are, dealt out to the devices in order.
        chosen: by each token.
        devices: at most as many as experts.
        routing: how often each expert was chosen in a trace; equally often by default.

    >>> busiest(1, experts=8, chosen=2, devices=8)
    (1.0, 1.0)
    >>> busiest(64, experts=8, chosen=2, devices=8)[1]  # the mean is 16
    21.0...
    """
    sizes, shares = dealt(experts, devices, routing)
    each = np.asarray(tokens, np.float64)
    known, where = np.unique(each, return_inverse=True)
    found = np.array([_busiest(float(n), experts, chosen, sizes, shares) for n in known])
    asked, got = (found[where.reshape(-1), i].reshape(each.shape) for i in (0, 1))
    return (float(asked), float(got)) if each.ndim == 0 else (asked, got)


def dealt(experts: int, devices: int, routing: Sequence[float] = ()) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Experts of each device, and the share of all choices that fall on them.

    Raises MappingError for a trace of other experts, or without a choice.
    """
    if len(routing) not in (0, experts):
        raise MappingError(f"routing has {len(routing)} counts, but the model has {experts} experts: give one for each")
    counts = np.asarray(routing or [1.0] * experts, np.float64)
    if (counts < 0).any() or counts.sum() <= 0:
        raise MappingError("routing: give how often each expert was chosen, 0 or more, and some above 0")
    parts = np.array_split(counts / counts.sum(), devices)
    return tuple(len(part) for part in parts), tuple(float(part.sum()) for part in parts)


@lru_cache(4096)
def _busiest(
    tokens: float, experts: int, chosen: int, sizes: tuple[int, ...], shares: tuple[float, ...]
) -> tuple[float, float]:
    size, share = np.array(sizes, np.float64), np.array(shares)
    others = max(experts - 1, 1)
    got = _expected_maximum(tokens * chosen * share, (1 - share) * (experts - chosen) / others, tokens * chosen)
    # of a device's experts each is asked for with the same chance, that of a mean one of its
    asked = 1 - np.clip(1 - share * chosen / size, 0.0, 1.0) ** tokens
    active = _expected_maximum(size * asked, (1 - asked) * (experts - size) / others, chosen)
    return float(min(active, size.max())), float(min(got, tokens * min(chosen, size.max())))


def _expected_maximum(mean: Float[np.ndarray, " n"], spread: Float[np.ndarray, " n"], total: float) -> float:
    """The expected largest of n numbers of given means, whose variances are `spread` times these.

    They add up to no less than `total`. Numbers of a constant sum are further apart than independent ones, and so is
    the largest from the mean: by sqrt(n / (n - 1)), if all are alike and normal.
    """
    count, width = len(mean), WIDE * np.sqrt(mean * spread)
    sure = np.ceil(total / count - 1e-9)
    least, most = max(np.floor((mean - width).max()), 0.0), np.ceil((mean + width + WIDE).max())
    at = np.arange(least, most)
    chance = np.clip(1 - spread, 1e-9, 1.0)[None]
    draws = mean[None] / chance
    below = betainc(np.maximum(draws - at[:, None], 1e-12), at[:, None] + 1, 1 - chance)
    above = 1 - np.where(at[:, None] >= draws, 1.0, below).prod(axis=1)
    apart = least + above.sum()
    further = mean.max() + np.sqrt(count / max(count - 1, 1)) * (apart - mean.max())
    return float(max(max(sure, least) + above[at >= sure].sum(), further))
