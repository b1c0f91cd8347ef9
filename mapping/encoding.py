"""Encodings: weights to the states of cells, and cells back to the signed column sum.

An encoding says in which digits a weight is cut, which columns a matrix occupies, the target of each cell, and how the
columns of a tile combine into the digital result: in front of the ADC (a differential pair) or behind it (a reference
column with conversions of its own).
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

from pim.devices.macro import AnalogMacro
from pim.mapping.errors import MappingError
from pim.mapping.offsets import OffsetColumn, OffsetDigital, OffsetReference
from pim.mapping.pairs import Differential, SeparatePair, TwoSided
from pim.mapping.weights import Digits


@runtime_checkable
class Encoding(Protocol):
    """How signed weights live in cells that only know conductances."""

    cells_a_weight: int  # in a slice: one, or a pair
    signals_an_output: int  # columns of `signal` for each output, reference columns apart

    def digits(self, weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
        """Weights in [-1, 1] as digits that single cells or pairs hold, and what each slice counts."""
        ...

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "pair rows columns"]:
        """Target states in [0, 1] of the cells of one tile and slice; `arrays` stand side by side."""
        ...

    def signal(self, g: Float[Array, "pair rows columns"], g_min, g_max) -> Float[Array, "rows signals"]:
        """What the ADC sees: signed weights, in the unit of the conductances; a digit of one is g_max - g_min."""
        ...

    def largest_signal(self, g_min, g_max) -> Any:
        """Of one cell or pair at full conductance and full input, over g_max - g_min."""
        ...

    def noise(self, variance: Float[Array, "pair rows columns"]) -> Float[Array, "rows signals"]:
        """Variance of `signal` from the variance of each cell."""
        ...

    def combine(self, y: Float[Array, "*batch signals"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """The digital result of a tile from its converted columns, but for a digital offset."""
        ...

    def places(self, n_out: int, arrays: int) -> tuple[Int[np.ndarray, "signals"], Int[np.ndarray, "signals"]]:
        """Of each signal the array in which it is converted, and its place there, before slices are set side by side.

        Outputs are cut into as many blocks as there are arrays.
        """
        ...

    def converted(self, n_out, arrays) -> Float[Array, ""]:
        """Columns that are converted for `n_out` outputs."""
        ...

    def cell_columns(self, n_out, arrays) -> Float[Array, ""]:
        """Columns of cells that `n_out` outputs occupy."""
        ...

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Outputs that an array of `columns` holds, all slices of a weight in the same array."""
        ...


ENCODINGS: dict[str, Encoding] = {
    "differential": Differential(),
    "differential_two_sided": TwoSided(),
    "differential_digital": SeparatePair(Differential()),
    "offset": OffsetColumn(),
    "offset_reference": OffsetReference(),
    "offset_digital": OffsetDigital(),
}


def encoding_of(macro: AnalogMacro) -> Encoding:
    """The encoding of a macro: with reads by the sign of the weight, the columns of a pair are read each on its own.

    Raises MappingError where such reads have no pair to choose from.
    """
    encoding = ENCODINGS[macro.encoding]
    if macro.read_phases < 4:
        return encoding
    if not isinstance(encoding, Differential):
        raise MappingError(
            f"read_phases = 4 reads the two columns of a pair one after the other, but encoding = {macro.encoding!r} "
            "has no pair of them: take 'differential', or read_phases = 2"
        )
    return SeparatePair(encoding, shared=True)


def lines_of(macro: AnalogMacro) -> Encoding:
    """The encoding of what its weights hold: as it is, or the lines of each pair apart if the bit line asks for them.

    Lines that are kept apart meet in front of the converter (`column_sums`).
    """
    encoding = encoding_of(macro)
    return SeparatePair(encoding) if isinstance(encoding, Differential) and lines_meet(macro) else encoding


def lines_meet(macro: AnalogMacro) -> bool:
    """Whether the lines of a pair are kept apart and meet in front of the converter."""
    line = macro.bit_line
    return line is not None and line.needs_lines and isinstance(encoding_of(macro), Differential)
