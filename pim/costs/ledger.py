"""The ledger: energy, latency and area of every component of every operator. Totals are sums of its rows."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.devices.record import leaf, part, record, static, told
from pim.errors import StudyError
from pim.units import plain

LAYER = re.compile(r"^layers\.\d+\.")
EXPERT = re.compile(r"\.experts\.\d+\.")


@record
class Ledger:
    """Rows of (operator, component): energy adds up, latency adds up along the critical path, area adds up.

    A component that works behind another's back has latency 0. The figures may carry the axes of a sweep behind the
    axis of the rows; `ledger.at(i)` is the ledger of one of its points.

    Example:
        >>> ledger = pim.cost(device, (128, 128)).ledger
        >>> print(ledger)                                     # a table, largest energy first
        >>> ledger.by_component().to_dict()["rows"][0]
    """

    operators: tuple[str, ...] = static("operator of each row")
    components: tuple[str, ...] = static("component of each row")
    energy: Float[Array, "rows *shape"] = leaf("J", "energy")
    latency: Float[Array, "rows *shape"] = leaf("s", "time on the critical path")
    area: Float[Array, "rows *shape"] = leaf("m^2", "area")

    def total(self) -> "Ledger":
        """One row: the sums of all."""
        return self._grouped(["total"] * len(self.operators), ["all"] * len(self.operators))

    def by_operator(self) -> "Ledger":
        """One row for each kind of operator ("attention.q"), layers and components summed."""
        return self._grouped([kind(name) for name in self.operators], ["all"] * len(self.operators))

    def by_component(self) -> "Ledger":
        """One row for each component, operators summed."""
        return self._grouped(["all"] * len(self.components), list(self.components))

    def _grouped(self, operators: list[str], components: list[str]) -> "Ledger":
        labels = list(zip(operators, components, strict=True))
        groups = list(dict.fromkeys(labels))
        of_row = np.array([groups.index(label) for label in labels])
        summed = self.map(lambda values: jax.ops.segment_sum(values, of_row, len(groups)))
        return replace(summed, operators=tuple(o for o, _ in groups), components=tuple(c for _, c in groups))

    def named(self, operator: str) -> "Ledger":
        """The same rows under the name of an operator."""
        return replace(self, operators=(operator,) * len(self.operators))

    def map(self, change: Callable[[Any], Any]) -> "Ledger":
        """The same rows with `change` made to each array of figures."""
        return replace(self, **{name: change(getattr(self, name)) for name in FIGURES})

    def at(self, index: Any) -> "Ledger":
        """The ledger of one point of a sweep."""
        where = index if isinstance(index, tuple) else (index,)
        return self.map(lambda values: values[(slice(None), *where)])

    def without(self, component: str) -> "Ledger":
        """The ledger less the rows of one component."""
        return self._kept([i for i, name in enumerate(self.components) if name != component])

    def without_operator(self, operator: str) -> "Ledger":
        """The ledger less the rows of one operator."""
        return self._kept([i for i, name in enumerate(self.operators) if name != operator])

    def over(self, shape: tuple[int, ...]) -> "Ledger":
        """The ledger over the axes of a wider sweep, whose last ones are its own."""
        rows = len(self.operators)

        def widened(values):
            ones = (1,) * (len(shape) + 1 - values.ndim)
            return jnp.broadcast_to(values.reshape(rows, *ones, *values.shape[1:]), (rows, *shape))

        return self.map(widened)

    def _kept(self, rows: list[int]) -> "Ledger":
        kept = np.array(rows, np.int32)
        rest = self.map(lambda values: values[kept])
        names = ((self.operators[i], self.components[i]) for i in kept)
        operators, components = zip(*names, strict=True)
        return replace(rest, operators=operators, components=components)

    def spread(self, operators: Sequence[str]) -> "Ledger":
        """The ledger of a sweep over operators as rows: the one axis behind the rows gives each operator its own."""
        spread = self.map(lambda values: values.T.reshape(-1))
        named = tuple(operator for operator in operators for _ in self.components)
        return replace(spread, operators=named, components=self.components * len(operators))

    def to_dict(self) -> dict[str, Any]:
        """Rows and totals as plain numbers (nested lists for a sweep), ready for JSON."""
        figures = {name: np.asarray(getattr(self, name), np.float64) for name in FIGURES}
        return {
            "units": FIGURES,
            "rows": [
                {"operator": operator, "component": component}
                | {name: plain(values[i]) for name, values in figures.items()}
                for i, (operator, component) in enumerate(zip(self.operators, self.components, strict=True))
            ],
            "total": {name: plain(values.sum(axis=0)) for name, values in figures.items()},
        }

    def _table(self) -> list[tuple[str, ...]]:
        """Printed rows, largest energy first, the total last."""
        if self.energy.ndim > 1:
            raise StudyError(f"a ledger of shape {self.energy.shape[1:]} is no table: choose a point with .at(index)")
        figures = np.stack([np.asarray(getattr(self, name), np.float64) for name in FIGURES], axis=1)
        total = figures.sum(axis=0)
        order = np.argsort(-figures[:, 0], kind="stable")
        rows = [(self.operators[i], self.components[i], *_printed(figures[i], total)) for i in order]
        return [*rows, ("total", "", *_printed(total, total))]

    def __str__(self) -> str:
        if self.energy.ndim > 1:
            return f"Ledger of {len(self.operators)} rows over {self.energy.shape[1:]}: print one point, .at(index)"
        table = [HEAD, *self._table()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        aligned = ("<", "<", ">", ">", ">", ">")
        form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(aligned, widths, strict=True))
        return "\n".join(form.format(*row).rstrip() for row in table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if self.energy.ndim > 1:
            return f"<p>{escape(str(self))}</p>"
        body = "".join(f"<tr>{_tagged('td', cells)}</tr>" for cells in self._table())
        return f"<table><thead><tr>{_tagged('th', HEAD)}</tr></thead><tbody>{body}</tbody></table>"


@record
class Cost:
    """Energy (J), latency (s) and area (m^2), the ledger whose rows sum to them, and what was assumed."""

    ledger: Ledger = part("energy, latency and area by operator and component")
    notes: tuple[str, ...] = static("assumptions, and what is left out")
    trace: Any = told("commands one by one (`pim.dram_trace.Trace`), if they were asked for", default=None)
    subject: Any = told("what it is the cost of: a `pim.costs.subject.Subject`, or a plan's run", default=None)
    load: Any = told("finds what loading the weights takes (`pim.costs.loading_cost.Load`)", default=None)

    @property
    def energy(self) -> Float[Array, "*shape"]:
        """Energy in J."""
        return self.ledger.energy.sum(axis=0)

    @property
    def latency(self) -> Float[Array, "*shape"]:
        """Time in s, from the first input to the last output."""
        return self.ledger.latency.sum(axis=0)

    @property
    def area(self) -> Float[Array, "*shape"]:
        """Area in m^2."""
        return self.ledger.area.sum(axis=0)

    @cached_property
    def loading(self) -> Any:
        """What writing the matrix into its device takes, once, beside the cost: a `pim.costs.loading_cost.Loading`.

        None where there is no matrix of weights to write (keys and values, many configurations, inside jit).
        """
        return None if self.load is None else self.load()

    @property
    def resident(self) -> "Cost":
        """The cost with weights that lie in the device for good."""
        if LOADING not in self.ledger.operators:
            return self
        return replace(self, ledger=self.ledger.without_operator(LOADING))

    @cached_property
    def streamed(self) -> "Cost":
        """The cost with weights that are loaded once, for these vectors: rows "memory" and "write" of the loading too.

        Raises StudyError where there is no matrix of weights to load.
        """
        if LOADING in self.ledger.operators:
            return self
        if self.loading is None:
            raise StudyError("there are no weights to load here: ask for one matrix of weights on one device")
        rows = self.loading.ledger.over(self.ledger.energy.shape[1:])
        notes = tuple(dict.fromkeys([*self.notes, *self.loading.notes]))
        return replace(self, ledger=join([self.ledger, rows]), notes=notes, subject=None)  # no slopes of the loading

    def to_dict(self) -> dict[str, Any]:
        """Totals, rows and notes as plain values, ready for JSON."""
        found = {**self.ledger.to_dict(), "notes": list(self.notes)}
        if self.loading is None:
            return found
        both = {
            name: {figure: plain(np.asarray(getattr(cost, figure), np.float64)) for figure in ("energy", "latency")}
            for name, cost in (("resident", self.resident), ("streamed", self.streamed))
        }
        return {**found, **both, "loading": self.loading.to_dict()}

    def _weights(self) -> list[str]:
        """A line that sets resident and streamed weights side by side."""
        if self.load is None or self.ledger.energy.ndim > 1:
            return []
        resident, streamed = (
            f"{quantity(float(cost.energy), 'J')}, {quantity(float(cost.latency), 's')}"
            for cost in (self.resident, self.streamed)
        )
        return [f"weights resident: {resident}; streamed ({self.load.told}): {streamed}"]

    def __str__(self) -> str:
        return "\n".join([str(self.ledger), *self._weights(), *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in (*self._weights(), *self.notes))
        return f"{self.ledger._repr_html_()}<ul>{notes}</ul>"


LOADING = "loading"
"""Operator of the rows of a loading of weights."""

FREE = "the ideal device is the exact reference and costs nothing: a multiple of its cost means nothing"
UNKNOWN = float("nan")
"""A figure that nobody knows: sums with it are unknown, and printed so."""

FIGURES = {"energy": "J", "latency": "s", "area": "m^2"}
HEAD = ("operator", "component", "energy", "share", "latency", "area")


def ledger_of(rows: Sequence[tuple[str, Any, Any, Any]], operator: str = "") -> Ledger:
    """The ledger of one operator from rows (component, energy, latency, area), broadcast to a common shape."""
    shape = jnp.broadcast_shapes(*(jnp.shape(value) for row in rows for value in row[1:]))
    columns = [
        jnp.stack([jnp.broadcast_to(jnp.asarray(value, jnp.float32), shape) for value in values])
        for values in zip(*(row[1:] for row in rows), strict=True)
    ]
    return Ledger((operator,) * len(rows), tuple(row[0] for row in rows), *columns)


def join(ledgers: Iterable[Ledger]) -> Ledger:
    """All rows of several ledgers of the same shape."""
    parts = list(ledgers)
    figures = [jnp.concatenate([getattr(part, name) for part in parts]) for name in FIGURES]
    return Ledger(sum((p.operators for p in parts), ()), sum((p.components for p in parts), ()), *figures)


def kind(operator: str) -> str:
    """The kind of an operator: its path without the layer and without the number of an expert.

    >>> kind("layers.3.attention.q"), kind("layers.3.ffn.experts.5.gate")
    ('attention.q', 'ffn.experts.gate')
    """
    return EXPERT.sub(".experts.", LAYER.sub("", operator))


def quantity(value: float, unit: str) -> str:
    """A figure with four digits and an SI prefix.

    >>> quantity(4.89e-13, "J")
    '489 fJ'
    """
    if value == 0:
        return f"0 {unit}"
    if np.isnan(value):
        return "unknown"
    exponent = int(np.clip(np.floor(np.log10(abs(value)) / 3), -6, 3))
    return f"{value / 1000.0**exponent:.4g} {'afpnµm kMG'[exponent + 6].strip()}{unit}"


def _printed(figures: np.ndarray, total: np.ndarray) -> tuple[str, str, str, str]:
    energy, latency, area = (float(value) for value in figures)
    share = energy / float(total[0]) if total[0] != 0 else 0.0
    part = "unknown" if np.isnan(share) else f"{share:.1%}"
    return quantity(energy, "J"), part, quantity(latency, "s"), square_millimetres(area)


def square_millimetres(area: float) -> str:
    """An area (m^2), printed."""
    return "unknown" if np.isnan(area) else f"{area * 1e6:.4g} mm²"


def _tagged(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
