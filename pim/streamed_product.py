"""The product of a matrix that is programmed tile by tile while it is multiplied by: cells of one tile live at a time.

A chip is its keys: the cells of a tile are the same whenever they are programmed. A tile is programmed, read with all
input vectors, and dropped, so that a matrix takes the memory of its weights and of one tile's cells; that pays where
many vectors meet a matrix once. Cells and reads are those of `tile_programming` and `crossbar`, to float rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim import crossbar
from pim.crossbar import Crossbar
from pim.devices.holder import Holder
from pim.devices.macro import AnalogMacro
from pim.devices.random import site_key
from pim.devices.record import leaf, part, record, static
from pim.formulation import ANALOG, Formulation
from pim.mapping.tiles import row_tiles
from pim.ranges import Ranges
from pim.tile_programming import Tile, program_tiles, scale_of, tile_groups, tile_programmer, unprogrammed, weight_tiles
from pim.tiled_product import Feed


@record
class Unprogrammed:
    """A matrix that goes to a device, and is programmed there only while it is multiplied by."""

    weights: Float[Array, "n_in n_out"] = leaf("1", "the matrix")
    layer: Int32[Array, ""] = leaf("1", "index of its layer, for the keys")
    operator: UInt32[Array, ""] = leaf("1", "number of its operator's name, for the keys")
    time: Float[Array, ""] | None = leaf("s", "since programming, when it is read; None: nothing ages", default=None)
    ranges: Ranges | None = part("converter ranges; None: full ranges", default=None)
    device: str = static("name of the device in its system", default="")
    formulation: Formulation = static("how products with it are computed", default=ANALOG)


def matmul(
    matrix: Unprogrammed,
    model: Any,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch n_out"]:
    """The product x W on one chip of a device: an analog macro, or a holder, which takes the matrix whole.

    Args:
        matrix: what is to be programmed.
        model: the device.
        x: inputs.
        rows: (document, position) of each of them: they alone decide its draws.
        key: of the chip, and of its reads; None: the nominal chip, read without noise.

    >>> y = streamed_product.matmul(Unprogrammed(w, layer, operator), macro, x, rows, chip_key(root_key(0), 0))
    """
    if isinstance(model, Holder):
        site = None if key is None else lambda use: site_key(key, layer=matrix.layer, operator=matrix.operator, use=use)
        return model.multiply(model.hold(matrix.weights, site), x)
    at: dict[str, Any] = {"layer": matrix.layer, "operator": matrix.operator}
    kept: dict[str, Any] = {**at, "ranges": matrix.ranges, "formulation": matrix.formulation}
    if matrix.formulation.kind == "lossless":  # whole numbers, a byte or two a weight: no tile is ever programmed
        programmed = program_tiles(matrix.weights, model, key, matrix.time, **kept)
        return crossbar.matmul(programmed, model, x, rows, key)
    scale = scale_of(matrix.weights, model)
    blank = unprogrammed(matrix.weights, scale, model, key, **kept)
    program = tile_programmer(matrix.weights.shape, model, key, matrix.time, **at)
    return _product(blank, model, program, weight_tiles(matrix.weights, scale, model), x, rows, key)


def _product(
    blank: Crossbar,
    macro: AnalogMacro,
    program: Callable[..., Tile],
    tiles: tuple[Array, ...],
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch n_out"]:
    """The sum over tiles of what each adds, programmed one after another; a tile's groups of rows likewise.

    Vectors take turns at a tile, so that their sums stay in a processor's cache; the last turn is filled up.
    """
    vectors = len(x)
    turns = -(-vectors // crossbar.vectors_at_once(blank, macro))
    size = -(-vectors // turns)
    x, rows = (_filled(leaf, turns * size) for leaf in (x, rows))
    product = crossbar.by_tiles(blank, macro, x, rows, key)
    groups, count = macro.rows // macro.rows_at_once, len(tiles[0])
    used = row_tiles(blank.n_in, macro.rows_at_once)
    feeds = jax.tree.map(lambda leaf: _by_tile(leaf, count, groups), product.feeds)
    full = used == count * groups
    there = None if full else (jnp.arange(count * groups) < used).reshape(count, groups)

    def of_group(feed: Feed) -> Float[Array, "batch n_out"]:
        def turn(first):
            part, named = (jax.lax.dynamic_slice_in_dim(leaf, first, size) for leaf in (x, rows))
            own = crossbar.by_tiles(blank, macro, part, named, key)  # its feeds are not made: those of all are at hand
            return own.of_tile(feed.of_vectors(first, size))

        if turns == 1:
            return product.of_tile(feed)
        return jax.lax.map(turn, size * jnp.arange(turns)).reshape(turns * size, -1)

    def one_tile(total, given):
        tile, feed, there = given
        cells, variance = tile_groups(program(*tile), macro, blank.formulation)

        def one_group(total, given):
            feed, there, own, variance = given
            y = of_group(feed._replace(weights=cells if own is None else own, variance=variance))
            return total + (y if there is None else jnp.where(there, y, 0.0)), None

        each = feed, there, None if macro.solved_at_reads else cells, variance
        return jax.lax.scan(one_group, total, each)[0], None

    zero = jnp.zeros((len(x), blank.scale.shape[-1]), jnp.float32)
    return product.scaled(jax.lax.scan(one_tile, zero, (tiles, feeds, there))[0])[:vectors]


def _filled(leaf: Array, count: int) -> Array:
    """So many, the first once more where there are fewer."""
    missing = count - len(leaf)
    return jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (missing, *leaf.shape[1:]))]) if missing else leaf


def _by_tile(leaf: Array, tiles: int, groups: int) -> Array:
    """What groups of rows are given, tile by tile; those that the last tile lacks get what the first gets."""
    return _filled(leaf, tiles * groups).reshape(tiles, groups, *leaf.shape[1:])
