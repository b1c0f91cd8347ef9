"""Encodings of a weight in one cell, with zero in the middle of the window."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pim.mapping.weights import Digits, offset_digits, signed_digits


class OffsetReference:
    """One column an output, less an exact reference in front of the ADC.

    The reference is the nominal mid-window current of the inputs: it has no errors and does not age, so that all drift
    of the cells shows. Tools that program one cell a weight and convert it back assume this (aihwkit's single device).
    """

    cells_a_weight = 1
    signals_an_output = 1

    def digits(self, weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
        """Magnitude in digits, all with the sign of the weight."""
        return signed_digits(weights, weight_bits, slices)

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "1 rows n_out"]:
        """Weights shifted to mid-window."""
        return (digits[None] + 1.0) / 2.0

    def signal(self, g: Float[Array, "1 rows n_out"], g_min, g_max) -> Float[Array, "rows n_out"]:
        """Twice the distance from mid-window."""
        return 2.0 * g[0] - (g_min + g_max)

    def largest_signal(self, g_min, g_max):
        """Half a window from its middle, twice."""
        return 1.0

    def noise(self, variance: Float[Array, "1 rows n_out"]) -> Float[Array, "rows n_out"]:
        """In the units of `signal`."""
        return 4.0 * variance[0]

    def combine(self, y: Float[Array, "*batch n_out"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Nothing is left to do."""
        return y

    def places(self, n_out: int, arrays: int) -> tuple[Int[np.ndarray, "columns"], Int[np.ndarray, "columns"]]:
        """Outputs side by side."""
        block = -(-n_out // arrays)
        return np.arange(n_out) // block, np.arange(n_out) % block

    def converted(self, n_out, arrays):
        """One conversion an output."""
        return n_out

    def cell_columns(self, n_out, arrays):
        """One column an output."""
        return n_out

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Columns that fit."""
        return columns // slices


class OffsetColumn(OffsetReference):
    """One column an output, and in each array a reference column of mid-window cells.

    The reference is converted like any column and taken off in the digital domain; its errors are common to the outputs
    of its array.
    """

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "1 rows columns"]:
        """Weights shifted to mid-window, then the reference columns."""
        reference = jnp.zeros((digits.shape[0], arrays))
        return (jnp.concatenate([digits, reference], axis=1)[None] + 1.0) / 2.0

    def signal(self, g: Float[Array, "1 rows columns"], g_min, g_max) -> Float[Array, "rows columns"]:
        """The conductance itself; half the window is a weight of one."""
        return 2.0 * g[0]

    def largest_signal(self, g_min, g_max):
        """A full cell, its g_min included."""
        return 2.0 * g_max / (g_max - g_min)

    def combine(self, y: Float[Array, "*batch columns"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Outputs less the reference of their array."""
        block = -(-n_out // arrays)
        return y[..., :n_out] - jnp.repeat(y[..., n_out:], block, axis=-1)[..., :n_out]

    def places(self, n_out: int, arrays: int) -> tuple[Int[np.ndarray, "columns"], Int[np.ndarray, "columns"]]:
        """Outputs side by side, and behind them the reference of each array."""
        array, place = super().places(n_out, arrays)
        block = -(-n_out // arrays)
        return np.concatenate([array, np.arange(arrays)]), np.concatenate([place, np.full(arrays, block)])

    def converted(self, n_out, arrays):
        """Outputs and references."""
        return n_out + arrays

    def cell_columns(self, n_out, arrays):
        """Outputs and references."""
        return n_out + arrays

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """All columns but the reference."""
        return columns // slices - 1


class OffsetDigital(OffsetReference):
    """One column an output; the offset of all cells is taken off behind the ADC, from the digital sum of the inputs.

    Digits are those of the shifted weight, w + 2^(bits-1), so that every slice fills its window and only the uppermost
    knows of the sign.
    """

    def digits(self, weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
        """Digits of the shifted weight, in [0, 1]."""
        return offset_digits(weights, weight_bits, slices)

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "1 rows n_out"]:
        """The digits."""
        return digits[None]

    def signal(self, g: Float[Array, "1 rows n_out"], g_min, g_max) -> Float[Array, "rows n_out"]:
        """The conductance itself."""
        return g[0]

    def largest_signal(self, g_min, g_max):
        """A full cell, its g_min included."""
        return g_max / (g_max - g_min)

    def noise(self, variance: Float[Array, "1 rows n_out"]) -> Float[Array, "rows n_out"]:
        """That of the cell."""
        return variance[0]
