"""Ranges of the output converters: what calibration inputs do to a programmed matrix, and what the rules make of it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.record import leaf, record
from pim.mapping.encoding import encoding_of


@record
class Ranges:
    """What calibration inputs do to a programmed matrix; `ADC.range_rule` makes the range of each ADC of it.

    Sums are in full-conductance, full-input cells: of each tile and slice, or of each of their columns too.
    """

    x: Float[Array, "*layers"] = leaf("1", "input that drives the word line fully")
    adc: Float[Array, "*layers tiles slices #columns"] = leaf(
        "1", "magnitude that the percentile of the sums stays below"
    )
    mean: Float[Array, "*layers tiles slices #columns"] | None = leaf("1", "mean of the sums", default=None)
    std: Float[Array, "*layers tiles slices #columns"] | None = leaf("1", "their standard deviation", default=None)


def adc_ranges(
    ranges: Ranges | None, macro: AnalogMacro, tiles: int, columns: int
) -> Float[Array, "tiles slices #columns"]:
    """Full scale of each ADC, for tiles of that many columns a slice.

    By its rule where calibrated, else the largest sum that the array could ever give.
    """
    if ranges is None or macro.adc is None:
        return jnp.full((tiles, macro.slices, 1), largest_sum(macro), jnp.float32)
    return ruled_ranges(macro, columns, ranges.adc, ranges.mean, ranges.std)


def smallest_product(macro: AnalogMacro) -> Float[Array, ""] | None:
    """What sums are whole numbers of, if the ADC is to round to them: the least weight digit times the least input.

    Raises DeviceError where sums are no whole numbers of anything.
    """
    if macro.adc is None or macro.adc.reconstruct != "integer":
        return None
    if macro.weight_bits is None or macro.encoding == "offset":
        cause = (
            "weights are continuous: set weight_bits"
            if macro.weight_bits is None
            else (
                "encoding = 'offset' leaves the g_min of every cell in them: take 'differential' or 'offset_reference'"
            )
        )
        raise DeviceError(
            f"adc.reconstruct = 'integer' needs sums that are whole numbers of a smallest product; {cause}"
        )
    largest_digit = 2.0 ** jnp.ceil((macro.weight_bits - 1.0) / macro.slices) - 1.0
    return macro.dac.lsb / largest_digit


def largest_sum(macro: AnalogMacro) -> Float[Array, ""]:
    """The largest sum that an array could ever give, in full-conductance, full-input cells."""
    return macro.rows_at_once * encoding_of(macro).largest_signal(macro.cell.g_min, macro.cell.g_max)


def measured_sums(
    macro: AnalogMacro, sums: Float[Array, "n slices columns"]
) -> tuple[Float[Array, "slices #columns"], Float[Array, "slices #columns"], Float[Array, "slices #columns"]]:
    """Percentile of the magnitude, mean and standard deviation of a tile's sums, of each column or over all of them."""
    each = macro.adc is not None and macro.adc.range_per == "column"
    over = {"axis": 0 if each else (0, 2), "keepdims": True}
    percentile = macro.adc.percentile if macro.adc is not None else 100.0
    return jnp.percentile(jnp.abs(sums), percentile, **over)[0], jnp.mean(sums, **over)[0], jnp.std(sums, **over)[0]


def ruled_ranges(
    macro: AnalogMacro,
    columns: int,
    found: Float[Array, "tiles slices #columns"],
    mean: Float[Array, "tiles slices #columns"] | None,
    std: Float[Array, "tiles slices #columns"] | None,
) -> Float[Array, "tiles slices #columns"]:
    """Full scale of the ADCs by their rule, from the measured percentile, mean and standard deviation.

    Raises DeviceError if that is not what the rule needs, for a slice of that many columns.
    """
    adc = macro.adc
    assert adc is not None
    if adc.range_rule == "full":
        return jnp.full_like(found, largest_sum(macro))
    if adc.range_rule == "snr":
        if mean is None or std is None:
            raise DeviceError("adc.range_rule = 'snr' needs the mean and spread of the sums: calibrate, or give them")
        found = jnp.clip(adc.snr_range(mean, std), 1e-6, largest_sum(macro))
    if found.shape[-1] != (columns if adc.range_per == "column" else 1):
        raise DeviceError(
            f"adc.range_per = {adc.range_per!r}, but ranges were found for {found.shape[-1]} of {columns} columns: "
            "calibrate again"
        )
    shared = {"column": None, "tile": None, "slice": 0, "matrix": (0, 1)}[adc.range_per]
    return found if shared is None else jnp.broadcast_to(found.max(axis=shared, keepdims=True), found.shape)
