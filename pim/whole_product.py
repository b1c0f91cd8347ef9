"""The product of whole numbers, tile by tile: what `analog_product` gives where cells are exactly at their targets.

Everything is counted in smallest products of a weight's digit and an input's level (`pim/whole_sums.py`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from pim.analog_product import BATCHED_ELEMENTS
from pim.arriving import Arriving
from pim.column_sums import noisy_behind, with_noise_behind
from pim.converters import convert_and_add
from pim.devices.macro import AnalogMacro
from pim.devices.random import site_key
from pim.inputs import drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays, cut_inputs, row_tiles
from pim.programmed import Crossbar
from pim.ranges import adc_ranges
from pim.tiled_product import Feed, TiledProduct, input_sums
from pim.whole_sums import in_smallest_products, whole_sums


def whole_product(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> TiledProduct:
    """The product x W in whole numbers, by bytes or bits, tile by tile."""
    formulation, ranges = crossbar.formulation, crossbar.ranges
    key = key if noisy_behind(macro) else None
    encoding, n_out = encoding_of(macro), crossbar.scale.shape[-1]
    arrays, by_tile, batch = column_arrays(n_out, macro), crossbar.scale.shape[0] > 1, x.shape[0]
    full, levels, places = drive(macro, x, None if ranges is None else ranges.x, whole=True)
    unit, slice_places, whole, offset = in_smallest_products(macro, crossbar.gains, crossbar.offset)
    counts = places[:, None] * slice_places[None, :]

    def sums(feed: Feed) -> Arriving:
        exact = whole_sums(formulation, macro, feed.levels, feed.weights)
        if key is None:
            return exact
        site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=feed.tile, use="read")
        return with_noise_behind(macro, exact, feed.span, unit, site, rows)

    def convert(feed: Feed, sums: Arriving) -> Float[Array, "batch n_out"]:
        y = convert_and_add(macro, sums, counts, feed.span, feed.adcs, jnp.ones(()))
        y = encoding.combine(y, n_out, arrays)
        y = y if feed.offset is None else y - feed.offset[:, None]
        return y if feed.scale is None else y * feed.scale[None]

    tiles, columns = row_tiles(crossbar.n_in, macro.rows_at_once), len(encoding.places(n_out, arrays)[0])
    feeds = Feed(
        tile=jnp.arange(tiles, dtype=jnp.int32),
        levels=cut_inputs(levels, macro.rows_at_once),
        weights=crossbar.weights,
        variance=None,
        span=jax.tree.map(lambda end: end / unit, adc_ranges(ranges, macro, tiles, columns)),
        adcs=crossbar.adcs,
        offset=None if offset is None else offset * input_sums(macro, levels, places),
        scale=crossbar.scale if by_tile else None,
    )
    # Bits are counted in one loop over everything: a slice taken out for each tile would be read word by word (JAX
    # 0.10.1 on processors), ten times slower.
    at_once = formulation.kind == "packed" and key is None
    at_once |= tiles * len(levels) * batch * macro.slices * columns <= BATCHED_ELEMENTS
    return TiledProduct(
        feeds, sums, convert, lambda y: (y if by_tile else y * crossbar.scale) * (full * whole), at_once
    )
