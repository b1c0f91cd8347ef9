"""What a cost is the cost of, and the ledger of a product by the family of its device."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from pim.costs import digital_macro_cost, near_dram_cost, near_flash_cost, roofline_cost
from pim.costs.digital_cost import digital_cost, digital_notes, product_values, unit_cost
from pim.costs.digital_operands import DigitalOperands, assumed_operands
from pim.costs.ledger import FREE, Ledger, join, ledger_of
from pim.costs.macro_cost import matrix_cost, uncounted
from pim.costs.operands import UNIFORM, Operands, uniform_operands
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.errors import StudyError
from pim.mapping.formatted import Formatted


@dataclass(frozen=True)
class Subject:
    """A product on a device, as `pim.cost` was asked for it.

    Attributes:
        device: a Device or its model.
        n_in, n_out, vectors, copies: sizes; integers or arrays.
        operands: statistics, or None where they are assumed.
        operation: see `pim.cost`.
    """

    device: Any
    n_in: Any
    n_out: Any
    vectors: Any = 1
    operands: Operands | DigitalOperands | None = None
    operation: str = "gemv"
    copies: Any = 1

    @property
    def model(self) -> Any:
        """The device's model."""
        return getattr(self.device, "model", self.device)

    @property
    def sizes(self) -> tuple[Any, Any, Any, Any]:
        """Inputs, outputs, vectors and copies."""
        return self.n_in, self.n_out, self.vectors, self.copies


def assumed(model: Any) -> Operands | DigitalOperands | None:
    """The operand statistics that a device is given where none were measured; None where none count."""
    if isinstance(model, AnalogMacro):
        return uniform_operands(model)
    return assumed_operands(model) if isinstance(model, DigitalMacro) else None


def product_ledger(
    model: Any,
    n_in: Any,
    n_out: Any,
    vectors: Any = 1,
    copies: Any = 1,
    *,
    operands: Any = None,
    operation: str = "gemv",
) -> Ledger:
    """The ledger of products on a device's model, whose leaves and sizes may be traced; see `pim.cost`.

    Raises StudyError for a model whose cost is not known.
    """
    if isinstance(model, AnalogMacro):
        return matrix_cost(model, n_in, n_out, vectors, operands)
    if isinstance(model, DigitalMacro):
        return digital_macro_cost.matrix_cost(model, n_in, n_out, vectors, operands)
    if isinstance(model, NearDram):
        return near_dram_cost.matrix_cost(model, n_in, n_out, vectors, copies, operation)
    if isinstance(model, NearFlash):
        return near_flash_cost.matrix_cost(model, n_in, n_out, vectors)
    if isinstance(model, DigitalUnit):
        return _on_digital_unit(model, *_amounts(n_in, n_out, vectors))
    if isinstance(model, Roofline):
        return _on_roofline(model, *_amounts(n_in, n_out, vectors))
    if isinstance(model, Ideal | Formatted):
        zero = np.zeros(np.broadcast_shapes(np.shape(n_in), np.shape(n_out), np.shape(vectors)))
        return ledger_of([("ideal", zero, zero, zero)], "product")
    raise StudyError(
        f"no cost is known for a {type(model).__name__}; give a device, such as pim.preset('sram-digital28')"
    )


def _amounts(*sizes: Any) -> list[Any]:
    """Sizes of a common shape."""
    return jnp.broadcast_arrays(*(jnp.asarray(size, jnp.float32) for size in sizes))


def _on_digital_unit(unit: DigitalUnit, n_in, n_out, vectors) -> Ledger:
    values = product_values(unit, n_in * n_out, vectors, (n_in + n_out) * vectors)
    work = digital_cost(unit, macs=n_in * n_out * vectors, values=values, operator="product")
    return join([work, unit_cost(unit, work.latency.sum(axis=0), "product")])


def _on_roofline(roofline: Roofline, n_in, n_out, vectors) -> Ledger:
    sizes = {"n_in": n_in, "n_out": n_out, "vectors": vectors, "matrices": 1, "launches": 1}
    operations, activations = 2 * n_in * n_out * vectors, (n_in + n_out) * vectors
    work = roofline_cost.roofline_cost(
        roofline, operations=operations, weights=n_in * n_out, activations=activations, operator="product", **sizes
    )
    return join([work, roofline_cost.die_cost(roofline, "product", work.latency.sum(axis=0))])


def notes(subject: Subject) -> tuple[str, ...]:
    """What the cost of a product assumes, and what it leaves out."""
    model, given = subject.model, subject.operands
    if isinstance(model, AnalogMacro):
        assert not isinstance(given, DigitalOperands), "checked by `pim.cost`"
        return f"operand statistics {UNIFORM if given is None else given.source}", *uncounted(model)
    if isinstance(model, DigitalMacro):
        assert not isinstance(given, Operands), "checked by `pim.cost`"
        return digital_macro_cost.notes(model, given)
    if isinstance(model, DigitalUnit):
        return digital_notes(model, np.asarray(subject.n_in, np.float64) * subject.n_out)
    if isinstance(model, Roofline):
        return roofline_cost.notes(model)
    if isinstance(model, NearDram):
        return near_dram_cost.notes(model, *subject.sizes, subject.operation)
    if isinstance(model, NearFlash):
        return near_flash_cost.notes(model, np.asarray(subject.n_in, np.float64) * subject.n_out)
    return (FREE,)
