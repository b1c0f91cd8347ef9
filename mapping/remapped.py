"""Which order of rows and columns makes stuck cells matter least, tile by tile.

A stuck cell misses what its weight asks of it by a share d of the window, and the weight by gain d of its slice. What
is made least is the sum of the squares of these over all cells: by one assignment for the rows of a tile, each of which
may be at any place, and with that order by one for the outputs of each array. Each is the best there is for itself and
none makes the sum larger; both together need not be the best pair of orders.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int8, Int32

from pim.devices.remapping import Remapping
from pim.mapping.assignment import assigned


class Places(NamedTuple):
    """Where the rows and columns of a matrix are in its array: the n-th row is at `rows[n]`; spares are behind."""

    rows: Int32[Array, "rows"]
    columns: Int32[Array, "columns"]

    def of(self, states: Int8[Array, "*lead rows all_columns"]) -> Int8[Array, "*lead rows columns"]:
        """What the cells of the matrix find at their places."""
        return states[..., self.rows[:, None], self.columns[None, :]]


EXACT = jax.lax.Precision.HIGHEST


@partial(jax.jit, static_argnames="arrays")
def best_places(
    remapping: Remapping,
    weighing: Float[Array, "slices"],
    share: Float[Array, "pair slices rows columns"],
    states: Int8[Array, "pair slices rows all_columns"],
    used: Bool[Array, "rows"],
    arrays: int,
) -> Places:
    """The places of the rows and columns of a tile.

    Args:
        remapping: what may be moved.
        weighing: square of what each slice counts.
        share: of the window that each cell is to hold, 0 at g_min.
        states: of the cells, see `StuckFaults.states`; spare columns stand behind the others, array by array.
        used: rows that have an input; the others may take any place.
        arrays: that stand side by side; an output stays in its own.
    """
    columns = share.shape[-1]
    counted = weighing[None, :, None, None] * used[None, None, :, None]
    to_high, to_low = counted * (1.0 - share) ** 2, counted * share**2
    high, low = (states > 0).astype(jnp.float32), (states < 0).astype(jnp.float32)
    rows = jnp.arange(share.shape[2], dtype=jnp.int32)
    if remapping.rows:
        here = [state[..., :columns] for state in (high, low)]
        rows = assigned(_costs("psic,psrc->ir", (to_high, to_low), here))
        high, low = high[:, :, rows], low[:, :, rows]
    if not remapping.columns:
        return Places(rows, jnp.arange(columns, dtype=jnp.int32))
    spares, block = remapping.spare_outputs, -(-columns // arrays)
    full = columns // block

    def of_blocks(first: int, count: int, width: int) -> Array:
        """The columns of some arrays of the same width, from `first` on."""
        begin = first * block

        def cut(whole: Array, at: int, size: int) -> Array:
            part = whole[..., at : at + count * size]
            return part.reshape(*whole.shape[:-1], count, size)

        wanted = [cut(each, begin, width) for each in (to_high, to_low)]
        found = [
            jnp.concatenate([cut(each, begin, width), cut(each, columns + first * spares, spares)], axis=-1)
            for each in (high, low)
        ]
        place = jax.vmap(assigned)(_costs("psiaj,psiac->ajc", wanted, found))
        array = jnp.arange(first, first + count, dtype=jnp.int32)[:, None]
        own, spare = array * block + place, columns + array * spares + place - width
        return jnp.where(place < width, own, spare).reshape(-1)

    parts = [of_blocks(0, full, block)] if full else []
    if columns % block:
        parts.append(of_blocks(full, 1, columns - full * block))
    return Places(rows, jnp.concatenate(parts))


def _costs(how: str, wanted: tuple[Array, ...] | list[Array], found: list[Array]) -> Array:
    """Sums of squares of what is missed by each row or column of weights at each place."""
    high, low = (jnp.einsum(how, a, b, precision=EXACT) for a, b in zip(wanted, found, strict=True))
    return high + low


def stuck_error(
    weighing: Float[Array, "slices"],
    share: Float[Array, "pair slices rows columns"],
    states: Int8[Array, "pair slices rows all_columns"],
    used: Bool[Array, "rows"],
    places: Places | None = None,
) -> Float[Array, ""]:
    """What `best_places` makes least: the sum over stuck cells of the square of what their weights miss."""
    found = states[..., : share.shape[-1]] if places is None else places.of(states)
    held = jnp.where(found > 0, 1.0, jnp.where(found < 0, 0.0, share))
    return ((held - share) ** 2 * weighing[None, :, None, None] * used[None, None, :, None]).sum()
