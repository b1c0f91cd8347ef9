"""What writing matrices of weights into a device takes, family by family, in arrays of shapes.

Analog arrays: all slices, both cells of a pair and reference columns are written, in the rows that a matrix has. The
cells of a word line are written side by side, or so many at a time, and wait for the slowest of them; word lines of an
array follow one another; arrays are written side by side, or so many at a time, each round as long as the fullest
array takes. Digital macros write a word line a cycle. Other devices write into their memories.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pim.costs import near_dram_cost
from pim.costs.ledger import UNKNOWN
from pim.costs.lifetime import noted
from pim.devices.components.write_driver import WriteDriver
from pim.devices.cost_factors import CostFactors
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.devices.writing import Writing, cell_writing
from pim.errors import StudyError
from pim.mapping.encoding import encoding_of
from pim.mapping.formatted import Formatted
from pim.mapping.tiles import column_arrays

CONTINUOUS_BITS = 8.0
"""Bits in the memory outside of a weight whose cells take any value."""


class Written(NamedTuple):
    """What is written, and what that takes. NaN: unknown."""

    cells: Any  # cells, or bits in a memory
    pulses: Any  # on all of them together
    energy: Any  # J
    time: Any  # s
    bits: Any  # of the weights, as they come from a memory outside
    notes: tuple[str, ...] = ()


class Shape(NamedTuple):
    """Matrices of weights, sizes in float64 and of one shape, and how arrays of cells are written."""

    n_in: Any
    n_out: Any
    copies: Any
    parallel: int | None = None
    arrays: int | None = None
    driver: WriteDriver | None = None
    activations: bool = False
    """Keys or values: reference columns stay as they are, and no memory outside holds them."""

    @property
    def weights(self) -> Any:
        """Weights in all."""
        return self.n_in * self.n_out * self.copies


def written(what: Any, shape: Shape) -> Written:
    """What writing matrices into a device (or its model) takes.

    Raises StudyError for a device of which that is not known.
    """
    model = what.model if isinstance(what, Device) else what
    if isinstance(model, AnalogMacro):
        return _factored(_into_arrays(what, model, shape), model.cost_factors)
    if isinstance(model, DigitalMacro):
        return _factored(_into_digital_macro(what, model, shape), model.cost_factors)
    if isinstance(model, DigitalUnit):
        bits = shape.weights * 8 * _figure(model.bytes_per_operand)
        energy = bits / 8 * float(model.buffer.energy_per_byte())
        return Written(bits, UNKNOWN, energy, bits / 8 / float(model.bytes_per_second), bits)
    if isinstance(model, Roofline):
        bits = shape.weights * 8 * _figure(model.bytes_of("weight"))
        time = bits / 8 / float(model.bandwidth)
        return Written(bits, UNKNOWN, bits / 8 * _figure(model.energy_per_byte), time, bits)
    if isinstance(model, NearDram):
        return _into_rows(model, shape)
    if isinstance(model, NearFlash):
        return _into_pages(model, shape)
    if isinstance(model, Ideal | Formatted):
        nothing = np.zeros(np.shape(shape.weights))
        return Written(nothing, nothing, nothing, nothing, nothing)
    raise StudyError(f"what writing weights into a {type(model).__name__} takes is not known")


def _factored(found: Written, factors: CostFactors | None) -> Written:
    """The same with a device's factors, which are on all that it costs."""
    if factors is None:
        return found
    return found._replace(energy=found.energy * _figure(factors.energy), time=found.time * _figure(factors.latency))


def _into_arrays(what: Any, macro: AnalogMacro, shape: Shape) -> Written:
    encoding, slices = encoding_of(macro), macro.slices
    column_arrays(1, macro)  # raises where an array cannot hold a weight
    per_array = encoding.outputs_per_array(macro.columns, slices)
    side = np.ceil(shape.n_out / per_array)

    def on_a_line(n_out: Any, arrays: Any) -> Any:
        """Cells of a word line that are written, in all arrays side by side."""
        columns = n_out * encoding.cells_a_weight if shape.activations else encoding.cell_columns(n_out, arrays)
        return columns * slices

    cells = shape.copies * shape.n_in * on_a_line(shape.n_out, side)
    fullest = on_a_line(np.ceil(shape.n_out / side), 1)
    report, told = _of_a_cell(what, macro, shape.driver)
    line = np.vectorize(lambda count: _seconds(report, int(count), shape.parallel), otypes=[float])(fullest)
    arrays = shape.copies * np.ceil(shape.n_in / macro.rows) * side
    rounds = 1.0 if shape.arrays is None else np.ceil(arrays / shape.arrays)
    time = rounds * np.minimum(shape.n_in, macro.rows) * line
    at_a_time = "all" if shape.parallel is None else f"{shape.parallel:,}"
    at_once = "all arrays" if shape.arrays is None else f"{shape.arrays:,} arrays"
    how = f"cells of a word line are written {at_a_time} at a time, word lines one after another, {at_once} at once"
    bits = shape.weights * (CONTINUOUS_BITS if macro.weight_bits is None else float(macro.weight_bits))
    if macro.weight_bits is None and not shape.activations:
        told = (*told, f"weights without bits come as {CONTINUOUS_BITS:g} bits")
    return Written(cells, cells * _figure(report.mean), cells * _figure(report.energy), time, bits, (how, *told))


