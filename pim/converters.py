"""The output converters around a matrix's arrays: what is frozen in them, and what they make of the columns' sums."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.arriving import Arriving
from pim.devices.converters.span import Span
from pim.devices.macro import AnalogMacro
from pim.devices.random import normal, normal_part, site_key
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


ROLLED = 1 << 14
"""Numbers of one conversion from which conversions are a loop in the compiled program, too, and not written out."""


class Conversion(NamedTuple):
    """All conversions of a tile, along a leading axis; or one of them, without."""

    number: Any
    column: Any
    count: Float[Array, "*conversions"]
    deviation: Float[Array, "*conversions #batch #columns"] | None
    span: Span
    adcs: Float[Array, "*conversions numbers 1 columns"] | None


def convert_and_add(
    macro: AnalogMacro,
    arriving: Arriving,
    counts: Float[Array, "times parts"],
    span: Span,
    adcs: Float[Array, "numbers parts columns"] | None,
    unit: Float[Array, ""] | None = None,
) -> Float[Array, "batch columns"]:
    """Noise and ADC, then shift-and-add over what is left of reads and slices (`ShiftAdd`).

    Args:
        macro: the device.
        arriving: what comes to the converters.
        counts: what each conversion counts.
        span: ranges, [parts, #columns].
        adcs: the numbers that make the converters.
        unit: the smallest product, in the unit of the sums; by default that of sums in cells.

    A sum over whole columns, conversion by conversion: as a reduction over a leading axis it would not be vectorised (a
    third slower than the bare matrix product, where this is a tenth). Where columns are long it is a loop, since noise
    and converters written out for each of them take minutes to compile.
    """
    unit = smallest_product(macro) if unit is None else unit
    times, parts = counts.shape
    (batch, columns), noise = arriving.sums[0].shape, arriving.noise

    def add(total: Float[Array, "batch columns"], one: Conversion) -> tuple[Float[Array, "batch columns"], None]:
        column = one.column
        if noise is not None and one.deviation is not None:
            draws = normal_part(noise.keys, one.number, (times * parts, columns), noise.draws)
            column = column + one.deviation * draws
        if macro.adc is not None:
            if macro.environment is not None:
                column = macro.environment.seen_by_adc(column, macro.adc.step(one.span), macro.vdd)
            column = macro.adc.convert(column, one.span, one.adcs, unit)
        return total + column * one.count, None

    def each_time(of_parts: Float[Array, "parts *n"]) -> Float[Array, "conversions *n"]:
        return jnp.tile(of_parts, (times, *(1,) * (of_parts.ndim - 1)))

    each = Conversion(
        number=jnp.arange(times * parts),
        column=arriving.sums,
        count=counts.reshape(-1),
        deviation=None if noise is None else noise.deviation,
        span=jax.tree.map(lambda end: each_time(end[:, None]), span),
        adcs=None if adcs is None else each_time(jnp.moveaxis(adcs, 1, 0)[:, :, None]),
    )
    total = jnp.zeros((batch, columns), jnp.float32)
    if not isinstance(arriving.sums, list) and batch * columns >= ROLLED:
        return jax.lax.scan(add, total, each)[0]
    for k in range(times * parts):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], each._replace(column=None))
        total, _ = add(total, one._replace(number=k, column=arriving.sums[k]))
    return total
