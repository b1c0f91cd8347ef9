"""The emulated product of one matrix on arrays of analog cells: y = W x with all its errors.

It walks the row tiles of the matrix. Slices are folded into the columns and input steps into the batch, so that a tile
is one matrix product; ADC and shift-and-add are elementwise behind it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim.circuit.sums import HeldCells, circuit_sums
from pim.column_sums import exact_sums, read_sums, with_noise
from pim.converters import convert_and_add
from pim.devices.converters.span import Span
from pim.devices.macro import AnalogMacro
from pim.devices.random import fold, site_key
from pim.devices.record import leaf, part, record, static
from pim.inputs import applied_levels, drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays, cut_inputs
from pim.measured_sums import calibrated_ranges, measured_sums
from pim.ranges import Ranges, adc_ranges
from pim.shift_add import shift_add

BATCHED_ELEMENTS = 1 << 21  # up to here all tiles at once beat a scan over them (8 MB of column sums)


@record
class Crossbar:
    """A matrix programmed into arrays: what of a chip a product needs."""

    weights: Float[Array, "*layers tiles driven_rows columns"] = leaf(
        "1", "signed weights of the cells, of all slices; for each term of their current against voltage"
    )
    variance: Float[Array, "*layers tiles rows columns"] | None = leaf(
        "1", "read-noise variance of each; None: no noise"
    )
    gains: Float[Array, "*layers slices"] = leaf("1", "what each slice counts in the digital sum")
    scale: Float[Array, "*layers #tiles n_out"] = leaf("1", "weight of full conductance, by output, or by tile too")
    conductance: Float[Array, "*layers tiles rows"] = leaf("S", "sum of the conductances along each word line")
    ranges: Ranges | None = leaf("1", "converter ranges; None: full ranges")
    adcs: Float[Array, "*layers tiles numbers slices columns"] | None = leaf(
        "1", "standard normal numbers of the ADC behind each column; None: all are alike"
    )
    dacs: Float[Array, "*layers numbers n_in"] | None = leaf(
        "1", "standard normal numbers of the DAC of each word line; None: all are alike"
    )
    offset: Float[Array, "*layers"] | None = leaf("1", "what the digital sum of the inputs counts less; None: nothing")
    layer: Int32[Array, "*layers"] = leaf("1", "index of the layer, for the keys of reads")
    operator: UInt32[Array, "*layers"] = leaf("1", "number of the operator's name, for the keys of reads")
    n_in: int = static("inputs")
    device: str = static("name of the device in its system")
    cells: HeldCells | None = part(
        "where every vector needs a circuit solved: the cells; `weights` have no wires", default=None
    )


class Feed(NamedTuple):
    """What a product gives to its tiles, with a leading axis of them; to one of them, without."""

    tile: Int32[Array, "*tiles"]
    levels: Float[Array, "*tiles steps batch rows"]
    weights: Float[Array, "*tiles driven_rows columns"]
    variance: Float[Array, "*tiles rows columns"] | None
    span: Span
    adcs: Float[Array, "*tiles numbers slices columns"] | None
    offset: Float[Array, "*tiles batch"] | None
    scale: Float[Array, "*tiles n_out"] | None


class TiledProduct(NamedTuple):
    """A product tile by tile: what tiles are given, and what is made of it."""

    feeds: Feed
    sums: Callable[[Feed], Float[Array, "steps batch slices columns"]]
    convert: Callable[[Feed, Float[Array, "steps batch slices columns"]], Float[Array, "batch n_out"]]
    scaled: Callable[[Float[Array, "*tiles batch n_out"]], Float[Array, "*tiles batch n_out"]]

    def of_tile(self, feed: Feed) -> Float[Array, "batch n_out"]:
        """What one tile adds to the product, before `scaled`."""
        return self.convert(feed, self.sums(feed))


def matmul(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch n_out"]:
    """The product x W as the macro computes it; without a key its reads are free of noise.

    `rows` are the (document, position) of each input vector: they alone decide its draws.
    """
    product = by_tiles(crossbar, macro, x, rows, key)
    tiles, steps, batch, _ = product.feeds.levels.shape
    few = tiles * steps * batch * crossbar.weights.shape[2] <= BATCHED_ELEMENTS
    if few and crossbar.cells is None:
        y = jax.vmap(product.of_tile)(product.feeds).sum(axis=0)
    else:
        zero = jnp.zeros((batch, crossbar.scale.shape[-1]), jnp.float32)
        y, _ = jax.lax.scan(lambda total, feed: (total + product.of_tile(feed), None), zero, product.feeds)
    return product.scaled(y)


def by_tiles(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> TiledProduct:
    """The product of `matmul`, tile by tile: the sums at the converters, and what these make of them."""
    encoding = encoding_of(macro)
    n_out, slices = crossbar.scale.shape[-1], macro.slices
    arrays, by_tile = column_arrays(n_out, macro), crossbar.scale.shape[0] > 1
    full, planes, gains = drive(macro, x, None if crossbar.ranges is None else crossbar.ranges.x)
    offsets = None if crossbar.offset is None else crossbar.offset * _input_sums(macro, planes, gains)
    planes = applied_levels(macro, planes, crossbar.dacs, rows, key, crossbar.layer, crossbar.operator)
    batch, steps = x.shape[0], planes.shape[0]
    inputs = cut_inputs(planes, macro.rows_at_once)
    adding = shift_add(macro, gains, crossbar.gains)

    def sums(feed: Feed) -> Float[Array, "steps batch slices columns"]:
        u, weights = feed.levels, feed.weights
        if crossbar.cells is not None:
            return solved(feed)
        if key is None:
            exact = exact_sums(macro, u.reshape(steps * batch, -1), weights)
            return adding.added(exact.reshape(steps, batch, slices, -1))
        site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=feed.tile, use="read")
        return read_sums(macro, u, weights, feed.variance, feed.span, adding, site, rows)

    def solved(feed: Feed) -> Float[Array, "steps batch slices columns"]:
        assert crossbar.cells is not None
        at = macro, crossbar.cells, feed.tile, feed.levels, crossbar.n_in, n_out, arrays
        if key is None:
            return adding.added(circuit_sums(*at, None))
        site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=feed.tile, use="read")
        return with_noise(macro, circuit_sums(*at, (fold(site, 2), rows)), None, feed.span, adding, site, rows)

    def convert(feed: Feed, sums: Float[Array, "steps batch slices columns"]) -> Float[Array, "batch n_out"]:
        y = encoding.combine(convert_and_add(macro, sums, adding.counts, feed.span, feed.adcs), n_out, arrays)
        y = y if feed.offset is None else y - feed.offset[:, None]
        return y if feed.scale is None else y * feed.scale[None]

    tiles = crossbar.weights.shape[0]
    ranges = adc_ranges(crossbar.ranges, macro, tiles, crossbar.weights.shape[-1] // slices)
    scales = crossbar.scale if by_tile else None
    number = jnp.arange(tiles, dtype=jnp.int32)
    feeds = Feed(number, inputs, crossbar.weights, crossbar.variance, ranges, crossbar.adcs, offsets, scales)
    return TiledProduct(feeds, sums, convert, lambda y: (y if by_tile else y * crossbar.scale) * full)


def _input_sums(
    macro: AnalogMacro, planes: Float[Array, "steps batch n_in"], gains: Float[Array, "steps"]
) -> Float[Array, "tiles batch"]:
    """The digital sum of each tile's inputs, as they are told to the converters."""
    return cut_inputs((gains[:, None, None] * planes).sum(axis=0), macro.rows_at_once).sum(axis=-1)


def calibrate(crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]) -> Ranges:
    """Percentiles of the inputs `x` and of the sums that they give, and how the sums spread, for converter ranges."""
    full = jnp.maximum(jnp.percentile(jnp.abs(x), macro.dac.percentile), 1e-30)
    _, planes, gains = drive(macro, x, full)
    adding = shift_add(macro, gains, crossbar.gains)

    n_out = crossbar.scale.shape[-1]

    def one_tile(tile):
        number, u, weights = tile
        if crossbar.cells is None:
            sums = exact_sums(macro, u.reshape(-1, u.shape[-1]), weights).reshape(*u.shape[:2], macro.slices, -1)
        else:
            arrays = column_arrays(n_out, macro)
            sums = circuit_sums(macro, crossbar.cells, number, u, crossbar.n_in, n_out, arrays, None)
        sums = adding.added(sums)
        return measured_sums(macro, sums.reshape(-1, *sums.shape[2:]))

    inputs = cut_inputs(planes, macro.rows_at_once)
    found = jax.lax.map(one_tile, (jnp.arange(len(inputs)), inputs, crossbar.weights))
    return calibrated_ranges(macro, full, found)
