"""Sharing: which columns of an array take turns at which converter."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from pim.mapping.encoding import Encoding


def converters_a_tile(encoding: Encoding, n_out: int, arrays: int, slices: int) -> int:
    """Columns of all arrays of a tile, a reference column in each among them: as many as it can have converters."""
    return arrays * (encoding.signals_an_output * -(-n_out // arrays) + 1) * slices


def converter_of(
    encoding: Encoding, n_out: int, arrays: int, slices: int, columns_per_adc: Float[Array, ""]
) -> Int32[Array, "slices signals"]:
    """The number of the converter of each signal of a tile, below `converters_a_tile`.

    In an array the slices of an output lie side by side, a reference last, and each run of `columns_per_adc` columns
    has one converter.
    """
    array, place = encoding.places(n_out, arrays)
    column = place * slices + np.arange(slices)[:, None]
    first = array * (converters_a_tile(encoding, n_out, arrays, slices) // arrays)
    turn = jnp.floor((column + 0.5) / columns_per_adc)  # in the middle of a column, where no rounding can move it
    return jnp.asarray(first[None]) + turn.astype(jnp.int32)
