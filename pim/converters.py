"""The output converters around a matrix's arrays: what is frozen in them, and what they make of the columns' sums."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.converters.span import Span
from pim.devices.macro import AnalogMacro
from pim.devices.random import normal, site_key
from pim.mapping.encoding import encoding_of
from pim.mapping.sharing import converter_of, converters_a_tile
from pim.mapping.tiles import column_arrays
from pim.sum_grid import smallest_product


def frozen_adcs(
    macro: AnalogMacro, key: Key[Array, ""] | None, tiles: int, n_out: int, layer: Any, operator: Any
) -> Float[Array, "tiles numbers slices columns"] | None:
    """The standard normal numbers that make the converter behind each column of some tiles.

    Columns that share a converter have the same ones. Where slices are added in front of it, they are one column. None
    where all converters are alike, or without a key.
    """
    adc = macro.adc
    if key is None or adc is None or adc.numbers == 0:
        return None
    arrays, encoding = column_arrays(n_out, macro), encoding_of(macro)
    slices = macro.converted_slices
    drawn = (adc.numbers, converters_a_tile(encoding, n_out, arrays, slices))
    index = converter_of(encoding, n_out, arrays, slices, adc.columns_per_adc)
    site = partial(site_key, key, layer=layer, operator=operator, use="adc")
    return jax.lax.map(lambda tile: normal(site(tile=tile), drawn)[:, index], jnp.arange(tiles))


def by_column(sums: Float[Array, "steps batch slices columns"]) -> list[list[Float[Array, "batch columns"]]]:
    """Sums of each step and slice: XLA does not see through one array of them, were they put together in one."""
    return [[sums[step, :, part] for part in range(sums.shape[2])] for step in range(sums.shape[0])]


def convert_and_add(
    macro: AnalogMacro,
    sums: list[list[Float[Array, "batch columns"]]],
    counts: Float[Array, "times parts"],
    span: Span,
    adcs: Float[Array, "numbers parts columns"] | None,
    unit: Float[Array, ""] | None = None,
) -> Float[Array, "batch columns"]:
    """ADC, then shift-and-add over what is left of reads and slices (`ShiftAdd`).

    Args:
        macro: the device.
        sums: what comes to the converters, as of `by_column`.
        counts: what each conversion counts.
        span: ranges, [parts, #columns].
        adcs: the numbers that make the converters.
        unit: the smallest product, in the unit of the sums; by default that of sums in cells.

    Written out as a chain of sums over whole columns: as a reduction over the leading axes it would not be vectorised
    (a third slower than the bare matrix product, where this is a tenth).
    """
    unit = smallest_product(macro) if unit is None else unit
    total = jnp.zeros(sums[0][0].shape, jnp.float32)
    for step, of_slices in enumerate(sums):
        for part, column in enumerate(of_slices):
            if macro.adc is not None:
                frozen = None if adcs is None else adcs[:, None, part]
                own = Span(*(end[None, part] for end in span))
                if macro.environment is not None:
                    column = macro.environment.seen_by_adc(column, macro.adc.step(own), macro.vdd)
                column = macro.adc.convert(column, own, frozen, unit)
            total = total + column * counts[step, part]
    return total