def _seconds(report: Writing, cells: int, parallel: int | None) -> float:
    """Time (s) of a word line."""
    return _figure(report.for_cells(cells, parallel=parallel or cells).time)


def _of_a_cell(what: Any, macro: AnalogMacro, driver: WriteDriver | None) -> tuple[Writing, tuple[str, ...]]:
    """What writing a cell takes, and where that comes from."""
    report = cell_writing(macro.cell)
    told = [report.basis]
    if driver is not None:
        if report.mean is None:
            raise StudyError(
                "a driver prices pulses, and how many a cell takes is not known of this device: give it a law of "
                "write-verify (cell.write_error), or leave the driver away"
            )
        middle = (macro.cell.g_min + macro.cell.g_max) / 2
        pulse, width = float(driver.energy(middle)), float(driver.pulse_width)
        report = replace(report, time=report.mean * width, energy=report.mean * pulse)
        told.append(
            f"a pulse on a cell in mid-window takes {pulse:.3g} J and {width:.3g} s of the driver; verifying is free"
        )
    elif report.mean is None:
        for name, known in (("write_energy", report.energy), ("write_latency", report.time)):
            path = f"cell.facts.{name}"
            if known is not None:
                told.append(f"{path}{noted(what, path)}")
    absent = [name for name, known in (("energy", report.energy), ("time", report.time)) if known is None]
    if absent:
        told.append(
            f"{' and '.join(absent)} of writing a cell unknown: give cell.facts.write_energy and write_latency, or "
            "what pulses and verifying reads of a write-verify take"
        )
    return report, tuple(told)


def _into_digital_macro(what: Any, macro: DigitalMacro, shape: Shape) -> Written:
    """A bit a cell; the word lines of an array follow one another, a cycle each."""
    bits = shape.weights * float(macro.weight_bits)
    known = None if macro.facts is None else macro.facts.write_energy
    lines = np.minimum(shape.n_in, macro.rows * macro.row_groups)
    groups = np.ceil(np.ceil(shape.n_in / macro.rows) / macro.row_groups)
    arrays = shape.copies * groups * np.ceil(shape.n_out / macro.outputs)
    rounds = 1.0 if shape.arrays is None else np.ceil(arrays / shape.arrays)
    slower = 1.0 if macro.supply is None else float(macro.supply.delay(macro.vdd))
    at_once = "all arrays" if shape.arrays is None else f"{shape.arrays:,} arrays"
    told = [f"a word line is written in a cycle, {at_once} at once"]
    path = "facts.write_energy"
    told.append(f"{path} unknown: give it" if known is None else f"{path}{noted(what, path)}")
    return Written(
        bits, UNKNOWN, bits * _figure(known), rounds * lines * slower / float(macro.clock), bits, tuple(told)
    )


def _into_rows(device: NearDram, shape: Shape) -> Written:
    """Rows of a DRAM, filled through its pins."""
    bits = shape.weights * float(device.memory.bits)
    ledger = near_dram_cost.commands_cost(device, device.filling(shape.weights))
    energy, time = (np.asarray(figure, np.float64).sum(axis=0) for figure in (ledger.energy, ledger.latency))
    return Written(bits, UNKNOWN, energy, time, bits, ("rows are filled through the pins, all channels at once",))


def _into_pages(flash: NearFlash, shape: Shape) -> Written:
    """Pages of a flash, all planes side by side; blocks are taken to be erased."""
    pages = np.asarray(flash.pages_of(shape.n_in, shape.n_out), np.float64) * shape.copies
    over = 8 * flash.page_bytes * pages * _figure(flash.channel_energy)
    time = np.asarray(flash.filling_time(pages), np.float64)
    told = ("pages are programmed in erased blocks, all planes side by side",)
    return Written(shape.weights * flash.bits, UNKNOWN, over + pages * _figure(flash.program_energy), time,
                   shape.weights * flash.bits, told)  # fmt: skip


def _figure(value: Any) -> float:
    return UNKNOWN if value is None else float(value)
