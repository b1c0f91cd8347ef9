"""Results: what a run found, with the protocol under which it was found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pim.costs.ledger import kind
from pim.costs.plan_cost import PlanCost
from pim.devices.device import Source
from pim.errors import StudyError
from pim.llm_workloads.text import ScoredText
from pim.mapping.plan import Plan
from pim.metrics import Interval, chip_yield, paired_difference, perplexity
from pim.scoring import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pim.model_snr import ModelSnr


@dataclass(frozen=True)
class Point:
    """One point of a sweep, or the only one of an evaluation.

    Attributes:
        changes: values of the swept fields, by path.
        perplexity: of each chip.
        difference: loss a token beyond the exact model's, in nats, with its 95 % interval over documents and chips.
        kl: mean divergence of the next-token distribution from the exact model's, in nats.
        agreement: share of tokens whose most likely next token is the exact model's.
        worst_chip: index of the chip with the highest perplexity.
        cost: energy, latency and area.
    """

    changes: Mapping[str, Any]
    perplexity: np.ndarray
    difference: Interval
    kl: float
    agreement: float
    worst_chip: int
    cost: PlanCost


@dataclass(frozen=True, repr=False)
class Result:
    """What an evaluation or a sweep found.

    Attributes of interest: `points`, `perplexity`, and `sample`, the first of the scored text, for `snr`.

    >>> result = pim.evaluate(plan, text)
    >>> result.perplexity, result.digital_perplexity
    >>> result.points[0].difference
    """

    plan: Plan
    axes: Mapping[str, Sequence[Any]]
    scores: Scores
    costs: Sequence[PlanCost]
    protocol: Mapping[str, Any]
    sample: ScoredText | None = None

    @property
    def digital_perplexity(self) -> float:
        """Perplexity of the exact model on the same tokens."""
        return float(perplexity(self.scores.digital, self.scores.tokens))

    @property
    def perplexity(self) -> float | np.ndarray:
        """Mean perplexity over chips: a number, or over a sweep an array with its axes."""
        mean = perplexity(self.scores.nll, self.scores.tokens).mean(axis=1).reshape(self._shape())
        return float(mean) if mean.ndim == 0 else mean

    @property
    def points(self) -> list[Point]:
        """The points, in the order of the axes (the last axis runs fastest)."""
        return [self._point(i, changes) for i, changes in enumerate(combinations(self.axes))]

    def _shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.axes.values())

    def _point(self, i: int, changes: Mapping[str, Any]) -> Point:
        scores = self.scores
        each = perplexity(scores.nll[i], scores.tokens)
        total = scores.tokens.sum()
        return Point(
            changes=changes,
            perplexity=each,
            difference=paired_difference(scores.nll[i], scores.digital, scores.tokens, seed=self.protocol["seed"]),
            kl=float(scores.kl[i].sum(axis=-1).mean() / total),
            agreement=float(scores.agree[i].sum(axis=-1).mean() / total),
            worst_chip=int(each.argmax()),
            cost=self.costs[i],
        )

    def to_dataset(self) -> xr.Dataset:
        """Everything as an xarray.Dataset: an axis for each swept field, then `chip`, `document`, `operator`,
        `component`; the protocol is in its attributes.
        """
        dims, shape, points = tuple(self.axes), self._shape(), self.points
        lead = lambda values: np.asarray(values, np.float64).reshape((*shape, *np.shape(values)[1:]))
        scores = self.scores
        operators, components = _names(self.costs)
        data = {
            "perplexity": ((*dims, "chip"), lead([p.perplexity for p in points]), "1"),
            "nll": ((*dims, "chip", "document"), lead(scores.nll), "nat"),
            "kl": ((*dims, "chip", "document"), lead(scores.kl), "nat"),
            "agree": ((*dims, "chip", "document"), lead(scores.agree), "1"),
            "right": ((*dims, "chip", "document"), lead(scores.right), "1"),
            "difference": (dims, lead([p.difference.mean for p in points]), "nat"),
            "difference_low": (dims, lead([p.difference.low for p in points]), "nat"),
            "difference_high": (dims, lead([p.difference.high for p in points]), "nat"),
            "digital_nll": (("document",), scores.digital, "nat"),
            "digital_right": (("document",), scores.digital_right, "1"),
            "tokens": (("document",), scores.tokens, "1"),
            "energy_per_token": (dims, lead([p.cost.energy_per_token for p in points]), "J"),
            "prefill_latency": (dims, lead([p.cost.prefill_latency for p in points]), "s"),
            "decode_latency": (dims, lead([p.cost.decode_latency for p in points]), "s"),
            "area": (dims, lead([p.cost.area for p in points]), "m^2"),
            "energy": (
                (*dims, "operator", "component"),
                lead([_energy(p.cost, operators, components) for p in points]),
                "J",
            ),
        }
        coords = {
            **self.axes,
            "chip": np.arange(scores.nll.shape[1]),
            "document": np.arange(len(scores.tokens)),
            "operator": operators,
            "component": components,
        }
        attrs = {"protocol": json.dumps(self.protocol, sort_keys=True), "digital_perplexity": self.digital_perplexity}
        variables = {name: (d, values, {"units": unit}) for name, (d, values, unit) in data.items()}
        return xr.Dataset(variables, {name: list(values) for name, values in coords.items()}, attrs)

    def chip_yield(self, loss: float, point: int = 0) -> Interval:
        """Share of chips that are within a stated loss, and the 95 % interval that so few chips leave of it.

        Args:
            loss: nats a token beyond the exact model that a chip may lose.
            point: of a sweep, its index in `points`.

        Raises StudyError for a loss that is no number.

        >>> pim.evaluate(plan, text, chips=32).chip_yield(loss=0.02)
        """
        if not np.isfinite(loss):
            raise StudyError(f"loss = {loss}: give the nats a token that a chip may lose")
        return chip_yield(self.scores.nll[point], self.scores.digital, self.scores.tokens, loss)

    def documents(self) -> xr.Dataset:
        """Perplexity, divergence from the exact model and agreement with it, of each document and chip.

        >>> result.documents()["perplexity"].mean("chip")
        """
        from pim.by_document import by_document

        return by_document(self)

    def __str__(self) -> str:
        from pim.table import result_table

        return result_table(self)

    __repr__ = __str__

    def plot(self) -> "Figure":
        """Accuracy against energy, a point for each of the sweep."""
        from pim.plots import accuracy_against_energy

        return accuracy_against_energy(self)

    def snr(self, point: int = 0, *, tokens: int = 256, progress: bool = True) -> "ModelSnr":
        """Signal over noise of every matrix on an analog device, by operator, layer and source of the noise.

        Of the first chip, on the first tokens that were scored; each matrix gets the inputs that it has in the exact
        model. Takes some seconds for each shape of matrix.

        Args:
            point: of a sweep, its index in `points`.
            tokens: how many, at most as many as the result has kept (512).
            progress: show a bar on standard error after two seconds.

        Raises StudyError if the result has kept no text, or no matrix is on an analog device.

        >>> found = pim.evaluate(plan, text).snr()
        >>> found.to_dataset()["snr"], found.plot()
        """
        from pim.model_snr import model_snr

        if self.sample is None:
            raise StudyError("this result has kept none of its text: evaluate again")
        time = self.protocol["time_s"]
        return model_snr(
            self.plan.replace(combinations(self.axes)[point]),
            self.sample.head(tokens),
            seed=self.protocol["seed"],
            time=time if isinstance(time, (int, float)) else None,
            progress=progress,
        )

    def report(self, folder: str | Path, noise: "ModelSnr | None" = None) -> list[Path]:
        """Write result.nc, result.json and report.html into a folder, all or none; returns their paths.

        >>> result.report("out", noise=result.snr())  # with the noise of each matrix by source
        """
        from pim.report import write_report

        return write_report(self, Path(folder), noise)

    def citations(self) -> dict[str, Source]:
        """The sources behind every figure that the result used."""
        return self.plan.system.citations()


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The points of a sweep, as changes by path; the last axis runs fastest.

    >>> combinations({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _names(costs: Sequence[PlanCost]) -> tuple[list[str], list[str]]:
    ledgers = [cost.decode.ledger for cost in costs]
    operators = dict.fromkeys(kind(name) for ledger in ledgers for name in ledger.operators)
    components = dict.fromkeys(name for ledger in ledgers for name in ledger.components)
    return list(operators), list(components)


def _energy(cost: PlanCost, operators: Sequence[str], components: Sequence[str]) -> np.ndarray:
    """Energy of a generated token by operator and component."""
    table = np.zeros((len(operators), len(components)))
    ledger = cost.decode.ledger
    energies = np.asarray(ledger.energy, np.float64)
    for operator, component, energy in zip(ledger.operators, ledger.components, energies, strict=True):
        table[operators.index(kind(operator)), components.index(component)] += energy
    return table / cost.decode_tokens
