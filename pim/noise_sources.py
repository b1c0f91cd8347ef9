"""The sources of error of an analog product, and a macro without some of them.

Each source is a part of the hardware that can be taken out: what is left computes as if it were perfect. The order is
that in which a product meets them, but for the output converter, which comes last: its steps and its clipping are those
of sums that have all other errors.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.devices.cells.read_noise import Shifting
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.converters.stepless_adc import Stepless
from pim.devices.macro import AnalogMacro
from pim.devices.record import fields_of
from pim.mapping.encoding import lines_meet


def without_quantisation(macro: AnalogMacro) -> AnalogMacro:
    """Weights of any value in cells of any state, and inputs without steps (their range, and its clipping, too)."""
    cell = replace(macro.cell, levels=None, ladder=None)
    slicing = {"slices": 1, "slicing": "bits", "weight_bits": None, "weight_range": "largest"}
    return replace(macro, cell=cell, dac=ExactDAC(), **slicing)


def without_write(macro: AnalogMacro) -> AnalogMacro:
    """Cells that take and keep the conductance they are told: no error, ageing, slow noise, temperature or wear."""
    laws = ("write_error", "ladder", "variation", "relaxation", "drift", "slow_noise", "temperature", "wear")
    return replace(macro, cell=replace(macro.cell, **dict.fromkeys(laws)))


def without_faults(macro: AnalogMacro) -> AnalogMacro:
    """No stuck cells."""
    return replace(macro, cell=replace(macro.cell, faults=None))


def without_dac(macro: AnalogMacro) -> AnalogMacro:
    """Input converters that are all alike and straight; they keep their steps and their noise."""
    return replace(macro, dac=_cleared(macro.dac, ("mismatch", "inl", "sigma_unit")))


def without_wires(macro: AnalogMacro) -> AnalogMacro:
    """Word and bit lines without resistance."""
    return replace(macro, wires=None)


def without_nonlinearity(macro: AnalogMacro) -> AnalogMacro:
    """Cells whose current is proportional to the voltage, on bit lines that hold their sum."""
    line = None if macro.bends else macro.bit_line
    return replace(macro, cell=replace(macro.cell, conduction=None), bit_line=line)


def without_read(macro: AnalogMacro) -> AnalogMacro:
    """No noise of cells, lines and converters.

    What slow noise has of it (`SlowNoise.has_white`) stays: it is not drawn where a product is read without a key.
    """
    line = macro.bit_line if macro.bends else None
    adc = None if macro.adc is None else replace(macro.adc, noise=None, enob=None)
    cell = replace(macro.cell, read_noise=None)
    return replace(macro, cell=cell, bit_line=line, dac=_cleared(macro.dac, ("noise",)), adc=adc)


def without_adc(macro: AnalogMacro) -> AnalogMacro:
    """Output converters without steps, clipping, mismatch, INL and influence of temperature and supply."""
    environment, adc = macro.environment, macro.adc
    if environment is not None:
        moved = [name for name in fields_of(environment) if name.startswith(("adc_", "reference_"))]
        environment = replace(environment, **{name: jnp.zeros_like(getattr(environment, name)) for name in moved})
    if adc is not None:
        adc = replace(adc, mismatch=None, inl=None, architecture=Stepless(), reconstruct="level")
    return replace(macro, adc=adc, environment=environment)


SOURCES: Mapping[str, Callable[[AnalogMacro], AnalogMacro]] = {
    "quantisation": without_quantisation,
    "write": without_write,
    "faults": without_faults,
    "dac": without_dac,
    "wires": without_wires,
    "nonlinearity": without_nonlinearity,
    "read": without_read,
    "adc": without_adc,
}
"""Sources in the order in which they are put in, each with what takes it out of a macro."""

MEANINGS: Mapping[str, str] = {
    "quantisation": "weight bits, cell levels, input steps and range",
    "write": "write error, variation, relaxation, drift, slow noise, ladder, temperature, wear",
    "faults": "stuck cells",
    "dac": "mismatch and INL of input converters",
    "wires": "IR drop",
    "nonlinearity": "current against voltage, bit lines that bend",
    "read": "noise of cells, lines and converters",
    "adc": "steps, clipping, mismatch and INL of output converters",
}
"""What belongs to each source."""


def without(macro: AnalogMacro, sources: Collection[str]) -> AnalogMacro:
    """The macro without those sources of error.

    >>> without(macro, ["adc", "read"])
    """
    for name in SOURCES:
        if name in sources:
            macro = SOURCES[name](macro)
    return macro


def present(macro: AnalogMacro) -> tuple[str, ...]:
    """The sources that a macro has, in their order; quantisation is always one."""
    found = {name for name, take_out in SOURCES.items() if not _same(take_out(macro), macro)}
    if macro.cell.slow_noise is not None and macro.cell.slow_noise.has_white:
        found.add("read")
    return tuple(name for name in SOURCES if name in found)


def same_cells(a: AnalogMacro, b: AnalogMacro) -> bool:
    """Whether a matrix programmed into either macro gives the same signed weights.

    Converters and bit lines do not enter them (but for lines that are cut off one by one, and kept apart), nor does
    read noise whose mean is zero.
    """
    return _same(*(_programmed_by(macro) for macro in (a, b)))


def _programmed_by(macro: AnalogMacro) -> AnalogMacro:
    cell = macro.cell
    if not isinstance(cell.read_noise, Shifting):
        cell = replace(cell, read_noise=None)
    line = macro.bit_line if lines_meet(macro) else None
    return replace(macro, cell=cell, dac=ExactDAC(), adc=None, bit_line=line)


def _cleared(converter: Any, names: Collection[str]) -> Any:
    """A converter without those of the named parts that it has."""
    return replace(converter, **{name: None for name in names if name in fields_of(converter)})


def _same(a: Any, b: Any) -> bool:
    """Whether two records are the same: taking out what is absent changes nothing."""
    (left, shape), (right, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return shape == other and all(x is y or np.array_equal(x, y) for x, y in zip(left, right, strict=True))
