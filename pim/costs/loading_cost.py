"""The verb `loading`: what it takes to write a matrix, or a whole model, into a device, and how often it may be done.

The weights come from a memory outside, which is read while cells are written: a loading takes as long as the longer of
the two. Weights that lie in a device for good (resident) are loaded once; weights that do not fit are loaded anew for
every use (streamed), and their cost stands beside that of the products (`cost.streamed`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, overload

import jax
import numpy as np
from jax.core import Tracer

from pim.costs.ledger import LOADING, Ledger, ledger_of, quantity
from pim.costs.lifetime import Endurance, Lifetime, endurance_of, lifetime
from pim.costs.matrix_writing import Shape, written
from pim.costs.plan_loading import PlanLoading, plan_loading
from pim.counts import check_count
from pim.devices.catalogue import component
from pim.devices.components.memory_interface import MemoryInterface
from pim.devices.components.write_driver import WriteDriver
from pim.devices.device import Device
from pim.errors import StudyError
from pim.mapping.plan import Plan
from pim.units import plain


@dataclass(frozen=True, eq=False)
class Loading:
    """Writing matrices into a device once. Figures have the common shape of the sizes; NaN is unknown."""

    cells: Any
    """Cells that are written: all slices, both of a pair, reference columns; bits, where a memory is written."""
    pulses: Any
    """On all cells together, where the cell has a law of write-verify."""
    bits: Any
    """Bits read from the memory outside."""
    write_energy: Any
    """J of writing."""
    write_time: Any
    """s of writing."""
    memory_energy: Any
    """J of reading the weights from the memory outside."""
    memory_time: Any
    """s of reading them."""
    endurance: Endurance
    """Writes that a cell has left: so many loadings are possible."""
    notes: tuple[str, ...]
    """What was assumed, and what is unknown."""

    @property
    def energy(self) -> Any:
        """J of reading the weights and writing them."""
        return self.write_energy + self.memory_energy

    @property
    def time(self) -> Any:
        """s: the longer of reading and writing."""
        return np.maximum(self.write_time, self.memory_time)

    @property
    def loadings(self) -> float | None:
        """How often the device can be loaded; None: unknown, infinite: writing does not wear it."""
        return self.endurance.writes

    @property
    def wear(self) -> float | None:
        """Share of the endurance that one loading takes; None: unknown."""
        if self.endurance.writes is None:
            return None
        return 1.0 / self.endurance.writes if self.endurance.writes > 0 else 1.0

    def lifetime(self, loadings_per_second: float) -> Lifetime:
        """Time until the endurance is used up, if the device is loaded so often.

        >>> pim.loading(pim.preset("rram-wan2022"), (512, 512)).lifetime(1.0).seconds
        10000.0
        """
        return lifetime(self.endurance, loadings_per_second)

    @property
    def ledger(self) -> Ledger:
        """Rows "memory" (reading, and the wait for it beyond the writing) and "write"."""
        wait = np.maximum(self.memory_time - self.write_time, 0.0)
        return ledger_of(
            [("memory", self.memory_energy, wait, 0.0), ("write", self.write_energy, self.write_time, 0.0)], LOADING
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, ready for JSON; None: unknown, and an endurance without end (wear is 0)."""
        figures = (
            "cells",
            "pulses",
            "bits",
            "write_energy",
            "write_time",
            "memory_energy",
            "memory_time",
            "energy",
            "time",
        )
        found = {name: plain(getattr(self, name)) for name in figures}
        return found | {"endurance": self.endurance.counted, "wear": self.wear, "notes": list(self.notes)}

    def __str__(self) -> str:
        if np.ndim(self.energy):
            return f"Loading of matrices over {np.shape(self.energy)}"
        lines = [
            f"{float(self.cells):,.0f} cells, {amount(self.pulses, 'pulses')}",
            f"write   {quantity(float(self.write_energy), 'J')}, {quantity(float(self.write_time), 's')}",
            f"memory  {quantity(float(self.memory_energy), 'J')}, {quantity(float(self.memory_time), 's')}",
            f"wear    {worn(self.wear)} a loading: {self.endurance}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__


@overload
def loading(
    what: Any,
    shape: tuple[Any, Any],
    *,
    copies: Any = 1,
    parallel: int | None = None,
    arrays: int | None = None,
    memory: Device | MemoryInterface | None = None,
    driver: Device | WriteDriver | None = None,
) -> Loading: ...
@overload
def loading(
    what: Plan,
    *,
    parallel: int | None = None,
    arrays: int | None = None,
    memory: Device | MemoryInterface | None = None,
    driver: Device | WriteDriver | None = None,
) -> PlanLoading: ...
def loading(
    what: Any,
    shape: tuple[Any, Any] | None = None,
    *,
    copies: Any = 1,
    parallel: int | None = None,
    arrays: int | None = None,
    memory: Device | MemoryInterface | None = None,
    driver: Device | WriteDriver | None = None,
) -> Any:
    """What it takes to write a matrix into a device, or a model into a system.

    Args:
        what: a device, its model, or a plan.
        shape: (n_in, n_out), integers or arrays of them; a plan has shapes of its own.
        copies: matrices of that shape.
        parallel: cells of an array that are written side by side; by default all of a word line.
        arrays: arrays that are written side by side; by default all of a matrix. Matrices of a plan follow one another.
        memory: where the weights come from: a `MemoryInterface` or a component; by default DRAM at 3.7 pJ a bit.
        driver: what gives the pulses, a `WriteDriver` or a component, for cells with a law of write-verify whose pulses
            have no time and energy of their own.

    Returns:
        A `Loading`, or a `PlanLoading`: energy (J), time (s), cells, pulses, wear; what is not known of a device is
        unknown, never guessed.

    Raises:
        StudyError: sizes that are not positive and whole, a memory or driver that is none, traced values.

    Example:
        >>> print(pim.loading(pim.preset("rram-wan2022"), (4096, 4096)))
        >>> pim.loading(pim.preset("rram-radar"), (512, 512), parallel=64).pulses
        >>> pim.loading(plan).energy
    """
    if any(isinstance(value, Tracer) for value in jax.tree.leaves((shape, getattr(what, "model", what)))):
        raise StudyError("what a loading takes is found outside jit, of sizes and devices that have values")
    for name, value in (("parallel", parallel), ("arrays", arrays)):
        if value is not None:
            check_count(name, value)
    source = memory_interface(memory)
    pulses = _model(driver, WriteDriver, "driver", "write-driver-rram") if driver is not None else None
    if isinstance(what, Plan):
        if shape is not None:
            raise StudyError("a plan has matrices of its own: leave the shape away, or give a device")
        return plan_loading(what, lambda device, sizes: load(device, *sizes, 1, parallel, arrays, source, pulses))
    if shape is None:
        raise StudyError("the loading of a device needs the shape of a matrix: pim.loading(device, (n_in, n_out))")
    for name, value in (("n_in", shape[0]), ("n_out", shape[1]), ("copies", copies)):
        check_count(name, value)
    return load(what, *shape, copies, parallel, arrays, source, pulses)


@dataclass(frozen=True, eq=False)
class Load:
    """The loading of the weights of a product, found when it is asked for: many costs never need it."""

    device: Any
    n_in: Any
    n_out: Any
    vectors: Any
    copies: Any
    memory: MemoryInterface

    def __call__(self) -> Loading:
        """Find it."""
        return loading(self.device, (self.n_in, self.n_out), copies=self.copies, memory=self.memory)

    @property
    def told(self) -> str:
        """For what the weights are loaded."""
        vectors = float(self.vectors)
        return "loaded for this vector" if vectors == 1 else f"loaded once for these {vectors:,.0f} vectors"


def load(
    what: Any,
    n_in: Any,
    n_out: Any,
    copies: Any,
    parallel: int | None,
    arrays: int | None,
    memory: MemoryInterface,
    driver: WriteDriver | None,
) -> Loading:
    """The loading of matrices, of sizes that are checked; see `loading`."""
    n_in, n_out, copies = np.broadcast_arrays(*(np.asarray(size, np.float64) for size in (n_in, n_out, copies)))
    found = written(what, Shape(n_in, n_out, copies, parallel, arrays, driver))
    zero = np.zeros(np.shape(n_in))
    cells, pulses, energy, time, bits = (np.asarray(figure + zero) for figure in found[:5])
    from_memory = np.where(bits > 0, float(memory.latency) + bits / 8 / float(memory.bytes_per_second), 0.0)
    told = (
        f"weights come from a memory outside at {float(memory.read_energy_per_bit) * 1e12:.3g} pJ a bit and "
        f"{float(memory.bytes_per_second) / 1e9:.3g} GB/s, read while they are written; nothing leaks meanwhile"
    )
    return Loading(
        cells=cells,
        pulses=pulses,
        bits=bits,
        write_energy=energy,
        write_time=time,
        memory_energy=bits * float(memory.read_energy_per_bit),
        memory_time=from_memory,
        endurance=endurance_of(what),
        notes=(told, *found.notes),
    )


def memory_interface(memory: Any) -> MemoryInterface:
    """The memory from which weights come, by default `dram-ddr4-interface`."""
    return _default_memory() if memory is None else _model(memory, MemoryInterface, "memory", "dram-ddr4-interface")


@cache
def _default_memory() -> MemoryInterface:
    return component("dram-ddr4-interface").model


def _model(given: Any, kind: type, name: str, example: str) -> Any:
    model = given.model if isinstance(given, Device) else given
    if not isinstance(model, kind):
        raise StudyError(f"{name} is a {type(model).__name__}: give a {kind.__name__}, as pim.component({example!r})")
    return model


def amount(value: Any, what: str) -> str:
    """A count that may be unknown."""
    return f"{what} unknown" if np.isnan(value) else f"{float(value):,.0f} {what}"


def worn(share: float | None) -> str:
    """A share of an endurance, printed."""
    return "unknown" if share is None else f"{share:.2g} of the endurance"
