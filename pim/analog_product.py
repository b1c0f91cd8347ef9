"""The product on cells as they are: sums of currents in float32, with all their errors.

Slices are folded into the columns and input steps into the batch, so that a tile is one matrix product; ADC and
shift-and-add are elementwise behind it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from pim.arriving import Arriving, by_conversion
from pim.circuit.sums import circuit_sums
from pim.column_sums import exact_sums, read_sums, with_noise
from pim.converters import convert_and_add
from pim.devices.macro import AnalogMacro
from pim.devices.random import fold, site_key
from pim.inputs import applied_levels, drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays, cut_inputs, row_tiles
from pim.programmed import Crossbar
from pim.ranges import adc_ranges
from pim.shift_add import shift_add
from pim.tiled_product import Feed, TiledProduct, input_sums

BATCHED_ELEMENTS = 1 << 21  # up to here all tiles at once beat a scan over them (8 MB of column sums)


class Driven(NamedTuple):
    """What word lines are told (`inputs.drive`): the input of full drive, and levels and gain of each read."""

    full: Float[Array, "#batch 1"]
    planes: Float[Array, "reads batch n_in"]
    gains: Float[Array, "reads"]
    selected: Bool[Array, "batch n_in"] | None = None
    """Which lines have a converter at them: all others are at 0 V. None: all have."""


def analog_product(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> TiledProduct:
    """The product x W on analog cells, tile by tile."""
    driven = Driven(*drive(macro, x, None if crossbar.ranges is None else crossbar.ranges.x))
    return product_of_levels(crossbar, macro, driven, rows, key)


def product_of_levels(
    crossbar: Crossbar,
    macro: AnalogMacro,
    driven: Driven,
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> TiledProduct:
    """The product of `analog_product`, of inputs that are word-line levels already."""
    encoding = encoding_of(macro)
    n_out, slices = crossbar.scale.shape[-1], macro.slices
    arrays, by_tile = column_arrays(n_out, macro), crossbar.scale.shape[0] > 1
    full, planes, gains, selected = driven
    offsets = None if crossbar.offset is None else crossbar.offset * input_sums(macro, planes, gains)
    planes = applied_levels(macro, planes, crossbar.dacs, rows, key, crossbar.layer, crossbar.operator)
    planes = planes if selected is None else jnp.where(selected[None], planes, 0.0)
    steps, batch, _ = planes.shape
    adding, groups = shift_add(macro, gains, crossbar.gains), macro.rows // macro.rows_at_once

    def sums(feed: Feed) -> Arriving:
        u, weights = feed.levels, feed.weights
        if macro.solved_at_reads:
            return solved(feed)
        if key is None:
            exact = exact_sums(macro, u.reshape(steps * batch, -1), weights)
            return Arriving(by_conversion(adding.added(exact.reshape(steps, batch, slices, -1))))
        site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=feed.tile, use="read")
        return read_sums(macro, u, weights, feed.variance, feed.span, adding, site, rows)

    def solved(feed: Feed) -> Arriving:
        held = feed.weights if crossbar.cells is None else crossbar.cells.of_array(feed.tile // groups)
        at = macro, held, feed.tile, feed.levels, crossbar.n_in, n_out, arrays
        if key is None:
            return Arriving(by_conversion(adding.added(circuit_sums(*at, None))))
        site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=feed.tile, use="read")
        return with_noise(macro, circuit_sums(*at, (fold(site, 2), rows)), None, feed.span, adding, site, rows)

    def convert(feed: Feed, sums: Arriving) -> Float[Array, "batch n_out"]:
        y = encoding.combine(convert_and_add(macro, sums, adding.counts, feed.span, feed.adcs), n_out, arrays)
        y = y if feed.offset is None else y - feed.offset[:, None]
        return y if feed.scale is None else y * feed.scale[None]

    tiles, columns = row_tiles(crossbar.n_in, macro.rows_at_once), len(encoding.places(n_out, arrays)[0])
    feeds = Feed(
        tile=jnp.arange(tiles, dtype=jnp.int32),
        levels=cut_inputs(planes, macro.rows_at_once),
        weights=crossbar.weights,
        variance=crossbar.variance,
        span=adc_ranges(crossbar.ranges, macro, tiles, columns),
        adcs=crossbar.adcs,
        offset=offsets,
        scale=crossbar.scale if by_tile else None,
    )
    at_once = not macro.solved_at_reads and tiles * steps * batch * slices * columns <= BATCHED_ELEMENTS
    return TiledProduct(feeds, sums, convert, lambda y: (y if by_tile else y * crossbar.scale) * full, at_once)
