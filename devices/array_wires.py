"""The wires of an array: what word and bit lines resist, and how the cells hang on them.

Every wire is a chain of equal segments that ends at a fixed potential: a word line at its driver, a bit line at the
virtual ground of its sense amplifier. One segment lies before the first cell, and the end's own resistance in series
with it (the same circuit as badcrossbar's and CrossSim's):

    V_i -(source + word_line)- w_i0 -word_line- w_i1 - ...      b_0j -bit_line- b_1j - ... -(bit_line + sense)- 0 V
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pim.devices.record import leaf, record, static


@record
class ArrayWires:
    """Resistances of an array's wires, and on which of them its cells are; a segment spans one cell.

    `Wire.resistance(pitch)` (devices/wire.py) gives the resistance of a segment from the node and the pitch of the
    cells.

    `pairs` says where the two cells of a differential pair are: in "separate" arrays, in neighbouring columns of one
    array ("interleaved"), whose word lines then carry the current of both, or on one bit line ("shared_bit_line"), each
    with a word line of its own, driven at +V and -V, so that their currents cancel on the spot (CrossSim's
    interleaved arrays).

    `input` says what an input does: as a "source", its word line carries the cells' current; at the "gate" of the
    cells' transistors it only lets current through from a source line, which runs along the bit line and is fed at the
    end where the bit line is not sensed. Cells without input are then off.

    >>> wires = ArrayWires(word_line=1.0, bit_line=1.0)
    """

    word_line: Float[Array, ""] = leaf("Ohm", "of a segment of the word line", low=0)
    bit_line: Float[Array, ""] = leaf("Ohm", "of a segment of the bit line", low=0)
    source: Float[Array, ""] = leaf("Ohm", "of the driver of a word line, or of a source line", low=0, default=0.0)
    sense: Float[Array, ""] = leaf("Ohm", "of the sense amplifier of a bit line", low=0, default=0.0)
    source_line: Float[Array, ""] = leaf(
        "Ohm", "of a segment of the source line, where input = 'gate'", low=0, default=0.0
    )
    tolerance: Float[Array, ""] = leaf(
        "1", "relative residual at which iterative solvers stop", low=1e-15, high=1e-2, default=1e-6
    )
    drive_side: str = static(
        "end of the word lines that is driven, seen from column 0", choices=("near", "far"), default="near"
    )
    sense_side: str = static(
        "end of the bit lines that is sensed, seen from row 0", choices=("near", "far"), default="far"
    )
    pairs: str = static(
        "where the cells of a differential pair are",
        choices=("separate", "interleaved", "shared_bit_line"),
        default="separate",
    )
    input: str = static("what inputs do", choices=("source", "gate"), default="source")
    reads: str = static(
        "read noise of linear cells: to first order on conductances into which the wires are folded, or of cells drawn "
        "anew in a circuit that is solved for each read",
        choices=("folded", "solved"),
        default="folded",
    )


def by_distance(count: int, used, side: str) -> Int[Array, "count"]:
    """Indices of the cells along a line by their distance from its end on that side, those not used last.

    The `used` cells (None: all; may be traced) come first along the line and lie next to its end. The order is its own
    inverse.
    """
    along = jnp.arange(count)
    return along if side == "near" else ((count if used is None else used) - 1 - along) % count


def coupling(count: int, used, side: str, segment, end) -> Float[Array, "count count"]:
    """Voltage drop (Ohm) at each cell of a line for a unit of current from each: what their ways to the end share.

    `segment` and `end` are the resistances of a segment and of the end on that side.
    """
    segment = jnp.asarray(segment)
    place = by_distance(count, used, side)  # its own inverse: also the distance of each cell
    shared = jnp.minimum(place[:, None], place[None, :]) + 1
    return end + segment * shared.astype(segment.dtype)


def word_coupling(wires: ArrayWires, columns: int, used=None) -> Float[Array, "columns columns"]:
    """Coupling (Ohm) of the cells along a word line, of which `used` columns are there (None: all)."""
    return coupling(columns, used, wires.drive_side, wires.word_line, wires.source)


def bit_coupling(wires: ArrayWires, rows: int, used=None) -> Float[Array, "rows rows"]:
    """Coupling (Ohm) of the cells along a bit line, of which `used` rows are there (None: all)."""
    return coupling(rows, used, wires.sense_side, wires.bit_line, wires.sense)


def source_coupling(wires: ArrayWires, rows: int, used=None) -> Float[Array, "rows rows"]:
    """Coupling (Ohm) of the cells along a source line, which is fed where the bit line is not sensed."""
    fed = "near" if wires.sense_side == "far" else "far"
    return coupling(rows, used, fed, wires.source_line, wires.source)
