"""Which cells of a tile share wires: its conductances as physical arrays, and back.

The arrays that hold the outputs of a tile stand side by side, each with a block of outputs; in an array the slices of
an output lie side by side, a reference column last (mapping/encoding.py). The two cells of a pair are in two arrays,
side by side in one, or on one bit line (`ArrayWires.pairs`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pim.circuit.fold import fold
from pim.devices.array_wires import ArrayWires

FOLD_RESIDUAL = 1e-3
"""Above it (rounding leaves 1e-6) folded conductances are no solution of the circuit."""


class Layout(NamedTuple):
    """Where the cells of a tile are; a cell's number counts pairs, slices and columns of the tile, in that order."""

    cell: Int[np.ndarray, "arrays lines width"]
    """Number of the cell at each place of each row; -1 where there is none."""
    place: Int[np.ndarray, "cells"]
    """Place of each cell, counted over arrays, lines and columns."""
    used: Int[np.ndarray, "arrays"]
    """Columns of each array up to its last cell."""


def layout(wires: ArrayWires, shape: tuple[int, int, int], n_out: int, arrays: int) -> Layout:
    """The layout of a tile of `shape` (pair, slices, columns): `n_out` outputs on `arrays` arrays side by side.

    Columns beyond `n_out` are the references of the arrays.
    """
    pair, slices, columns = shape
    block, column = -(-n_out // arrays), np.arange(columns)
    output = column < n_out
    array = np.where(output, column // block, column - n_out)
    p, s, _ = np.indices(shape)
    place = np.where(output, column % block, block) * slices + s  # [pair, slices, columns]
    width = slices * (block + (columns > n_out))
    array, line = np.broadcast_to(array, shape), np.zeros(shape, int)
    if wires.pairs == "separate":
        array, arrays = array * pair + p, arrays * pair
    elif wires.pairs == "interleaved":
        place, width = place * pair + p, width * pair
    else:
        line = p
    lines = int(line.max()) + 1
    at = (array * lines + line) * width + place
    cell = np.full(arrays * lines * width, -1)
    cell[at.ravel()] = np.arange(at.size)
    cell = cell.reshape(arrays, lines, width)
    used = ((cell >= 0).any(axis=1) * np.arange(1, width + 1)).max(axis=-1)
    return Layout(cell, at.ravel(), used)


def to_arrays(g: Float[Array, "pair slices rows columns"], where: Layout) -> Float[Array, "arrays lines rows width"]:
    """Conductances (S) of a tile as its arrays hold them, zero where there is no cell."""
    cells = jnp.moveaxis(g, 2, 0).reshape(g.shape[2], -1)
    cells = jnp.pad(cells, [(0, 0), (0, 1)])  # the last one, -1, is none
    return jnp.moveaxis(cells[:, where.cell], 0, 2)


def to_tile(
    held: Float[Array, "arrays lines rows width"], where: Layout, shape: tuple[int, int, int]
) -> Float[Array, "pair slices rows columns"]:
    """The other way round."""
    places = jnp.moveaxis(held, 2, 0).reshape(held.shape[2], -1)
    return jnp.moveaxis(places[:, where.place].reshape(-1, *shape), 0, 2)


def fold_tile(
    g: Float[Array, "pair slices rows columns"], wires: ArrayWires, n_out: int, arrays: int, rows=None
) -> Float[Array, "pair slices rows columns"]:
    """The effective conductances (S) of a tile's cells, of which `rows` rows are there (None: all; may be traced).

    NaN where no solution was found, which no array of cells and wires has shown.
    """
    pair, slices, m, columns = g.shape
    shape = pair, slices, columns
    where = layout(wires, shape, n_out, arrays)
    if rows is not None:
        g = jnp.where((jnp.arange(m) < rows)[None, None, :, None], g, 0.0)

    def one_array(array):
        cells, used = array
        folded = fold(cells, wires, rows, used)
        return jnp.where(folded.residual < FOLD_RESIDUAL, folded.conductance, jnp.nan)

    return to_tile(jax.lax.map(one_array, (to_arrays(g, where), jnp.asarray(where.used))), where, shape)
