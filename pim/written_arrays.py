"""Attention on analog arrays: keys and values written into cells, and read by queries and their weights.

An array holds the keys of as many tokens as it has columns for, one output each, or the values of as many as it has
rows. Each vector of a token has a scale of its own, that of its largest magnitude: of keys it multiplies the output, of
values it goes into the input, in front of the converter. Converters and cells are those of matrices of weights.

The errors of cells are those of the array that a document's head has for a run of positions, so that they depend on
document, head and position alone: the tokens to come, and how many there are, change nothing. Written anew at each
step of decoding they are the same cells. A word line whose weight is zero is not selected, and an array without any
that is selected is not read: their values may not be there.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from pim.analog_product import Driven, product_of_levels
from pim.crossbar import Crossbar
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.inputs import drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import cut_inputs, cut_rows, row_tiles
from pim.mapping.weights import weight_scale
from pim.ranges import Ranges
from pim.tile_programming import Tile, tile_programmer, unprogrammed, with_tiles
from pim.turns import in_turns
from pim.written_vectors import KEYS, Head, Site, by_head, cut_tokens

CELLS = 1 << 22
"""Cells that are programmed at once: with all that is drawn for them a few hundred MB."""
SUMS = 1 << 22
"""Column sums that are made at once."""


def check_macro(macro: AnalogMacro, name: str) -> None:
    """Raise DeviceError for arrays in whose wires every product of activations would need a circuit solved."""
    if macro.wires is not None:
        raise DeviceError(
            f"{name}: keys and values are written anew with every token, and the circuit of an array with wires would "
            f"have to be solved as often: set {name}.wires = none for attention, or send attention to a digital device"
        )


def product(
    macro: AnalogMacro,
    operator: str,
    matrices: Float[Array, "batch heads n_in n_out"],
    x: Float[Array, "batch heads rows n_in"],
    ids: UInt32[Array, "batch time 2"],
    site: Site,
    time: Float[Array, ""] | None,
    ranges: Ranges | None,
) -> Float[Array, "batch heads rows n_out"]:
    """The products with keys or values as arrays compute them; see `written.product`."""
    keys = operator == KEYS
    tokens, head_dim = matrices.shape[-1 if keys else -2], matrices.shape[-2 if keys else -1]
    arrays = row_tiles(tokens, tokens_an_array(macro, keys))
    outputs = tokens_an_array(macro, True) if keys else head_dim
    height = row_tiles(head_dim, macro.rows) * min(head_dim, macro.rows) if keys else macro.rows
    cells = arrays * height * outputs * macro.slices * encoding_of(macro).cells_a_weight
    sums = arrays * outputs * macro.slices * macro.reads
    vectors = min(x.shape[2], max(1, SUMS // sums))
    most = max(1, min(CELLS // cells, SUMS // (sums * vectors)))
    multiply = partial(_of_head, macro, keys, site=site, time=time, ranges=ranges, vectors=vectors)
    return by_head(operator, matrices, x, ids, multiply, most)


def tokens_an_array(macro: AnalogMacro, keys: bool) -> int:
    """Tokens whose keys, or whose values, an array holds."""
    return encoding_of(macro).outputs_per_array(macro.columns, macro.slices) if keys else macro.rows


def _of_head(
    macro: AnalogMacro,
    keys: bool,
    head: Head,
    *,
    site: Site,
    time: Float[Array, ""] | None,
    ranges: Ranges | None,
    vectors: int,
) -> Float[Array, "rows n_out"]:
    """The product of one head, at most `vectors` rows at once."""
    scale = vector_scale(macro, head.vectors)
    arrays, numbers = programmed_head(macro, keys, head, scale, site, time, ranges)
    full_scale = None if ranges is None else ranges.x

    def of_rows(given: tuple[Array, Array]) -> Array:
        x, rows = given
        driven = Driven(*drive(macro, x if keys else x * scale[None], full_scale))

        def of_array(crossbar: Crossbar, number: Array, levels: Driven) -> Array:
            return product_of_levels(crossbar, macro, levels, rows, site.of_array(head, number)).total()

        def of_values(crossbar: Crossbar, number: Array, planes: Array, selected: Array) -> Array:
            y = of_array(crossbar, number, driven._replace(planes=planes, selected=selected))
            return jnp.where(selected.any(axis=1)[:, None], y, 0.0)

        if not keys:
            return jax.vmap(of_values)(arrays, numbers, *planes_by_array(macro, driven)).sum(axis=0)
        y = jax.vmap(lambda crossbar, number: of_array(crossbar, number, driven))(arrays, numbers)
        return jnp.moveaxis(y, 0, 1).reshape(len(x), -1)[:, : len(scale)] * scale[None]

    given = head.x, head.rows
    return of_rows(given) if len(head.x) <= vectors else in_turns(of_rows, given, vectors)


def planes_by_array(
    macro: AnalogMacro, driven: Driven
) -> tuple[Float[Array, "arrays steps vectors rows"], Bool[Array, "arrays vectors rows"]]:
    """The levels of each array of values, and which of its lines are selected; all share the scale of the vector."""
    planes = cut_inputs(driven.planes, macro.rows)
    return planes, (planes != 0).any(axis=1)


def vector_scale(macro: AnalogMacro, vectors: Float[Array, "tokens head_dim"]) -> Float[Array, "tokens"]:
    """What full conductance stands for in each token's vector."""
    return weight_scale(vectors.T, "column", macro.weight_range, macro.rows, 1)[0]


