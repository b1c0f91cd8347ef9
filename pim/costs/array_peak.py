"""The verb `peak`: what a device does at most, one full array of it busy all the time. Chips are published so.

Everything is of one ledger: efficiency is operations over its energy, density its rate over its area, so that figures
which are printed side by side agree. An operation is a multiplication or an addition of whole numbers of the device's
precision: a multiply-accumulate is two, and nothing is counted by the bit.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs.costing import cost
from pim.costs.digital_operands import DigitalOperands
from pim.costs.gain_attention_cost import token_only
from pim.costs.ledger import Cost
from pim.costs.near_dram_cost import columns_only
from pim.costs.operands import Operands
from pim.costs.roofline_cost import compute_only
from pim.counts import check_count
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import nearest
from pim.devices.gain_attention import GainAttention
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.published import FIGURES as PUBLISHED_FIGURES
from pim.devices.roofline import Roofline
from pim.errors import StudyError
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays
from pim.silicon.headline import for_people
from pim.units import plain

STEADY = "one vector after another without end: what each further one adds"


@dataclass(frozen=True, repr=False)
class Peak:
    """What a device does when it is busy all the time; arrays where the sizes or statistics given were arrays.

    Attributes:
        cost: of the work that is repeated, all copies together; its latency is the time until the next begins.
        operations: multiplications and additions in it.
        latency: time (s) from the first input to the last output of that work alone.
        shape: (n_in, n_out) of the matrix; None where the device has no arrays.
        copies: arrays working side by side.

    Example:
        >>> peak = pim.peak(pim.preset("sram-tu2022"), copies=64)
        >>> peak.rate, peak.efficiency, peak.density
        >>> peak.share("energy", "adder_tree", "accumulators")
    """

    cost: Cost
    operations: Any
    latency: Any
    shape: tuple[Any, Any] | None
    copies: int = 1

    @property
    def interval(self) -> Float[Array, "*shape"]:
        """Time (s) from the beginning of the work to the next."""
        return self.cost.latency

    @property
    def rate(self) -> Float[Array, "*shape"]:
        """Operations a second."""
        return self.operations / self.interval

    @property
    def energy(self) -> Float[Array, "*shape"]:
        """Energy (J) of the work."""
        return self.cost.energy

    @property
    def power(self) -> Float[Array, "*shape"]:
        """Power (W) while busy."""
        return self.energy / self.interval

    @property
    def efficiency(self) -> Float[Array, "*shape"]:
        """Operations a joule."""
        return self.operations / self.energy

    @property
    def energy_per_mac(self) -> Float[Array, "*shape"]:
        """Energy (J) of a multiply-accumulate."""
        return 2.0 * self.energy / self.operations

    @property
    def area(self) -> Float[Array, "*shape"]:
        """Area (m^2)."""
        return self.cost.area

    @property
    def density(self) -> Float[Array, "*shape"]:
        """Operations a second and m^2."""
        return self.rate / self.area

    def share(self, what: str, *components: str) -> Float[Array, "*shape"]:
        """Share of components in the energy, power or area.

        Raises StudyError for a component that the ledger does not have, with the nearest names.
        """
        if what not in ("energy", "power", "area"):
            raise StudyError(f"shares are of energy, power or area, not of {what!r}")
        ledger = self.cost.ledger.by_component()
        values = ledger.area if what == "area" else ledger.energy
        for component in components:
            if component not in ledger.components:
                raise StudyError(f"no component {component!r} in the ledger; {nearest(component, ledger.components)}")
        rows = [values[ledger.components.index(component)] for component in components]
        return sum(rows, jnp.zeros(values.shape[1:])) / values.sum(axis=0)

    def to_dict(self) -> dict[str, Any]:
        """All figures, the rows and the notes as plain values, ready for JSON."""
        shape = None if self.shape is None else [plain(np.asarray(size)) for size in self.shape]
        figures = {name: plain(np.asarray(getattr(self, name))) for name in PEAK_FIGURES}
        return {"shape": shape, "copies": self.copies, **figures, "units": PEAK_FIGURES, "cost": self.cost.to_dict()}

    def __str__(self) -> str:
        return "\n".join([*_headlines(self), "", str(self.cost)])

    __repr__ = __str__


PEAK_FIGURES = {**PUBLISHED_FIGURES, "interval": "s"}
"""Figures of a peak and their units."""


def peak(
    device: Device | AnalogMacro | DigitalMacro | GainAttention | NearDram | Roofline,
    *,
    shape: tuple[Any, Any] | None = None,
    vectors: Any = None,
    operands: Operands | DigitalOperands | None = None,
    copies: int = 1,
) -> Peak:
    """What a device does at most, busy all the time: rate, power, operations a joule, operations a second and area.

    Of a macro it is one full array (or a matrix of `shape`) that takes one vector after another. Of near-DRAM units it
    is their internal peak: columns multiplied without a break, where opening rows costs energy and no time, and vectors
    and results cost nothing. Of a roofline it is the rate of computing, all operands at hand. With a `shape` these two
    run that product from idle. Of attention on gain cells it is a token in a head with a full window.

    Args:
        device: what is busy.
        shape: (n_in, n_out) of the matrix; one that fills one array exactly, if none is given.
        vectors: that many input vectors from idle to the last output; without it the steady state, in which the first
            vector's way through a pipeline does not count.
        operands: statistics of inputs and cells of a macro; uniform ones, or a digital macro's own, if none are given.
        copies: arrays, each with a matrix of its own, or heads, that work side by side: rates, powers and areas add up.

    Raises:
        StudyError: a device that has no peak, or a size that is none.
        DeviceError: a device whose cost is not known.

    Example:
        >>> print(pim.peak(pim.preset("macro-28nm"), operands=chip.operands(x)["layers.0.mlp.up"]))
    """
    check_count("copies", copies)
    model = device.model if isinstance(device, Device) else device
    if operands is not None and not isinstance(model, AnalogMacro | DigitalMacro):
        raise StudyError(f"operands are statistics of a macro's inputs and cells: a {type(model).__name__} has none")
    if isinstance(model, GainAttention):
        if shape is not None or vectors is not None:
            raise StudyError("gain cells take a token in a head with a full window: leave shape and vectors away")
        one, operations = token_only(model)
        return Peak(_copied(one, copies), operations * copies, one.latency, None, copies)
    if shape is None and isinstance(model, NearDram | Roofline):
        if vectors is not None:
            raise StudyError(f"the peak of a {type(model).__name__} has no vectors: give them with a shape")
        one, operations = columns_only(model) if isinstance(model, NearDram) else compute_only(model)
        return Peak(_copied(one, copies), operations * copies, one.latency, None, copies)
    if shape is None:
        if not isinstance(model, AnalogMacro | DigitalMacro):
            raise StudyError(f"no peak is known for a {type(model).__name__}; give a macro, or a shape to run")
        shape = full_array(model)
    steady = vectors is None and isinstance(model, AnalogMacro | DigitalMacro)
    count = 1 if vectors is None else vectors
    one = cost(model, shape, vectors=count, operands=operands)
    work = _further(one, cost(model, shape, vectors=2, operands=operands)) if steady else one
    return Peak(_copied(work, copies), 2.0 * shape[0] * shape[1] * count * copies, one.latency, shape, copies)


def full_array(macro: AnalogMacro | DigitalMacro) -> tuple[int, int]:
    """(n_in, n_out) of the matrix that fills one array.

    >>> full_array(pim.preset("sram-tu2022").model)
    (32, 6)
    """
    if isinstance(macro, DigitalMacro):
        return macro.rows * macro.row_groups, macro.outputs
    column_arrays(1, macro)  # raises where an array cannot hold a weight
    return macro.rows, encoding_of(macro).outputs_per_array(macro.columns, macro.slices)


def _further(first: Cost, both: Cost) -> Cost:
    """What the second of two vectors adds, on the area of one."""
    one, two = first.ledger, both.ledger
    ledger = replace(one, energy=two.energy - one.energy, latency=two.latency - one.latency)
    return Cost(ledger, (*first.notes, STEADY))


def _copied(one: Cost, copies: int) -> Cost:
    ledger = one.ledger
    return Cost(replace(ledger, energy=ledger.energy * copies, area=ledger.area * copies), one.notes)


def _headlines(peak: Peak) -> list[str]:
    """The figures of a peak in two lines, for people."""
    if np.ndim(peak.rate) > 0:
        raise StudyError(f"a peak of shape {np.shape(peak.rate)} is no table: print its figures one by one")
    where = "" if peak.shape is None else f"{peak.shape[0]} inputs, {peak.shape[1]} outputs"
    copies = f"{peak.copies} side by side" if peak.copies > 1 else ""
    figure = lambda name: for_people(name, float(getattr(peak, name)))
    return [
        ", ".join(filter(None, ["busy all the time", where, copies])),
        ", ".join(figure(name) for name in ("rate", "power", "efficiency", "energy_per_mac", "density")),
        f"{figure('energy')} each {figure('interval')}, {figure('latency')} from input to output, on {figure('area')}",
    ]
