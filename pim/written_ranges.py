"""Converter ranges of attention on analog arrays: one for all heads and arrays of a layer, from the sums of a text."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pim.analog_product import Driven
from pim.crossbar import Crossbar, tile_sums
from pim.devices.macro import AnalogMacro
from pim.inputs import drive
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays, cut_inputs, row_tiles
from pim.measured_sums import calibrated_ranges, measured_sums
from pim.order_statistics import percentile
from pim.ranges import Ranges
from pim.written_arrays import planes_by_array, programmed_head, tokens_an_array, vector_scale
from pim.written_vectors import KEYS, Head, Site

SAMPLED = 1 << 22
"""About how many sums ranges are found on: 16 MB."""


def written_ranges(
    macro: AnalogMacro,
    operator: str,
    matrices: Float[Array, "batch heads n_in n_out"],
    x: Float[Array, "batch heads rows n_in"],
    valid: Bool[Array, "batch time"],
) -> Ranges:
    """Percentiles of inputs and of sums in the nominal arrays, and how the sums spread.

    Args:
        macro: the device.
        operator: "attention.qk" or "attention.pv".
        matrices: keys or values.
        x: queries, or weights of the values.
        valid: which tokens are no padding. For padding, and for columns that are left over, the first token stands.

    Sums with keys that come after a query count too, though it does not see them.
    """
    keys = operator == KEYS
    rows, time = x.shape[2], valid.shape[1]
    vectors = jnp.swapaxes(matrices, -1, -2) if keys else matrices
    left = -time % tokens_an_array(macro, keys)
    filled = jnp.pad(valid, ((0, 0), (0, left)))[:, None, :, None]
    vectors = jnp.pad(vectors, ((0, 0), (0, 0), (0, left), (0, 0)))
    vectors = jnp.where(filled, vectors, vectors[:, :, :1])
    x = jnp.where(jnp.tile(valid, (1, rows // time))[:, None, :, None], x, x[:, :, :1])
    x = x if keys else jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, left)))
    x = x[:, :, :: _stride(macro, keys, x.shape, vectors.shape)]
    vectors, x = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in (vectors, x))

    scale = jax.vmap(lambda own: vector_scale(macro, own))(vectors)
    x = x if keys else x * scale[:, None, :]
    full = jnp.maximum(percentile(jnp.abs(x), macro.dac.percentile).reshape(()), 1e-30)

    def of_head(vectors: Array, scale: Array, x: Array) -> Float[Array, "tiles n parts columns"]:
        nothing = jnp.zeros((), jnp.uint32)
        head = Head(vectors, x, nothing, nothing, jnp.zeros((len(x), 2), jnp.uint32))
        arrays, _ = programmed_head(macro, keys, head, scale, Site(None, 0, 0), None, None)
        driven = Driven(*drive(macro, x, full))

        def of_array(crossbar: Crossbar, planes: Array) -> Array:
            sums = tile_sums(crossbar, macro, driven.gains)
            inputs = cut_inputs(planes, macro.rows_at_once)
            return jax.vmap(sums)(jnp.arange(len(inputs)), inputs, crossbar.weights)

        if keys:
            found = jax.vmap(lambda crossbar: of_array(crossbar, driven.planes))(arrays)
        else:
            found = jax.vmap(of_array)(arrays, planes_by_array(macro, driven)[0])
        return jnp.moveaxis(found, 0, 1).reshape(found.shape[1], -1, *found.shape[3:])

    sums = jax.lax.map(lambda each: of_head(*each), (vectors, scale, x))
    sums = jnp.moveaxis(sums, 0, 1).reshape(sums.shape[1], -1, *sums.shape[3:])
    return calibrated_ranges(macro, full, jax.lax.map(lambda tile: measured_sums(macro, tile), sums))


def _stride(macro: AnalogMacro, keys: bool, x: tuple[int, ...], vectors: tuple[int, ...]) -> int:
    """How many rows one of them stands for, so that there are about `SAMPLED` sums of each group of word lines."""
    tokens, head_dim = vectors[2:]
    arrays = row_tiles(tokens, tokens_an_array(macro, keys))
    outputs = tokens_an_array(macro, True) if keys else head_dim
    columns = len(encoding_of(macro).places(outputs, column_arrays(outputs, macro))[0])
    each = arrays * columns * macro.converted_slices * macro.conversion_times
    return max(1, math.prod(x[:3]) * each // SAMPLED)
