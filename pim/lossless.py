"""Whether output converters lose nothing: every sum that an array can give is one of their codes."""

import jax
from jax.core import Tracer

from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.ranges import Ranges, adc_ranges
from pim.sum_grid import converts_lines, grid_unit, largest_sum, sums_are_signed

EXACT = 2.0**24
"""Whole numbers up to here are exact in float32."""
NEAR = 1e-5
"""Relative: float32 knows steps and ends no better."""


def is_lossless(macro: AnalogMacro, ranges: Ranges | None = None) -> bool:
    """Whether every sum of whole numbers comes through the converters as it is.

    That is so if sums are whole numbers of a smallest product (weights of some bits, ohmic cells and no g_min in the
    sums), if their largest, rows x largest digit x largest level, lies within the codes, and if these are no further
    apart than one smallest product: on the same grid, or rounded to it (`adc.reconstruct = "integer"`).
    What the cells do to the sums (write error, noise, drift) is not asked here. With converters that have noise or
    errors of their own the answer is no.

    Args:
        macro: the device, with concrete values: only outside jit.
        ranges: of its converters; by default those without calibration.

    >>> is_lossless(pim.replace(device, {"adc.bits": 9, "adc.range_rule": "granular"}).model)
    """
    adc = macro.adc
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((macro, ranges))):
        raise TypeError("is_lossless looks at concrete values: call it outside jit")
    if adc is None:
        return True
    noise = adc.noise_variance()
    if (noise is not None and float(noise) > 0) or any(
        part is not None for part in (adc.mismatch, adc.inl, adc.architecture)
    ):
        return False
    if macro.environment is not None or macro.bit_line is not None or macro.cell.conduction is not None:
        return False
    if converts_lines(macro) and float(macro.cell.g_min) > 0:
        return False
    try:
        unit = float(grid_unit(macro))
    except DeviceError:
        return False
    largest = round(float(largest_sum(macro)) / unit)
    if largest > EXACT:
        return False
    tiles, columns = (1, 1) if ranges is None else (ranges.adc.shape[0], ranges.adc.shape[2])
    span = adc_ranges(ranges, macro, tiles, columns)
    low, high = (end / unit for end in _codes_reach(macro, span))
    holds = bool((high >= largest * (1.0 - NEAR)).all())
    if sums_are_signed(macro):
        holds &= bool((low <= -largest * (1.0 - NEAR)).all())
    step = adc.step(span) / unit
    aligned = (abs(step - 1.0) < NEAR) & (abs(low - low.round()) < 1e-3)
    return holds and bool((aligned | ((adc.reconstruct == "integer") & (step < 1.0))).all())


def _codes_reach(macro: AnalogMacro, span: Span):
    """The sums that the lowest and the highest code stand for."""
    assert macro.adc is not None
    low, high, _ = macro.adc.limits()
    step = macro.adc.step(span)
    if macro.adc.code == "offset":
        return span.low, span.high
    return low * step, high * step
