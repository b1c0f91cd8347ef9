"""How the product of a programmed matrix is computed: in the fastest way that gives what the device gives.

| formulation | sums of a tile                             | where it holds                                       |
|-------------|--------------------------------------------|------------------------------------------------------|
| analog      | float32 products of conductances           | always                                               |
| integer     | int8 products of digits, int32 sums        | cells are exactly at their targets, without noise    |
| packed      | AND and population count, 32 rows a word   | in addition input steps have one bit, and digits few |
| lossless    | none: the product of the integers at once  | in addition no converter changes a sum               |

The choice is made of concrete values, outside jit, and is part of the compiled structure.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.core import Tracer

from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.pulse_width_dac import PulseWidthDAC
from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import fields_of
from pim.exact_product import limbs_of
from pim.integer_sums import LARGEST
from pim.mapping.encoding import encoding_of
from pim.packed_bits import WORD
from pim.ranges import adc_ranges
from pim.sum_grid import converts_lines, largest_digit, sums_are_signed

KINDS = ("lossless", "packed", "integer", "analog")
UNROLLED = 512
"""Population counts that a packed tile may be written out in: beyond, compiling takes longer than is gained."""
PLANES = 4
"""Planes of bits a digit up to which counting them is faster than products of bytes."""
WHOLE_ANYWAY = ("differential", "differential_two_sided", "offset_reference")
"""Encodings whose signal is a whole number of digits whatever g_min; of the others it is where g_min = 0."""
HALVED = ("differential_two_sided", "offset", "offset_reference")
"""Encodings whose cells take halves of a digit."""
UNMEASURED = ("full", "granular", "given")
"""Rules of converter ranges that go by no measured sums."""
MOST_BITS = 16
"""Bits of the finest output converter."""
NEAR = 1e-6
"""Of the largest sum: nearer than that is float rounding."""
HARMLESS = ("cell", "dac", "adc", "bit_line", "periphery")
"""Parts of a macro that are looked at one by one; any other that is there may change what sums are."""


@dataclass(frozen=True)
class Formulation:
    """A way to compute the product, and why it was taken.

    Attributes:
        kind: one of `KINDS`.
        planes: planes of bits of a digit, for "packed".
        limbs: limbs of weights and of inputs, for "lossless".
        reason: what decided, in words; no part of the structure.
    """

    kind: str = "analog"
    planes: int = 0
    limbs: tuple[int, int] = (0, 0)
    reason: str = field(default="", compare=False)

    @property
    def whole(self) -> bool:
        """Whether sums are counted in whole numbers."""
        return self.kind != "analog"

    def __str__(self) -> str:
        """Kind and reason."""
        return f"{self.kind} ({self.reason})" if self.reason else self.kind


ANALOG = Formulation()


def choose(macro: AnalogMacro, n_in: int, *, calibrated: bool = True) -> Formulation:
    """The fastest formulation that holds for a device and a matrix of `n_in` inputs.

    `calibrated` says whether ranges of converters will be measured; else they span the largest sum. Where a value that
    decides is traced, it is "analog".
    """
    for kind in KINDS:
        found = _tried(kind, macro, n_in, calibrated)
        if isinstance(found, Formulation):
            return found
    raise AssertionError("analog always holds")


def forced(kind: str, macro: AnalogMacro, n_in: int, *, calibrated: bool = True) -> Formulation:
    """The formulation of that kind; DeviceError says why where it does not hold."""
    if kind not in KINDS:
        raise DeviceError(f"formulation = {kind!r} is none of {', '.join(KINDS)}")
    found = _tried(kind, macro, n_in, calibrated)
    if not isinstance(found, Formulation):
        raise DeviceError(
            f"formulation = {kind!r} does not give what this device gives: {found}; leave formulation=None for the "
            f"fastest that does (here {choose(macro, n_in, calibrated=calibrated).kind!r})"
        )
    return Formulation(found.kind, found.planes, found.limbs, "asked for")


def _tried(kind: str, macro: AnalogMacro, n_in: int, calibrated: bool) -> Formulation | str:
    """The formulation of a kind, or why it does not hold."""
    why = _not_whole(macro)
    if kind == "analog":
        return Formulation(kind, reason="" if why is None else why)
    if why is not None:
        return why
    if kind == "lossless":
        return _lossless(macro, n_in, calibrated)
    if kind == "packed":
        return _packed(macro)
    return Formulation(kind, reason="cells are exactly at their targets")


def _not_whole(macro: AnalogMacro) -> str | None:
    """Why sums are no whole numbers of a smallest product, as bytes hold them; None: they are."""
    if any(isinstance(value, Tracer) for value in jax.tree.leaves(macro)):
        return "values of the device are traced"
    if macro.weight_bits is None or macro.slicing != "bits":
        return "weights are continuous"
    if float(macro.weight_bits) % 1:
        return "weight_bits is no whole number"
    if macro.shift_add != "digital":
        return f"shift_add = {macro.shift_add!r} sums in front of the converter"
    parts = (name for name, f in fields_of(macro).items() if f.metadata["kind"] == "part" and name not in HARMLESS)
    other = next((name for name in parts if getattr(macro, name) is not None), None)
    if other is not None:
        return f"{other} changes what columns hold"
    if macro.bends:
        return "bit lines bend the sums on them"
    return _not_at_targets(macro) or _not_told_in_steps(macro)


def _not_at_targets(macro: AnalogMacro) -> str | None:
    """Why cells are not at whole steps between g_min and g_max."""
    cell = macro.cell
    for name, f in fields_of(cell).items():
        if f.metadata["kind"] == "part" and not f.metadata.get("told") and getattr(cell, name) is not None:
            return f"cells have cell.{name}"
    if cell.g_floor > cell.g_min or (cell.g_ceiling is not None and cell.g_ceiling < cell.g_max):
        return "cells cannot come to all of their targets"
    if (macro.encoding not in WHOLE_ANYWAY or converts_lines(macro)) and cell.g_min != 0:
        return "single lines are converted, with the g_min of every cell in their sums"
    if macro.encoding == "differential_two_sided" and converts_lines(macro):
        return "single lines are converted, which hold halves of a digit"
    digit = int(largest_digit(macro))
    steps = 2 * digit if macro.encoding in HALVED else digit
    if cell.levels is not None and (float(cell.levels) - 1) % steps:
        return f"cells have {float(cell.levels):g} levels, but digits need steps of 1/{steps} of the window"
    if _largest_signal(macro) > LARGEST:
        return f"a slice has signals of up to {_largest_signal(macro)}, more than a byte: raise slices"
    return None


def _not_told_in_steps(macro: AnalogMacro) -> str | None:
    """Why word lines are not driven at whole levels."""
    dac = macro.dac
    if not isinstance(dac, BitSerialDAC | MultibitDAC | PulseWidthDAC):
        return "inputs have no steps"
    if dac.numbers or dac.noise is not None or getattr(dac, "inl", None) is not None:
        return "input converters have errors"
    if float(dac.largest_level) > LARGEST or float(dac.largest_level) % 1:
        return f"inputs have levels of up to {float(dac.largest_level):g} a step, which are no bytes"
    return None


def _largest_signal(macro: AnalogMacro) -> int:
    """Largest whole number that a cell or pair counts."""
    signal = encoding_of(macro).largest_signal(macro.cell.g_min, macro.cell.g_max)
    return round(float(signal * largest_digit(macro)))


def _packed(macro: AnalogMacro) -> Formulation | str:
    if float(macro.dac.largest_level) > 1:
        return "input steps have more than one bit"
    planes = _largest_signal(macro).bit_length() + 1
    if planes > PLANES:
        return f"digits take {planes} planes of bits, which are slower to count than bytes to multiply"
    counts = macro.reads * macro.slices * planes * -(-macro.rows_at_once // WORD)
    if counts > UNROLLED:
        return f"a tile takes {counts} population counts, which compile too slowly"
    return Formulation("packed", planes=planes, reason="cells are at their targets and input steps have one bit")


def _lossless(macro: AnalogMacro, n_in: int, calibrated: bool) -> Formulation | str:
    assert macro.weight_bits is not None
    if macro.weight_scale not in ("column", "matrix"):
        return "weights have a scale for each tile"
    if macro.line_variance() is not None:
        return "bit lines are noisy"
    why = _changes_sums(macro, calibrated)
    if why is not None:
        return why
    limit, top = 2 ** (int(macro.weight_bits) - 1) - 1, int(macro.dac.top)
    if n_in * limit * top >= 1 << 31:
        return "the product may leave 32 bits"
    reason = "no converter changes a sum: the product of the integers"
    return Formulation("lossless", limbs=(limbs_of(limit), limbs_of(top)), reason=reason)


def _changes_sums(macro: AnalogMacro, calibrated: bool) -> str | None:
    """Why the output converters change a sum of whole numbers; None: they do not."""
    adc = macro.adc
    if adc is None:
        return None
    noise = adc.noise_variance()
    if adc.numbers or adc.inl is not None or (noise is not None and noise > 0):
        return "output converters have errors"
    if calibrated and adc.range_rule not in UNMEASURED:
        return "ranges of output converters are measured, and may clip"
    largest = macro.rows_at_once * _largest_signal(macro) * int(macro.dac.largest_level)
    if largest >= 1 << MOST_BITS:
        return f"sums of up to {largest} are more than output converters have codes for"
    sums = jnp.arange(-largest if sums_are_signed(macro) else 0, largest + 1, dtype=jnp.float32)
    unit = 1.0 / (largest_digit(macro) * macro.dac.largest_level)
    span = Span(*(end[0, :1, 0] / unit for end in adc_ranges(None, macro, 1, 1)))
    told = adc.convert(sums, span, None, jnp.ones(()))
    if jnp.abs(told - sums).max() < NEAR * largest:
        return None
    return f"output converters of {float(adc.bits):g} bits do not tell all sums of up to {largest} apart"
