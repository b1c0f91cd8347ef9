"""The emulated product of one matrix on arrays of analog cells: y = W x with all its errors.

It walks the row tiles of the matrix, by the formulation that the matrix was programmed for.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from pim.analog_product import analog_product
from pim.circuit.sums import circuit_sums
from pim.column_sums import exact_sums
from pim.devices.macro import AnalogMacro
from pim.inputs import drive
from pim.mapping.tiles import column_arrays, cut_inputs, row_tiles
from pim.measured_sums import calibrated_ranges, measured_sums
from pim.order_statistics import percentile
from pim.programmed import Crossbar as Crossbar
from pim.ranges import Ranges
from pim.shift_add import shift_add
from pim.tiled_product import TiledProduct
from pim.turns import in_turns
from pim.whole_product import whole_product
from pim.whole_sums import product_of_integers

CACHED = 1 << 20
"""Sums of a tile that are kept at once (4 MB)."""
AT_LEAST = 128
"""Vectors that are multiplied at once, however many sums they have: fewer would read the cells too often."""


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
    formulation = crossbar.formulation
    if formulation.kind == "lossless":
        full_scale = None if crossbar.ranges is None else crossbar.ranges.x
        return product_of_integers(formulation, macro, crossbar.weights, x, full_scale) * crossbar.scale
    if crossbar.cells is None and x.shape[0] > (most := vectors_at_once(crossbar, macro)):
        return in_turns(lambda each: matmul(crossbar, macro, each[0], each[1], key), (x, rows), most)
    return by_tiles(crossbar, macro, x, rows, key).total()


def by_tiles(
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> TiledProduct:
    """The product of `matmul`, tile by tile; a lossless one has no tiles."""
    product = whole_product if crossbar.formulation.whole else analog_product
    return product(crossbar, macro, x, rows, key)


def calibrate(crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]) -> Ranges:
    """Percentiles of the inputs `x` and of the sums that they give, and how the sums spread, for converter ranges."""
    full = jnp.maximum(percentile(jnp.abs(x), macro.dac.percentile)[0, 0], 1e-30)
    _, planes, gains = drive(macro, x, full)
    sums = tile_sums(crossbar, macro, gains)
    inputs = cut_inputs(planes, macro.rows_at_once)
    each = jnp.arange(len(inputs)), inputs, crossbar.weights
    return calibrated_ranges(macro, full, jax.lax.map(lambda tile: measured_sums(macro, sums(*tile)), each))


def tile_sums(
    crossbar: Crossbar, macro: AnalogMacro, gains: Float[Array, "steps"]
) -> Callable[[Array, Array, Array], Float[Array, "n parts columns"]]:
    """What gives the sums of a tile that come to the converters, without noise, from its number, levels and cells."""
    adding = shift_add(macro, gains, crossbar.gains)
    n_out = crossbar.scale.shape[-1]

    def one_tile(number: Array, u: Array, weights: Array) -> Array:
        if crossbar.cells is None:
            sums = exact_sums(macro, u.reshape(-1, u.shape[-1]), weights).reshape(*u.shape[:2], macro.slices, -1)
        else:
            arrays = column_arrays(n_out, macro)
            cells = crossbar.cells.of_array(number // (macro.rows // macro.rows_at_once))
            sums = circuit_sums(macro, cells, number, u, crossbar.n_in, n_out, arrays, None)
        sums = adding.added(sums)
        return sums.reshape(-1, *sums.shape[2:])

    return one_tile


def vectors_at_once(crossbar: Crossbar, macro: AnalogMacro) -> int:
    """Vectors whose sums of a tile stay in a processor's cache; packed, whose results of all tiles take 32 MB."""
    if crossbar.formulation.kind == "packed":
        return max(1, (1 << 23) // (row_tiles(crossbar.n_in, macro.rows_at_once) * crossbar.scale.shape[-1]))
    return max(AT_LEAST, CACHED // (macro.reads * macro.slices * crossbar.scale.shape[-1]))
