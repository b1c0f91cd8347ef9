"""The grid of column sums: of what they are whole numbers, how large they can grow, and whether they have a sign."""

from typing import Any

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.mapping.encoding import encoding_of
from pim.mapping.residual import residual_gains

ONE_LINE = ("differential_digital", "offset", "offset_digital")
"""Encodings that convert the current of single lines, with the g_min of every cell in it."""


def converts_lines(macro: AnalogMacro) -> bool:
    """Whether single lines are converted, whose cells only add, and not a difference."""
    return macro.encoding in ONE_LINE or macro.weight_phases == 2


def sums_are_signed(macro: AnalogMacro) -> bool:
    """Whether sums of either sign can come to the converters."""
    driven_both_ways = macro.dac.bipolar and macro.input_phases == 1
    subtracted = macro.shift_add != "digital" and macro.dac.code == "twos_complement"  # the sign's step, before the ADC
    return driven_both_ways or subtracted or not converts_lines(macro)


def largest_sum(macro: AnalogMacro):
    """The largest sum that an array could ever give, in full-conductance, full-input cells.

    Where slices are added in front of the converter, in the unit of a whole weight.
    """
    largest = macro.rows_at_once * encoding_of(macro).largest_signal(macro.cell.g_min, macro.cell.g_max)
    return largest * _slices_added(macro)


def _slices_added(macro: AnalogMacro) -> Any:
    """What all slices together count at most."""
    if macro.shift_add != "all":
        return 1.0
    if macro.slicing == "residual":
        return residual_gains(macro).sum()
    return encoding_of(macro).digits(jnp.ones((1, 1)), macro.weight_bits, macro.slices).gains.sum()


def largest_digit(macro: AnalogMacro) -> Float[Array, ""]:
    """The whole number that a full cell stands for; with slices added in front of the converter, a whole weight.

    Raises DeviceError where weights are continuous.
    """
    if macro.weight_bits is None:
        raise DeviceError(f"{_needs_grid(macro)}; weights are continuous: set weight_bits")
    if macro.shift_add == "all":
        return 2.0 ** (macro.weight_bits - 1.0) - 1.0
    bits = macro.weight_bits - (0.0 if macro.encoding == "offset_digital" else 1.0)
    return 2.0 ** jnp.ceil(bits / macro.slices) - 1.0


def grid_unit(macro: AnalogMacro) -> Float[Array, ""]:
    """What sums are whole numbers of: the least weight digit times the least input.

    Raises DeviceError where sums are no whole numbers of anything.
    """
    digit = largest_digit(macro)
    if macro.encoding == "offset":
        raise DeviceError(
            f"{_needs_grid(macro)}; encoding = 'offset' leaves the g_min of every cell in them: take 'differential' or "
            "'offset_reference'"
        )
    if macro.encoding == "differential_two_sided" and macro.weight_phases == 2:
        raise DeviceError(
            f"{_needs_grid(macro)}; with read_phases = 4 the lines of encoding = 'differential_two_sided' hold halves "
            "of a digit: take 'differential', or read_phases = 1 or 2"
        )
    level = macro.dac.largest_level if macro.shift_add == "digital" else macro.dac.top
    return 1.0 / level / digit


def smallest_product(macro: AnalogMacro) -> Float[Array, ""] | None:
    """The unit to whose whole numbers the ADC is to round; None: it is not.

    Raises DeviceError where sums are no whole numbers of anything.
    """
    if macro.adc is None or macro.adc.reconstruct != "integer":
        return None
    return grid_unit(macro)


def check_pedestal(macro: AnalogMacro) -> None:
    """Raise DeviceError if sums ought to be whole numbers, but hold the g_min of every cell; only outside jit."""
    adc, g_min = macro.adc, macro.cell.g_min
    if adc is None or isinstance(g_min, Tracer) or not converts_lines(macro):
        return
    if float(g_min) > 0 and (adc.reconstruct == "integer" or adc.range_rule == "granular"):
        raise DeviceError(
            f"{_needs_grid(macro)}; single lines are converted, and cell.g_min = {float(g_min):g} S of every cell is "
            "in their sums: take the difference of a pair (encoding = 'differential', read_phases = 1 or 2)"
        )


def _needs_grid(macro: AnalogMacro) -> str:
    granular = macro.adc is not None and macro.adc.range_rule == "granular"
    asked = "adc.range_rule = 'granular'" if granular else "adc.reconstruct = 'integer'"
    return f"{asked} needs sums that are whole numbers of a smallest product"
