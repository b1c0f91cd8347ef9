"""Ranges of the output converters: what calibration inputs do to a programmed matrix, and what the rules make of it."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.adc import ADC
from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import leaf, record, static
from pim.sum_grid import grid_unit, largest_sum, sums_are_signed

NARROWEST = 1e-6
"""Cells: no range is narrower, so that a tile of zeros has one."""


@record
class Ranges:
    """What calibration inputs do to a programmed matrix; `ADC.range_rule` makes the range of each ADC of it.

    Sums are in full-conductance, full-input cells: of each tile and slice, or of each of their columns too. Those that
    are added in front of the converter are in the unit of the whole input (and weight).
    """

    x: Float[Array, "*layers"] = leaf("1", "input that drives the word line fully")
    adc: Float[Array, "*layers tiles slices #columns"] = leaf(
        "1", "magnitude that the percentile of the sums stays below; with `low`, their upper end"
    )
    mean: Float[Array, "*layers tiles slices #columns"] | None = leaf("1", "mean of the sums", default=None)
    std: Float[Array, "*layers tiles slices #columns"] | None = leaf("1", "their standard deviation", default=None)
    low: Float[Array, "*layers tiles slices #columns"] | None = leaf(
        "1", "lower end of the sums, for codes that have one of their own; None: as far below zero", default=None
    )
    least: Float[Array, "*layers tiles slices #columns ends bits"] | None = leaf(
        "1", "ends, low and high, of the least mean square error, at 2 bits and more", default=None
    )
    least_code: str = static("code of the converters for which those were found", default="")
    read_as: str = static("what the sums were of (`read_as`); empty: not said", default="")


def read_as(macro: AnalogMacro) -> str:
    """What sums of the same shapes depend on: encoding, phases and what is added in front of the converters."""
    return f"encoding = {macro.encoding!r}, read_phases = {macro.read_phases}, shift_add = {macro.shift_add!r}"


def adc_ranges(ranges: Ranges | None, macro: AnalogMacro, tiles: int, columns: int) -> Span:
    """Range [tiles, slices, #columns] of each ADC, for tiles of that many columns a slice.

    By its rule where calibrated, else the largest sum that the array could ever give.

    Raises DeviceError if the sums have a sign and the codes have none, or if calibration did not find what the rule
    needs.
    """
    shape, adc = (tiles, macro.converted_slices, 1), macro.adc
    if adc is None:
        return Span(*(jnp.full(shape, end, jnp.float32) for end in _full(macro)))
    if adc.code == "unsigned" and sums_are_signed(macro):
        raise DeviceError(
            "adc.code = 'unsigned' has no codes below zero, but sums of either sign come to it: take another adc.code, "
            "or convert single lines (encoding = 'differential_digital', or read_phases = 4) whose inputs are not "
            "negative (dac.code = 'unsigned', or read_phases = 2 or 4)"
        )
    if adc.range_rule == "given":
        return Span(*(jnp.full(shape, end, jnp.float32) for end in adc.given_span()))
    if adc.range_rule == "granular":
        return Span(*(jnp.full(shape, end, jnp.float32) for end in _granular(macro, adc)))
    if ranges is None or adc.range_rule == "full":
        low, high = (jnp.full(shape, end, jnp.float32) for end in _full(macro))
        return adc.reaching(low, high)
    return measured_range(macro, ranges, tiles, columns)


def measured_range(macro: AnalogMacro, ranges: Ranges, tiles: int, columns: int) -> Span:
    """Range of the ADCs by a rule that goes by measured sums.

    Raises DeviceError if the rule needs other measurements, or if they were made of other sums than those of so many
    tiles and of a slice of that many columns.
    """
    adc = macro.adc
    assert adc is not None
    if ranges.read_as and ranges.read_as != read_as(macro):
        raise DeviceError(
            f"ranges were found for {ranges.read_as}, and this device has {read_as(macro)}: calibrate again"
        )
    if ranges.adc.shape[:2] != (tiles, macro.converted_slices):
        raise DeviceError(
            f"ranges were found for {ranges.adc.shape[0]} groups of rows and {ranges.adc.shape[1]} slices, and this "
            f"matrix has {tiles} and {macro.converted_slices}: calibrate again"
        )
    low, high = RULES[adc.range_rule](macro, adc, ranges)
    if high.shape[-1] != (columns if adc.range_per == "column" else 1):
        raise DeviceError(
            f"adc.range_per = {adc.range_per!r}, but ranges were found for {high.shape[-1]} of {columns} columns: "
            "calibrate again"
        )
    shared = {"column": None, "tile": None, "slice": 0, "matrix": (0, 1)}[adc.range_per]
    if shared is not None:
        low = jnp.broadcast_to(low.min(axis=shared, keepdims=True), low.shape)
        high = jnp.broadcast_to(high.max(axis=shared, keepdims=True), high.shape)
    return adc.reaching(low, high)


def _full(macro: AnalogMacro) -> Span:
    largest = largest_sum(macro)
    return Span(-largest if sums_are_signed(macro) else jnp.zeros(()), largest)


def _granular(macro: AnalogMacro, adc: ADC) -> Span:
    """An LSB is the unit of the sums, and zero is a code."""
    unit = grid_unit(macro)
    low, high, full = adc.limits()
    if adc.code == "offset" and sums_are_signed(macro):
        below = jnp.ceil(full / 2.0)
        return Span(-unit * below, unit * (full - below))
    if adc.code in ("offset", "unsigned"):
        return Span(unit * low, unit * high)
    return Span(-unit * full, unit * full)


def _percentile(macro: AnalogMacro, adc: ADC, ranges: Ranges) -> Span:
    return Span(-ranges.adc if ranges.low is None else ranges.low, ranges.adc)


def _power_of_two(macro: AnalogMacro, adc: ADC, ranges: Ranges) -> Span:
    low, high = _percentile(macro, adc, ranges)
    largest = largest_sum(macro)
    _, power = jnp.frexp(largest / jnp.minimum(jnp.maximum(high, -low), largest))  # in [2^(power-1), 2^power)
    high = largest * 2.0 ** (1.0 - power)
    return Span(-high if sums_are_signed(macro) else jnp.zeros_like(high), high)


def _snr(macro: AnalogMacro, adc: ADC, ranges: Ranges) -> Span:
    if ranges.mean is None or ranges.std is None:
        raise DeviceError("adc.range_rule = 'snr' needs the mean and spread of the sums: calibrate, or give them")
    low, high = adc.snr_range(ranges.mean, ranges.std)
    largest = largest_sum(macro)
    if adc.code != "offset":
        return Span(jnp.maximum(low, -largest), jnp.clip(high, NARROWEST, largest))
    high = jnp.minimum(high, largest)
    return Span(jnp.clip(low, -largest, high - NARROWEST), high)


def _minimum_error(macro: AnalogMacro, adc: ADC, ranges: Ranges) -> Span:
    if ranges.least is None or ranges.least_code != adc.code:
        raise DeviceError(
            f"adc.range_rule = 'minimum_error' with adc.code = {adc.code!r} needs ranges that were found for it: "
            "calibrate with this device"
        )
    place = jnp.clip(adc.bits - FEWEST_BITS, 0.0, ranges.least.shape[-1] - 1.0)
    below = jnp.floor(place)
    share = place - below
    at = below.astype(jnp.int32)
    after = jnp.minimum(at + 1, ranges.least.shape[-1] - 1)
    ends = (1.0 - share) * jnp.take(ranges.least, at, axis=-1) + share * jnp.take(ranges.least, after, axis=-1)
    return Span(ends[..., 0], ends[..., 1])


FEWEST_BITS = 2.0
RULES: dict[str, Callable[[AnalogMacro, ADC, Ranges], Span]] = {
    "percentile": _percentile,
    "power_of_two": _power_of_two,
    "snr": _snr,
    "minimum_error": _minimum_error,
}
"""What codes must reach, from measured sums."""
