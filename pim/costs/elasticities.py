"""The verb `sensitivity`: which values of a device a cost hangs on, by gradient, and how well each is known."""

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pim.costs.ledger import FIGURES, Cost, quantity
from pim.costs.operands import Operands
from pim.costs.plan_cost import PlanCost, run_ledger
from pim.costs.subject import Subject, assumed, product_ledger
from pim.describe import printed
from pim.devices.device import Device, Provenance
from pim.devices.record import walk
from pim.errors import StudyError
from pim.mapping.plan import Plan
from pim.units import plain


@dataclass(frozen=True)
class Influence:
    """What one value does to a figure.

    Attributes:
        field: its dotted path; of operand statistics `operands.NAME`, in a system behind the name of its device.
        value: what it is.
        unit: its unit.
        elasticity: d ln(figure) / d ln(value): a value that is 1 % larger makes the figure so many per cent larger. Of
            a table it is that of all its numbers together; None where the value is zero.
        derivative: d figure / d value, in the units of both; of a table summed over its numbers.
        grade: how well the value is known (`pim.devices.device.GRADES`), "default" where the device's file does not
            name it; of operand statistics "assumed" or "given".
        source: short name of its source; of operand statistics where they come from.
    """

    field: str
    value: Any
    unit: str
    elasticity: float | None
    derivative: float
    grade: str
    source: str


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """The values that a figure hangs on most.

    Attributes:
        figure: "energy", "latency" or "area".
        total: the figure, in J, s or m^2.
        rows: by magnitude of the elasticity.
        zeros: values that are zero now and would count if they were not, in the order of the device's fields.
    """

    figure: str
    total: float
    rows: tuple[Influence, ...]
    zeros: tuple[Influence, ...]

    def to_dict(self) -> dict[str, Any]:
        """Figure, total and rows as plain values, ready for JSON."""
        head = {"figure": self.figure, "unit": FIGURES[self.figure], "total": self.total}
        return {**head, "rows": [asdict(row) for row in self.rows], "zeros": [asdict(row) for row in self.zeros]}

    def __str__(self) -> str:
        unit = FIGURES[self.figure]
        head = ("field", "value", "unit", "elasticity", "grade", "source")
        rows = [(r.field, printed(r.value), r.unit, f"{r.elasticity:+.3g}", r.grade, r.source) for r in self.rows]
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        form = "  ".join(f"{{:{'>' if i in (1, 3) else '<'}{width}}}" for i, width in enumerate(widths))
        zeros = [
            f"{r.field} is 0: d {self.figure} / d {r.field} = {r.derivative:.4g} {unit}"
            f"{'' if r.unit == '1' else f' per {r.unit}'} ({r.grade})"
            for r in self.zeros
        ]
        total = quantity(self.total, unit) if unit != "m^2" else f"{self.total * 1e6:.4g} mm²"
        table = [form.format(*row).rstrip() for row in (head, *rows)]
        return "\n".join([f"{self.figure} {total}: d ln({self.figure}) / d ln(value)", "", *table, *zeros])

    __repr__ = __str__


def sensitivity(cost: Cost | PlanCost, figure: str = "energy", top: int = 10) -> Sensitivity:
    """Which values of its devices and operand statistics a cost hangs on, by gradient.

    Where operand statistics are assumed from the device (uniform inputs and weights), its cells and converters count
    with what they do to these; the rows of the statistics say what these alone do. Of a plan statistics have no rows,
    and paths begin with the name of a device.

    Args:
        cost: what `pim.cost` returned, of one product or a plan.
        figure: "energy", "latency" or "area".
        top: rows, at most.

    Raises:
        StudyError: a cost of many shapes or configurations, or that is zero or unknown.

    Example:
        >>> print(pim.sensitivity(pim.cost(pim.preset("rram-techC"), (4096, 4096)), "energy"))
    """
    if figure not in FIGURES:
        raise StudyError(f"figure = {figure!r} is none of {', '.join(FIGURES)}")
    if top < 1:
        raise StudyError(f"top = {top} is no number of rows: give 1 or more")
    if np.shape(getattr(cost, figure)) != ():
        raise StudyError(f"this is the cost of {np.shape(getattr(cost, figure))} points: price one, and ask for it")
    if isinstance(cost, PlanCost) and cost.plan is not None:
        found, total = _of_plan(cost, cost.plan, figure)
    elif isinstance(cost, Cost) and isinstance(cost.subject, Subject):
        found, total = _of_product(cost.subject, figure)
    else:
        raise StudyError("this cost does not say what it is the cost of: take what pim.cost returns, as it is")
    if total == 0 or not np.isfinite(total):
        state = "zero" if total == 0 else "unknown"
        raise StudyError(f"the {figure} is {state}, so that nothing is a share of it: see the notes of the cost")
    if not abs(float(getattr(cost, figure)) - total) <= 1e-3 * abs(total):  # unknown figures too
        raise StudyError("this cost holds more than products with resident weights: ask of cost.resident")
    rows = [row for row in found if row.elasticity]
    rows.sort(key=lambda row: -abs(row.elasticity or 0.0))
    zeros = [row for row in found if row.elasticity is None and row.derivative != 0]
    return Sensitivity(figure, total, tuple(rows[:top]), tuple(zeros[:top]))


