"""The verb `cost`: what a product, or a language model on a system, takes in energy, time and area."""

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.device import Device
from pim.devices.digital_unit import DigitalUnit
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.record import part, record, static
from pim.digital_cost import digital_cost
from pim.errors import StudyError
from pim.ledger import Ledger, ledger_of
from pim.macro_cost import matrix_cost, uncounted
from pim.operands import Operands, uniform_operands

FREE = "the ideal device is the exact reference: it costs nothing, so that no multiple of it means anything"


@record
class Cost:
    """Energy (J), latency (s) and area (m^2), the ledger whose rows sum to them, and what was assumed."""

    ledger: Ledger = part("energy, latency and area by operator and component")
    notes: tuple[str, ...] = static("assumptions, and what is left out")

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

    def to_dict(self) -> dict[str, Any]:
        """Totals, rows and notes as plain values, ready for JSON."""
        return {**self.ledger.to_dict(), "notes": list(self.notes)}

    def __str__(self) -> str:
        return "\n".join([str(self.ledger), *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"{self.ledger._repr_html_()}<ul>{notes}</ul>"


def cost(
    device: Device | AnalogMacro | DigitalUnit | Ideal,
    shape: tuple[Any, Any],
    *,
    vectors: Any = 1,
    operands: Operands | None = None,
) -> Cost:
    """What products with a matrix cost on a device, or a model on a system.

    Args:
        device: what holds the matrix.
        shape: (n_in, n_out), integers or arrays of them: 1e5 shapes are one call.
        vectors: input vectors, one after another; may be an array too.
        operands: statistics of inputs and cells (`chip.operands(x)`); without them inputs and weights count as uniform
            over their ranges, which the notes then say.

    Returns:
        The cost; its figures have the common shape of `shape`, `vectors` and `operands`.

    Raises:
        StudyError: a shape that is not positive and whole, or a device that has no cost.

    Example:
        >>> cost = pim.cost(pim.preset("rram-techC"), (128, 128))
        >>> print(cost.energy, cost.ledger)
    """
    n_in, n_out = shape
    for name, value in (("n_in", n_in), ("n_out", n_out), ("vectors", vectors)):
        _check_count(name, value)
    model = device.model if isinstance(device, Device) else device
    return _price(model)(model, n_in, n_out, vectors, operands)


def _price(model: Any) -> Callable[..., Cost]:
    for family, price in ((AnalogMacro, _on_arrays), (DigitalUnit, _on_digital), (Ideal, _for_free)):
        if isinstance(model, family):
            return price
    raise StudyError(f"no cost is known for a {type(model).__name__}; give an analog macro, a digital unit or ideal")


def _on_arrays(macro: AnalogMacro, n_in, n_out, vectors, operands: Operands | None) -> Cost:
    operands = operands if operands is not None else uniform_operands(macro)
    ledger = matrix_cost(macro, n_in, n_out, vectors, operands)
    return Cost(ledger, (f"operand statistics {operands.source}", *uncounted(macro)))


def _on_digital(unit: DigitalUnit, n_in, n_out, vectors, operands: Operands | None) -> Cost:
    macs, weights, values = digital_counts(n_in, n_out, vectors)
    return Cost(digital_cost(unit, macs=macs, values=weights + values), digital_notes(unit, weights))


def _for_free(ideal: Ideal, n_in, n_out, vectors, operands: Operands | None) -> Cost:
    zero = np.zeros(np.broadcast_shapes(np.shape(n_in), np.shape(n_out), np.shape(vectors)))
    return Cost(ledger_of([("ideal", zero, zero, zero)], "product"), (FREE,))


def digital_counts(n_in, n_out, vectors) -> tuple[Any, Any, Any]:
    """Multiply-accumulates, weights read (once for all vectors of a call), and inputs and outputs moved."""
    n_in, n_out, vectors = (np.asarray(value, np.float64) for value in (n_in, n_out, vectors))
    return n_in * n_out * vectors, n_in * n_out * np.ones_like(vectors), (n_in + n_out) * vectors


def digital_notes(unit: DigitalUnit, values) -> tuple[str, ...]:
    """A warning where the buffer cannot hold that many values."""
    need, room = float(np.max(values) * np.asarray(unit.bytes_per_operand)), float(unit.buffer.bytes)
    if need <= room:
        return ()
    return (
        f"{need / 1e6:.3g} MB do not fit the digital unit's buffer of {room / 1e6:.3g} MB: traffic to a memory "
        "outside is left out, raise buffer.bytes",
    )


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf" or not numbers.size or (numbers < 1).any() or (numbers % 1 != 0).any():
        raise StudyError(f"{name} must be a whole number of at least 1 (or an array of them), not {value!r}")
