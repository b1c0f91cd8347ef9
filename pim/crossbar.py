"""The emulated product of one matrix on arrays of analog cells: programming, and y = W x with all its errors.

Both walk the row tiles of the matrix. Slices are folded into the columns and input steps into the batch, so that a tile
is one matrix product; ADC and shift-and-add are elementwise behind it.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim.column_sums import exact_sums, read_sums
from pim.converters import (
    applied_levels,
    frozen_adcs,
    frozen_dacs,
    largest_sum,
    measured_sums,
    ruled_ranges,
    smallest_product,
)
from pim.devices.macro import AnalogMacro
from pim.devices.random import CYCLE_USES, cycle_key, site_key
from pim.devices.record import leaf, record, static
from pim.mapping.encoding import ENCODINGS
from pim.mapping.tiles import column_arrays, cut_inputs, cut_rows
from pim.mapping.weights import slice_weights, weight_scale

BATCHED_ELEMENTS = 1 << 21  # up to here all tiles at once beat a scan over them (8 MB of column sums)


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
    scale: Float[Array, "*layers n_out"] = leaf("1", "weight of full conductance, by output")
    conductance: Float[Array, "*layers tiles rows"] = leaf("S", "sum of the conductances along each word line")
    ranges: Ranges | None = leaf("1", "converter ranges; None: full ranges")
    adcs: Float[Array, "*layers tiles numbers slices columns"] | None = leaf(
        "1", "standard normal numbers of the ADC behind each column; None: all are alike"
    )
    dacs: Float[Array, "*layers numbers n_in"] | None = leaf(
        "1", "standard normal numbers of the DAC of each word line; None: all are alike"
    )
    layer: Int32[Array, "*layers"] = leaf("1", "index of the layer, for the keys of reads")
    operator: UInt32[Array, "*layers"] = leaf("1", "number of the operator's name, for the keys of reads")
    n_in: int = static("inputs")
    device: str = static("name of the device in its system")


def program(
    weights: Float[Array, "n_in n_out"],
    macro: AnalogMacro,
    key: Key[Array, ""] | None,
    time,
    temperature=None,
    *,
    layer: Any = 0,
    operator: Any = 0,
    device: str = "",
    ranges: Ranges | None = None,
    cycle: Any = None,
) -> Crossbar:
    """Program a matrix: tiles one after another, so that only one tile's cells are at hand at a time.

    Without a key it is the nominal matrix, as the designer intends it: targets without write error, drift and faults.
    `cycle` counts how often the chip was written before; None is 0.
    """
    encoding, cell = ENCODINGS[macro.encoding], macro.cell
    n_in, n_out = weights.shape
    arrays = column_arrays(n_out, macro)
    window = cell.g_max - cell.g_min
    scale = weight_scale(weights, macro.weight_scale)
    digits, gains = slice_weights(weights / scale[None], macro.weight_bits, macro.slices)
    environment = None if key is None else macro.environment
    reference = 1.0 if environment is None else environment.reference(macro.vdd)
    temperature = macro.temperature if temperature is None else temperature

    def one_tile(tile_digits):
        tile, part = tile_digits
        targets = cell.targets(jax.vmap(lambda d: encoding.fractions(d, arrays), out_axes=1)(part))
        g = targets
        if key is not None:
            keys = partial(cell_key, key, cycle, layer=layer, operator=operator, tile=tile)
            g = cell.program(targets, keys, time, temperature, cycle)

        def fold(matrix):  # slices into the columns
            return jnp.moveaxis(matrix, 0, 1).reshape(macro.rows, -1)

        strengths = zip(
            *(cell.strengths(value) for value in (g, reference * cell.g_min, reference * cell.g_max)), strict=True
        )
        signal = [fold(jax.vmap(encoding.signal, in_axes=(1, None, None))(*a)) for a in strengths]
        variance = cell.read_variance(g)
        if variance is not None:
            variance = fold(jax.vmap(encoding.noise, in_axes=1)(variance)) / window**2
        return jnp.concatenate(signal) / window, variance, g.sum(axis=(0, 1, 3))

    tiles = cut_rows(digits, macro.rows)
    signal, variance, conductance = jax.lax.map(one_tile, (jnp.arange(tiles.shape[0]), tiles))
    return Crossbar(
        weights=signal,
        variance=variance,
        gains=gains,
        scale=scale,
        conductance=conductance,
        ranges=ranges,
        adcs=frozen_adcs(macro, key, (tiles.shape[0], signal.shape[2] // macro.slices), n_out, layer, operator),
        dacs=frozen_dacs(macro, key, n_in, layer, operator),
        layer=jnp.asarray(layer, jnp.int32),
        n_in=n_in,
        operator=jnp.asarray(operator, jnp.uint32),
        device=device,
    )


def cell_key(chip: Key[Array, ""], cycle: Any, use: str, **site: Any) -> Key[Array, ""]:
    """The key of the cells of one site for a use: that of the chip, of the site, or of the site at this writing."""
    if use in ("die", "wafer"):
        return site_key(chip, use=use)
    if use in CYCLE_USES and cycle is not None:
        chip = cycle_key(chip, cycle)
    return site_key(chip, use=use, **site)


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
    encoding = ENCODINGS[macro.encoding]
    n_out, slices = crossbar.scale.shape[0], macro.slices
    arrays = column_arrays(n_out, macro)
    full, planes, gains = drive(crossbar, macro, x)
    planes = applied_levels(macro, planes, crossbar.dacs, rows, key, crossbar.layer, crossbar.operator)
    batch, steps = x.shape[0], planes.shape[0]
    inputs = cut_inputs(planes, macro.rows)
    counts = gains[:, None] * crossbar.gains[None, :]

    def one_tile(tile, u, weights, variance, adc_range, adcs):
        if key is None:
            sums = exact_sums(macro, u.reshape(steps * batch, -1), weights).reshape(steps, batch, slices, -1)
        else:
            site = site_key(key, layer=crossbar.layer, operator=crossbar.operator, tile=tile, use="read")
            sums = read_sums(macro, u, weights, variance, adc_range, site, rows)
        return encoding.combine(_convert_and_add(macro, sums, counts, adc_range, adcs), n_out, arrays)

    tiles = crossbar.weights.shape[0]
    ranges = adc_ranges(crossbar, macro)
    every = (jnp.arange(tiles), inputs, crossbar.weights, crossbar.variance, ranges, crossbar.adcs)
    if tiles * steps * batch * crossbar.weights.shape[2] <= BATCHED_ELEMENTS:
        y = jax.vmap(one_tile)(*every).sum(axis=0)
    else:
        zero = jnp.zeros((batch, n_out), jnp.float32)
        y, _ = jax.lax.scan(lambda total, tile: (total + one_tile(*tile), None), zero, every)
    return y * crossbar.scale[None] * full


def _convert_and_add(
    macro: AnalogMacro,
    sums: Float[Array, "steps batch slices columns"],
    counts: Float[Array, "steps slices"],
    full_scale: Float[Array, "slices #columns"],
    adcs: Float[Array, "numbers slices columns"] | None,
) -> Float[Array, "batch columns"]:
    """ADC, then shift-and-add over steps and slices.

    Written out as a chain of sums over whole columns: as a reduction over the leading axes it would not be vectorised
    (a third slower than the bare matrix product, where this is a tenth).
    """
    unit = smallest_product(macro)
    total = jnp.zeros(sums.shape[1::2], jnp.float32)
    for step in range(sums.shape[0]):
        for part in range(sums.shape[2]):
            column = sums[step, :, part]
            if macro.adc is not None:
                frozen = None if adcs is None else adcs[:, None, part]
                if macro.environment is not None:
                    lsb = full_scale[None, part] / macro.adc.codes()
                    column = macro.environment.seen_by_adc(column, lsb, macro.vdd)
                column = macro.adc.convert(column, full_scale[None, part], frozen, unit)
            total = total + column * counts[step, part]
    return total


def drive(
    crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]
) -> tuple[Float[Array, "#batch 1"], Float[Array, "steps batch n_in"], Float[Array, "steps"]]:
    """The input's full scale (calibrated, or each token's own largest), and its word-line levels and gains a step."""
    if macro.input_range == "token" or crossbar.ranges is None:
        largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
        full = jnp.where(largest == 0, 1.0, largest)
    else:
        full = crossbar.ranges.x[None, None]
    planes, gains = macro.dac.planes(x / full)
    return full, planes, gains


def adc_ranges(crossbar: Crossbar, macro: AnalogMacro) -> Float[Array, "tiles slices #columns"]:
    """Full scale of each ADC: by its rule where calibrated, else the largest sum that the array could ever give."""
    if crossbar.ranges is None or macro.adc is None:
        return jnp.full((crossbar.weights.shape[0], macro.slices, 1), largest_sum(macro), jnp.float32)
    columns, found = crossbar.weights.shape[-1] // macro.slices, crossbar.ranges
    return ruled_ranges(macro, columns, found.adc, found.mean, found.std)


def calibrate(crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]) -> Ranges:
    """Percentiles of the inputs `x` and of the sums that they give, and how the sums spread, for converter ranges."""
    full = jnp.maximum(jnp.percentile(jnp.abs(x), macro.dac.percentile), 1e-30)
    _, planes, _ = drive(replace(crossbar, ranges=Ranges(x=full, adc=full)), macro, x)

    def one_tile(tile):
        u, weights = tile
        sums = exact_sums(macro, u.reshape(-1, macro.rows), weights)
        return measured_sums(macro, sums.reshape(-1, macro.slices, weights.shape[1] // macro.slices))

    found, mean, std = jax.lax.map(one_tile, (cut_inputs(planes, macro.rows), crossbar.weights))
    return Ranges(x=full, adc=jnp.maximum(found, 1e-6), mean=mean, std=std)