def _of_product(subject: Subject, figure: str) -> tuple[list[Influence], float]:
    """Every continuous value of a device and its operand statistics, and the figure."""
    base = assumed(subject.model) if subject.operands is None else subject.operands
    nothing = jax.tree.map(jnp.zeros_like, base)
    sizes = tuple(jnp.asarray(size) for size in subject.sizes)
    total, (slopes, of_operands) = _slopes(
        subject.model, subject.operands, nothing, sizes, figure=figure, operation=subject.operation
    )
    rows = list(_influences(subject.device, slopes, float(total)))
    if base is not None and (
        isinstance(base, Operands) or subject.operands is not None
    ):  # a digital macro assumes fields
        grade, source = ("assumed", "uniform") if subject.operands is None else ("given", base.source)
        rows += _rows(base, of_operands, float(total), "operands.", lambda _: Provenance("1", source, grade))
    return rows, float(total)


@partial(jax.jit, static_argnames=("figure", "operation"))
def _slopes(model, given, offset, sizes, *, figure: str, operation: str):
    """A figure, and its derivatives by the leaves of the model and by the operand statistics."""

    def of(model, offset):
        operands = assumed(model) if given is None else given
        operands = jax.tree.map(lambda value, more: value + more, operands, offset)
        ledger = product_ledger(model, *sizes, operands=operands, operation=operation)
        return getattr(ledger, figure).sum()

    return jax.value_and_grad(of, argnums=(0, 1))(model, offset)


def _of_plan(cost: PlanCost, plan: Plan, figure: str) -> tuple[list[Influence], float]:
    """Every continuous value of the devices of a plan's system, and the figure of the whole run."""
    devices = plan.system.devices

    def of(models: dict[str, Any]) -> Array:
        traced = {name: dataclasses.replace(device, model=models[name]) for name, device in devices.items()}
        system = dataclasses.replace(plan.system, devices=traced)
        run = run_ledger(
            dataclasses.replace(plan, system=system), batch=cost.batch, prompt=cost.prompt, generate=cost.generate
        )
        return getattr(run, figure).sum()

    total, slopes = jax.value_and_grad(of)({name: device.model for name, device in devices.items()})
    rows = [
        row for name, device in devices.items() for row in _influences(device, slopes[name], float(total), f"{name}.")
    ]
    return rows, float(total)


def _influences(device: Any, slopes: Any, total: float, prefix: str = "") -> Iterator[Influence]:
    """The continuous values of a device."""
    model = getattr(device, "model", device)
    known = device.provenance if isinstance(device, Device) else {}
    unnamed = Provenance("1", "", "default" if isinstance(device, Device) else "user")
    return _rows(model, slopes, total, prefix, lambda path: known.get(path, unnamed))


def _rows(model: Any, slopes: Any, total: float, prefix: str, known: Any) -> Iterator[Influence]:
    slope_at = {path: slope for path, _, slope in walk(slopes)}
    for path, field, value in walk(model):
        if field.metadata["kind"] != "leaf" or value is None or path not in slope_at:  # what is only told counts not
            continue
        numbers, each = np.asarray(value, np.float64), np.asarray(slope_at[path], np.float64)
        elasticity = float((numbers * each).sum()) / total if numbers.any() and total else None
        found = known(path)
        yield Influence(
            prefix + path, plain(numbers), field.metadata["unit"], elasticity, float(each.sum()), found.grade,
            found.source,
        )  # fmt: skip