def programmed_head(
    macro: AnalogMacro,
    keys: bool,
    head: Head,
    scale: Float[Array, "tokens"],
    site: Site,
    time: Float[Array, ""] | None,
    ranges: Ranges | None,
) -> tuple[Crossbar, Any]:
    """The arrays of one head, with a leading axis, and their numbers."""
    cut = cut_tokens(head.vectors / scale[:, None], tokens_an_array(macro, keys))
    numbers = jnp.arange(len(cut), dtype=jnp.uint32)

    def program(matrix: Float[Array, "n_in n_out"], number: Array) -> Crossbar:
        return _programmed(macro, matrix, site, site.of_array(head, number), time, ranges)

    return jax.vmap(program)(jnp.swapaxes(cut, 1, 2) if keys else cut, numbers), numbers


def _programmed(
    macro: AnalogMacro,
    matrix: Float[Array, "n_in n_out"],
    site: Site,
    key: Key[Array, ""] | None,
    time: Float[Array, ""] | None,
    ranges: Ranges | None,
) -> Crossbar:
    """One array, or as many below each other as vectors are long, of values in [-1, 1].

    Rows that no vector reaches are left away while cells are made, which draws nothing for them.
    """
    n_in, n_out = matrix.shape
    ones = jnp.ones((1, n_out))
    at = {"layer": site.layer, "operator": site.operator}
    used = min(n_in, macro.rows)
    # What comes next is not known when a token is written, so that no order of tokens can be chosen.
    whole = replace(macro, remapping=None)
    made = whole if used == macro.rows else replace(whole, rows=used, active_rows=None)
    one_tile = tile_programmer((n_in, n_out), made, key, time, die=site.chip, **at)
    cut = cut_rows(matrix, used)
    tiles = jax.lax.map(lambda tile: one_tile(tile[0], tile[1], ones[0]), (jnp.arange(len(cut), dtype=jnp.int32), cut))

    def filled(leaf: Array | None, axis: int) -> Any:
        if leaf is None or leaf.shape[axis] != used:
            return leaf
        missing = [(0, 0)] * leaf.ndim
        missing[axis] = (0, macro.rows - used)
        return jnp.pad(leaf, missing)

    whole = Tile(filled(tiles.signal, 2), filled(tiles.variance, 1), filled(tiles.conductance, 1), None)
    return with_tiles(unprogrammed(matrix, ones, macro, key, ranges=ranges, **at), macro, whole)
