"""How the shifts of a cell at two times hang together: the correlation of its path.

A cell's latent state at a time is the normal score of its shift's rank among all cells at that time, as in
`pim.devices.cells.path`, whose `slow_share` and `slow_decades` are found here.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata

from pim.devices.fitting.estimate import Unknown
from pim.devices.fitting.shifts import LEAST_GROUP, Shifts
from pim.devices.fitting.weighted import least_squares

LEAST_PAIRS = 2 * LEAST_GROUP
"""Writes that must have been read at both of two times."""


class RelaxationPath:
    """The correlation of latent states at two times, `slow_share` exp(-decades apart / `slow_decades`).

    >>> path = RelaxationPath(shifts, standard)
    >>> path.unknowns, path.estimate(weights)
    """

    def __init__(self, shifts: Shifts, standard: Float[np.ndarray, "data"]) -> None:
        writes, times = int(shifts.write.max()) + 1, len(shifts.decades)
        self.latent, self.there = np.zeros((writes, times)), np.zeros((writes, times))
        for k, at in enumerate(shifts.each_time()):
            self.latent[shifts.write[at], k] = norm.ppf((rankdata(standard[at]) - 0.5) / len(at))
            self.there[shifts.write[at], k] = 1
        self.unit_of = np.empty(writes, int)
        self.unit_of[shifts.write] = shifts.units.of
        count = self.there.T @ self.there
        self.pairs = np.nonzero(np.triu(count >= LEAST_PAIRS, 1))
        self.unknowns: list[Unknown] = []
        if not len(self.pairs[0]):
            return
        self.unknowns.append(Unknown("slow_share", "1", "share of the slow part in the variance of the path"))
        apart = shifts.decades[self.pairs[1]] - shifts.decades[self.pairs[0]]
        both = len(set(np.round(apart, 3))) > 1
        if both:
            self.unknowns.append(
                Unknown("slow_decades", "1", "decades over which the slow part forgets", positive=True)
            )
        design = np.stack([np.ones(len(apart)), -apart][: 1 + both], axis=1)
        r = self.correlations(np.ones((1, shifts.units.count)))[0]
        # ln r of n pairs has the variance (1 - r^2)^2 / (n r^2)
        self.to_line = least_squares(design, count[self.pairs] * r**2 / (1 - np.minimum(r, 0.99) ** 2) ** 2)

    def correlations(self, weights: Float[np.ndarray, "draws units"]) -> Float[np.ndarray, "draws pairs"]:
        """Correlation of each pair of times, kept in [0.01, 1]."""
        found = np.empty((len(weights), len(self.pairs[0])))
        for d, unit_weight in enumerate(weights):
            weighted = self.latent * unit_weight[self.unit_of, None]
            products = (weighted.T @ self.latent)[self.pairs]
            squares = (weighted * self.latent).T @ self.there
            found[d] = products / np.sqrt(np.maximum(squares[self.pairs] * squares.T[self.pairs], 1e-300))
        return np.clip(found, 0.01, 1.0)

    def estimate(self, weights: Float[np.ndarray, "draws units"]) -> np.ndarray:
        """The unknowns for each set of weights."""
        if not self.unknowns:
            return np.empty((len(weights), 0))
        line = np.log(self.correlations(weights)) @ self.to_line.T
        share = np.exp(np.minimum(line[:, :1], 0.0))
        return np.concatenate([share, 1 / np.maximum(line[:, 1:], 1e-3)], axis=1)
