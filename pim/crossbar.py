"""The emulated product of one matrix on arrays of analog cells: y = W x with all its errors.

It walks the row tiles of the matrix. Slices are folded into the columns and input steps into the batch, so that a tile
is one matrix product; ADC and shift-and-add are elementwise behind it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, Shaped, UInt32

from pim.column_sums import exact_sums, read_sums, with_noise_behind
from pim.converters import by_column, convert_and_add
from pim.devices.macro import AnalogMacro
from pim.devices.random import site_key
from pim.devices.record import leaf, record, static
from pim.formulation import ANALOG, Formulation
from pim.inputs import applied_levels, drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays, cut_inputs
from pim.ranges import Ranges, adc_ranges, measured_sums
from pim.whole_sums import in_smallest_products, whole_product, whole_sums

BATCHED_ELEMENTS = 1 << 21  # up to here all tiles at once beat a scan over them (8 MB of column sums)


@record
class Crossbar:
    """A matrix programmed into arrays: what of a chip a product needs."""

    weights: Float[Array, "*layers tiles driven_rows columns"] | Shaped[Array, "..."] = leaf(
        "1",
        "signed weights of the cells, of all slices; for each term of their current against voltage; in formulations "
        "of whole numbers what `pim/whole_sums.py` makes of them",
    )
    variance: Float[Array, "*layers tiles #rows #columns"] | None = leaf(
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
    formulation: Formulation = static("how products with it are computed", default=ANALOG)


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
    if crossbar.formulation.whole:
        return _whole_matmul(crossbar, macro, x, rows, key)
    encoding = encoding_of(macro)
    n_out, slices = crossbar.scale.shape[-1], macro.slices
    arrays, by_tile = column_arrays(n_out, macro), crossbar.scale.shape[0] > 1
    full, planes, gains = drive(macro, x, None if crossbar.ranges is None else crossbar.ranges.x)
    offsets = None if crossbar.offset is None else crossbar.offset * _input_sums(macro, planes, gains)
    planes = applied_levels(macro, planes, crossbar.dacs, rows, key, crossbar.layer, crossbar.operator)
    batch, steps = x.shape[0], planes.shape[0]
    inputs = cut_inputs(planes, macro.rows_at_once)
    counts = gains[:, None] * crossbar.gains[None, :]

    def one_tile(tile, u, weights, variance, adc_range, adcs, offset, scale):
        if key is None:
            sums = exact_sums(macro, u.reshape(steps * batch, -1), weights).reshape(steps, batch, slices, -1)
        else:
            site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=tile, use="read")
            sums = read_sums(macro, u, weights, variance, adc_range, site, rows)
        y = encoding.combine(convert_and_add(macro, by_column(sums), counts, adc_range, adcs), n_out, arrays)
        y = y if offset is None else y - offset[:, None]
        return y if scale is None else y * scale[None]

    tiles = crossbar.weights.shape[0]
    ranges = adc_ranges(crossbar.ranges, macro, tiles, crossbar.weights.shape[-1] // slices)
    scales = crossbar.scale if by_tile else None
    every = (
        jnp.arange(tiles), inputs, crossbar.weights, crossbar.variance, ranges, crossbar.adcs, offsets, scales,
    )  # fmt: skip
    at_once = tiles * steps * batch * crossbar.weights.shape[2] <= BATCHED_ELEMENTS
    y = over_tiles(one_tile, every, (batch, n_out), at_once)
    return (y if by_tile else y * crossbar.scale) * full


def _whole_matmul(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch n_out"]:
    """`matmul` in whole numbers, counted in the smallest product of a weight's digit and an input's level."""
    formulation, ranges = crossbar.formulation, crossbar.ranges
    full_scale = None if ranges is None else ranges.x
    if formulation.kind == "lossless":
        return whole_product(formulation, macro, crossbar.weights, x, full_scale) * crossbar.scale
    if formulation.kind == "packed" and key is None and x.shape[0] > (most := _most_at_once(crossbar)):
        return _in_turns(lambda x, rows: _whole_matmul(crossbar, macro, x, rows, key), x, rows, most)
    encoding, n_out = encoding_of(macro), crossbar.scale.shape[-1]
    arrays, by_tile, batch = column_arrays(n_out, macro), crossbar.scale.shape[0] > 1, x.shape[0]
    full, levels, places = drive(macro, x, full_scale, whole=True)
    unit, slice_places, whole, offset = in_smallest_products(macro, crossbar.gains, crossbar.offset)
    offsets = None if offset is None else offset * _input_sums(macro, levels, places)
    counts = places[:, None] * slice_places[None, :]

    def one_tile(tile, u, cells, adc_range, adcs, offset, scale):
        sums = whole_sums(formulation, macro, u, cells)
        if key is not None:
            site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=tile, use="read")
            sums = with_noise_behind(macro, sums, adc_range, unit, site, rows)
        y = encoding.combine(convert_and_add(macro, sums, counts, adc_range, adcs, jnp.ones(())), n_out, arrays)
        y = y if offset is None else y - offset[:, None]
        return y if scale is None else y * scale[None]

    tiles, columns = crossbar.weights.shape[0], len(encoding.places(n_out, arrays)[0])
    spans = jax.tree.map(lambda end: end / unit, adc_ranges(ranges, macro, tiles, columns))
    scales = crossbar.scale if by_tile else None
    inputs = cut_inputs(levels, macro.rows_at_once)
    every = (jnp.arange(tiles), inputs, crossbar.weights, spans, crossbar.adcs, offsets, scales)
    # Bits are counted in one loop over everything: a slice taken out for each tile would be read word by word (JAX
    # 0.10.1 on processors), ten times slower.
    at_once = formulation.kind == "packed" and key is None
    at_once |= tiles * len(levels) * batch * macro.slices * columns <= BATCHED_ELEMENTS
    y = over_tiles(one_tile, every, (batch, n_out), at_once)
    return (y if by_tile else y * crossbar.scale) * (full * whole)


def over_tiles(one_tile: Callable[..., Array], every: Any, shape: tuple[int, int], at_once: bool) -> Array:
    """The sum over tiles, all at once or one after another."""
    if at_once:
        return jax.vmap(one_tile)(*every).sum(axis=0)
    zero = jnp.zeros(shape, jnp.float32)
    return jax.lax.scan(lambda total, tile: (total + one_tile(*tile), None), zero, every)[0]


def _most_at_once(crossbar: Crossbar) -> int:
    """Vectors whose results of all tiles take 32 MB."""
    return max(1, (1 << 23) // (crossbar.weights.shape[0] * crossbar.scale.shape[-1]))


def _in_turns(product: Callable[..., Array], x: Array, rows: Array, most: int) -> Array:
    """The product of so many vectors at a time."""
    batch, turns = x.shape[0], -(-x.shape[0] // most)

    def cut(vectors):
        return jnp.pad(vectors, ((0, turns * most - batch), (0, 0))).reshape(turns, most, -1)

    return jax.lax.map(lambda each: product(*each), (cut(x), cut(rows))).reshape(turns * most, -1)[:batch]


def _input_sums(
    macro: AnalogMacro, planes: Float[Array, "steps batch n_in"], gains: Float[Array, "steps"]
) -> Float[Array, "tiles batch"]:
    """The digital sum of each tile's inputs, as they are told to the converters."""
    return cut_inputs((gains[:, None, None] * planes).sum(axis=0), macro.rows_at_once).sum(axis=-1)


def calibrate(crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]) -> Ranges:
    """Percentiles of the inputs `x` and of the sums that they give, and how the sums spread, for converter ranges."""
    full = jnp.maximum(jnp.percentile(jnp.abs(x), macro.dac.percentile), 1e-30)
    _, planes, _ = drive(macro, x, full)

    def one_tile(tile):
        u, weights = tile
        sums = exact_sums(macro, u.reshape(-1, u.shape[-1]), weights)
        return measured_sums(macro, sums.reshape(-1, macro.slices, weights.shape[1] // macro.slices))

    found, mean, std = jax.lax.map(one_tile, (cut_inputs(planes, macro.rows_at_once), crossbar.weights))
    return Ranges(x=full, adc=jnp.maximum(found, 1e-6), mean=mean, std=std)
