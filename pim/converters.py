"""The converters around a matrix's arrays: what is frozen in them, the levels they apply, and the ranges they take."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import normal, normal_rows, row_keys, site_key
from pim.mapping.encoding import ENCODINGS
from pim.mapping.sharing import converter_of, converters_a_tile
from pim.mapping.tiles import column_arrays


def frozen_adcs(
    macro: AnalogMacro, key: Key[Array, ""] | None, shape: tuple[int, int], n_out: int, layer: Any, operator: Any
) -> Float[Array, "tiles numbers slices columns"] | None:
    """The standard normal numbers that make the converter behind each column, for `shape` = (tiles, columns).

    Columns that share a converter have the same ones. None where all converters are alike, or without a key.
    """
    adc = macro.adc
    if key is None or adc is None or adc.numbers == 0:
        return None
    tiles, columns = shape
    arrays = column_arrays(n_out, macro)
    drawn = (adc.numbers, converters_a_tile(n_out, arrays, macro.slices))
    index = converter_of(n_out, columns, arrays, macro.slices, adc.columns_per_adc)
    site = partial(site_key, key, layer=layer, operator=operator, use="adc")
    return jax.lax.map(lambda tile: normal(site(tile=tile), drawn)[:, index], jnp.arange(tiles))


def frozen_dacs(
    macro: AnalogMacro, key: Key[Array, ""] | None, n_in: int, layer: Any, operator: Any
) -> Float[Array, "numbers n_in"] | None:
    """The standard normal numbers that make the converter of each word line; None where all are alike."""
    if key is None or macro.dac.numbers == 0:
        return None
    return normal(site_key(key, layer=layer, operator=operator, use="dac"), (macro.dac.numbers, n_in))


def applied_levels(
    macro: AnalogMacro,
    levels: Float[Array, "steps batch n_in"],
    frozen: Float[Array, "numbers n_in"] | None,
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
    layer: Any,
    operator: Any,
) -> Float[Array, "steps batch n_in"]:
    """What the word lines get when told to take `levels`: the errors of their converters, drawn for each row."""
    draws = None
    if macro.dac.noise is not None and key is not None:
        site = site_key(key, layer=layer, operator=operator, use="dac")
        draws = jnp.moveaxis(normal_rows(row_keys(site, rows), levels.shape[::2]), 0, 1)
    return macro.dac.applied(levels, frozen, draws)


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


def largest_sum(macro: AnalogMacro) -> float:
    """The largest sum that an array could ever give, in full-conductance, full-input cells."""
    return macro.rows * ENCODINGS[macro.encoding].largest_signal


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
