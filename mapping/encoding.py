"""Encodings: signed digits to the conductances of cells, and cells back to the signed column sum.

An encoding says which columns a matrix occupies, the target of each cell, and how the columns of a tile combine into
the digital result: in front of the ADC (a differential pair) or behind it (a reference column with conversions of its
own).
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float


class Encoding(Protocol):
    """How signed digits live in cells that only know conductances."""

    cells_a_weight: int  # in a slice: one, or a pair
    largest_signal: float  # of one cell or pair at full conductance and full input

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "pair rows columns"]:
        """Target states in [0, 1] of the cells of one tile and slice; `arrays` stand side by side."""
        ...

    def signal(self, g: Float[Array, "pair rows columns"], g_min, g_max) -> Float[Array, "rows columns"]:
        """What the ADC sees: signed weights, in the unit of the conductances; a weight of one is g_max - g_min."""
        ...

    def noise(self, variance: Float[Array, "pair rows columns"]) -> Float[Array, "rows columns"]:
        """Variance of `signal` from the variance of each cell."""
        ...

    def combine(self, y: Float[Array, "*batch columns"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """The digital result of a tile from its converted columns."""
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


class Differential:
    """A pair of columns: positive weights in one, negative in the other, the rest of the pair at g_min."""

    cells_a_weight = 2
    largest_signal = 1.0

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "2 rows n_out"]:
        """Positive and negative parts."""
        return jnp.stack([jnp.maximum(digits, 0.0), jnp.maximum(-digits, 0.0)])

    def signal(self, g: Float[Array, "2 rows n_out"], g_min, g_max) -> Float[Array, "rows n_out"]:
        """The difference of the pair, taken before the ADC."""
        return g[0] - g[1]

    def noise(self, variance: Float[Array, "2 rows n_out"]) -> Float[Array, "rows n_out"]:
        """Both cells of the pair add."""
        return variance[0] + variance[1]

    def combine(self, y: Float[Array, "*batch n_out"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Nothing is left to do."""
        return y

    def converted(self, n_out, arrays):
        """One conversion an output."""
        return n_out

    def cell_columns(self, n_out, arrays):
        """Two columns an output."""
        return 2 * n_out

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Pairs of columns that fit."""
        return columns // (2 * slices)


class OffsetColumn:
    """One column an output, zero at mid-window, and in each array a reference column of mid-window cells.

    The reference is converted like any column and taken off in the digital domain; its errors are common to the outputs
    of its array.
    """

    cells_a_weight = 1
    largest_signal = 2.0

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "1 rows columns"]:
        """Weights shifted to mid-window, then the reference columns."""
        reference = jnp.zeros((digits.shape[0], arrays))
        return (jnp.concatenate([digits, reference], axis=1)[None] + 1.0) / 2.0

    def signal(self, g: Float[Array, "1 rows columns"], g_min, g_max) -> Float[Array, "rows columns"]:
        """The conductance itself; half the window is a weight of one."""
        return 2.0 * g[0]

    def noise(self, variance: Float[Array, "1 rows columns"]) -> Float[Array, "rows columns"]:
        """In the units of `signal`."""
        return 4.0 * variance[0]

    def combine(self, y: Float[Array, "*batch columns"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Outputs less the reference of their array."""
        block = -(-n_out // arrays)
        return y[..., :n_out] - jnp.repeat(y[..., n_out:], block, axis=-1)[..., :n_out]

    def converted(self, n_out, arrays):
        """Outputs and references."""
        return n_out + arrays

    def cell_columns(self, n_out, arrays):
        """Outputs and references."""
        return n_out + arrays

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """All columns but the reference."""
        return columns // slices - 1


class OffsetReference:
    """One column an output, zero at mid-window, less an exact reference in front of the ADC.

    The reference is the nominal mid-window current of the inputs: it has no errors and does not age, so that all drift
    of the cells shows. Tools that program one cell a weight and convert it back assume this (aihwkit's single device).
    """

    cells_a_weight = 1
    largest_signal = 1.0

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "1 rows n_out"]:
        """Weights shifted to mid-window."""
        return (digits[None] + 1.0) / 2.0

    def signal(self, g: Float[Array, "1 rows n_out"], g_min, g_max) -> Float[Array, "rows n_out"]:
        """Twice the distance from mid-window."""
        return 2.0 * g[0] - (g_min + g_max)

    def noise(self, variance: Float[Array, "1 rows n_out"]) -> Float[Array, "rows n_out"]:
        """In the units of `signal`."""
        return 4.0 * variance[0]

    def combine(self, y: Float[Array, "*batch n_out"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Nothing is left to do."""
        return y

    def converted(self, n_out, arrays):
        """One conversion an output."""
        return n_out

    def cell_columns(self, n_out, arrays):
        """One column an output."""
        return n_out

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Columns that fit."""
        return columns // slices


ENCODINGS: dict[str, Encoding] = {
    "differential": Differential(),
    "offset": OffsetColumn(),
    "offset_reference": OffsetReference(),
}
