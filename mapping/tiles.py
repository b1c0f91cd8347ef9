"""Matrices to tiles: the part of a matrix that one array holds."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.macro import AnalogMacro
from pim.mapping.encoding import encoding_of
from pim.mapping.errors import MappingError


def row_tiles(n_in: int, rows: int) -> int:
    """Tiles that an input of width `n_in` is cut into: full arrays first, the last one partly filled."""
    return -(-n_in // rows)


def column_arrays(n_out: int, macro: AnalogMacro) -> int:
    """Arrays that `n_out` outputs take side by side, with all slices of a weight in the same array."""
    per_array = encoding_of(macro).outputs_per_array(macro.columns, macro.slices)
    if per_array < 1:
        raise MappingError(
            f"an array of {macro.columns} columns cannot hold one weight of {macro.slices} slices in the "
            f"{macro.encoding!r} encoding: raise columns or lower slices"
        )
    return -(-n_out // per_array)


def cut_rows(matrix: Float[Array, "*lead n_in n_out"], rows: int) -> Float[Array, "tiles *lead rows n_out"]:
    """The matrix cut along its inputs, the last tile filled up with zeros."""
    *lead, n_in, n_out = matrix.shape
    tiles = row_tiles(n_in, rows)
    padded = jnp.pad(matrix, [(0, 0)] * len(lead) + [(0, tiles * rows - n_in), (0, 0)])
    return jnp.moveaxis(padded.reshape(*lead, tiles, rows, n_out), len(lead), 0)


def cut_inputs(x: Float[Array, "*batch n_in"], rows: int) -> Float[Array, "tiles *batch rows"]:
    """Inputs cut like the rows of the matrix."""
    tiles = row_tiles(x.shape[-1], rows)
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, tiles * rows - x.shape[-1])])
    return jnp.moveaxis(padded.reshape(*x.shape[:-1], tiles, rows), -2, 0)
