"""Rows that belong together: their numbers, and the first of each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


def compact(number: Int[np.ndarray, "data"]) -> tuple[Int[np.ndarray, "data"], int]:
    """Numbers of 0 or more counted anew from 0 without gaps, in the same order, and how many different ones there are.

    >>> compact(np.array([7, 3, 7]))
    (array([1, 0, 1]), 2)
    """
    if not number.size:
        return number.astype(int), 0
    there = np.bincount(number) > 0
    return (np.cumsum(there) - 1)[number], int(there.sum())


def numbered(*keys: np.ndarray) -> Int[np.ndarray, "rows"]:
    """The number of each row's combination of keys, from 0 in ascending order of the first key, then the second, ..."""
    if not len(keys[0]):
        return np.zeros(0, int)
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    number = np.empty(len(order), int)
    number[order] = np.cumsum(new)
    return number


def fill(values: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """The values with -1 where there is none, so that missing ones are equal."""
    return np.where(np.isnan(values), -1.0, values)


def first_rows(group: Int[np.ndarray, "rows"], mask: np.ndarray, count: int) -> Int[np.ndarray, "groups"]:
    """The first row of each group in the mask, -1 where there is none."""
    rows = np.flatnonzero(mask)[::-1]
    found = np.full(count, -1)
    found[group[rows]] = rows
    return found


LEAST_CELLS = 8
"""Cells from which a bootstrap draws cells."""


@dataclass(frozen=True)
class Units:
    """What a bootstrap draws: the cells or, where there are only a few, what was done to them, each time by itself."""

    of: Int[np.ndarray, "data"]
    """The unit of each datum."""
    count: int
    cells: int
    notes: tuple[str, ...]


def units_of(cell: Int[np.ndarray, "data"], own: Int[np.ndarray, "data"]) -> Units:
    """Cells as units if there are eight or more, else whatever `own` numbers (writes, series).

    Readings of a cell hang together, so that bands for other cells than those measured come from drawing cells. Of one
    cell, or a few, only bands for these cells themselves can be had.
    """
    of, cells = compact(cell)
    if cells >= LEAST_CELLS:
        return Units(of, cells, cells, ())
    note = f"fewer than {LEAST_CELLS} cells: bands hold for these cells alone"
    return Units(*compact(own), cells, (note,))
