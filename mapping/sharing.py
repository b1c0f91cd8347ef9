"""Sharing: which columns of an array take turns at which converter."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32


def converters_a_tile(n_out: int, arrays: int, slices: int) -> int:
    """Columns of all arrays of a tile, the reference columns among them: as many as it can have converters."""
    return arrays * (-(-n_out // arrays) + 1) * slices


def converter_of(
    n_out: int, columns: int, arrays: int, slices: int, columns_per_adc: Float[Array, ""]
) -> Int32[Array, "slices columns"]:
    """The number of the converter of each column of a tile, below `converters_a_tile`.

    The `columns` of a slice are `n_out` outputs, cut into as many blocks as there are `arrays`, and behind them the
    reference column of each array if the encoding has one. In an array the slices of an output lie side by side, the
    reference last, and each run of `columns_per_adc` columns has one converter.
    """
    block = -(-n_out // arrays)
    column = np.arange(columns)
    is_output = column < n_out
    array = np.where(is_output, column // block, column - n_out)
    place = np.where(is_output, column % block, block) * slices + np.arange(slices)[:, None]
    first = array * converters_a_tile(n_out, arrays, slices) // arrays
    turn = jnp.floor((place + 0.5) / columns_per_adc)  # in the middle of a column, where no rounding can move it
    return jnp.asarray(first[None]) + turn.astype(jnp.int32)
