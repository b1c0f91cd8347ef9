"""How the values of matrices and their inputs are distributed: published figures of large models, and one's own.

A distribution is a body (normal, or Student-t of `nu` degrees of freedom) of unit root mean square, some channels of
which stand out by a ratio and in which a share of the values is zero. Channels are inputs of a matrix; that some of
them are larger than the others for every token is what makes activations of large models hard to convert.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.optimize import brentq
from scipy.special import gammaln

from pim.llm_workloads.errors import WorkloadError

KINDS = ("weights", "activations")
STANDS_OUT = 5.0
"""Root mean square of a channel over the median of all from which it counts as an outlier where it is measured."""
NORMAL = float(np.sqrt(2.0 / np.pi))
"""Mean magnitude over root mean square of a normal number."""
HEAVIEST, LIGHTEST = 2.01, 100.0
"""Degrees of freedom between which a Student-t is told from others; above, it is called normal."""


@dataclass(frozen=True)
class Figure:
    """One figure of a distribution.

    Attributes:
        value: what it is; without unit.
        source: short name of the source; "measured" for one's own.
        grade: stated (by the source), derived (from what it states), recalled (from memory) or measured.
        note: what the source says, or how it was derived.
    """

    value: float | bool
    source: str
    grade: str
    note: str = ""


@dataclass(frozen=True)
class Statistics:
    """How the values of a matrix, or of its inputs, are distributed.

    Attributes:
        name: what it is called.
        nu: degrees of freedom of the Student-t body; None: normal.
        outlier_share: share of the channels that stand out.
        outlier_ratio: their root mean square over that of the others.
        zero_share: share of the values that are zero.
        one_sided: whether no value is below zero.
        summary: of what, in words.
        figures: where each value comes from.
        samples: values to draw from in place of all that, [n, channels]; None: the distribution above.

    >>> statistics("activations", "hidden").outlier_ratio
    20.0
    """

    name: str
    nu: float | None = None
    outlier_share: float = 0.0
    outlier_ratio: float = 1.0
    zero_share: float = 0.0
    one_sided: bool = False
    summary: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    samples: Float[np.ndarray, "n channels"] | None = None

    def outliers(self, channels: int) -> int:
        """How many of so many channels stand out."""
        return round(self.outlier_share * channels)

    def __post_init__(self):
        if self.nu is not None and not self.nu > 2:
            raise WorkloadError(f"{self.name}: nu = {self.nu:g} leaves no root mean square: give more than 2")
        for name in ("outlier_share", "zero_share"):
            if not 0 <= getattr(self, name) < 1:
                raise WorkloadError(f"{self.name}: {name} = {getattr(self, name):g} must be in [0, 1)")


def statistics(kind: str, name: str) -> Statistics:
    """Published statistics by name; see `known_statistics`.

    Args:
        kind: "weights" or "activations".
        name: of a distribution.

    Raises WorkloadError for a kind or name that is not known.
    """
    known = known_statistics()
    if kind not in known:
        raise WorkloadError(f"there are no statistics of {kind!r}: take one of {', '.join(known)}")
    if name not in known[kind]:
        raise WorkloadError(f"there are no {kind} called {name!r}: take one of {', '.join(known[kind])}")
    return known[kind][name]


@cache
def known_statistics() -> Mapping[str, Mapping[str, Statistics]]:
    """All published statistics, by kind and name."""
    table = _table()
    return {kind: {name: _parsed(name, row) for name, row in table[kind].items()} for kind in KINDS}


@cache
def statistics_sources() -> Mapping[str, Mapping[str, str]]:
    """Citation and address of each source of the published statistics."""
    return _table()["sources"]


def _table() -> dict[str, Any]:
    return tomllib.loads(files("pim.llm_workloads.data").joinpath("statistics.toml").read_text(encoding="utf-8"))


def _parsed(name: str, row: Mapping[str, Any]) -> Statistics:
    figures = {key: Figure(**entry) for key, entry in row.items() if key != "summary"}
    values = {key: entry["value"] for key, entry in row.items() if key != "summary"}
    return Statistics(name, summary=row["summary"], figures=figures, **values)


def measured(values: Float[ArrayLike, "n channels"], name: str = "measured", *, keep: bool = False) -> Statistics:
    """The statistics of values at hand: of activations [n, channels], or of weights transposed ([outputs, inputs]).

    `nu` is that of the Student-t with the same mean magnitude over root mean square, within channels that do not stand
    out, each on its own scale; zeros, where there are many, apart.

    Args:
        values: finite numbers, not all zero.
        name: what to call them.
        keep: draw from the values themselves later, not from the distribution.

    Raises WorkloadError for what is no such matrix.

    >>> measured(x).outlier_share
    0.0009765625
    """
    values = np.asarray(values, np.float32)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all() or not values.any():
        raise WorkloadError(f"{name}: statistics need a matrix of finite numbers that are not all zero")
    rms = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=0))
    alive = rms > 0
    median = float(np.median(rms[alive]))
    out = rms > STANDS_OUT * median
    body = values[:, alive & ~out] / rms[alive & ~out]
    zeros = float((values == 0).mean())
    if zeros > 0.01:  # a body of what is not zero, else its zeros would pass for a sharp peak
        body = body[body != 0]
    ratio = float(np.abs(body).mean() / np.sqrt(np.mean(np.square(body, dtype=np.float64))))
    found = {
        "nu": _student(ratio),
        "outlier_share": float(out.mean()),
        "outlier_ratio": float(np.sqrt(np.mean(rms[out] ** 2)) / median) if out.any() else 1.0,
        "zero_share": zeros,
    }
    note = f"of {values.shape[0]:,} x {values.shape[1]:,} values"
    figures = {key: Figure(value, "measured", "measured", note) for key, value in found.items() if value is not None}
    one_sided = bool(values.min() >= 0)
    return Statistics(name, **found, one_sided=one_sided, figures=figures, samples=values if keep else None)


def _student(ratio: float) -> float | None:
    """Degrees of freedom of the Student-t with this mean magnitude over root mean square; None: normal or lighter."""

    def off(nu: float) -> float:
        gammas = gammaln((nu + 1) / 2) - gammaln(nu / 2)
        return 2 * np.sqrt((nu - 2) / np.pi) * np.exp(gammas) / (nu - 1) - ratio

    if off(LIGHTEST) <= 0:
        return None
    return HEAVIEST if off(HEAVIEST) >= 0 else float(np.asarray(brentq(off, HEAVIEST, LIGHTEST)))
