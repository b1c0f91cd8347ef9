"""Encodings of a weight in two cells, one that adds to the sum and one that takes from it."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pim.mapping.weights import Digits, signed_digits


class Differential:
    """A pair of columns: positive weights in one, negative in the other, the rest of the pair at g_min.

    The difference is taken before the ADC. Digits have the sign of the weight.
    """

    cells_a_weight = 2
    signals_an_output = 1

    def digits(self, weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
        """Magnitude in digits, all with the sign of the weight."""
        return signed_digits(weights, weight_bits, slices)

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "2 rows n_out"]:
        """Positive and negative parts."""
        return jnp.stack([jnp.maximum(digits, 0.0), jnp.maximum(-digits, 0.0)])

    def signal(self, g: Float[Array, "2 rows n_out"], g_min, g_max) -> Float[Array, "rows n_out"]:
        """The difference of the pair, taken before the ADC."""
        return g[0] - g[1]

    def largest_signal(self, g_min, g_max):
        """One full cell against an empty one."""
        return 1.0

    def noise(self, variance: Float[Array, "2 rows n_out"]) -> Float[Array, "rows n_out"]:
        """Both cells of the pair add."""
        return variance[0] + variance[1]

    def combine(self, y: Float[Array, "*batch n_out"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """Nothing is left to do."""
        return y

    def places(self, n_out: int, arrays: int) -> tuple[Int[np.ndarray, "n_out"], Int[np.ndarray, "n_out"]]:
        """Pairs side by side."""
        block = -(-n_out // arrays)
        return np.arange(n_out) // block, np.arange(n_out) % block

    def converted(self, n_out, arrays):
        """One conversion an output."""
        return n_out

    def cell_columns(self, n_out, arrays):
        """Two columns an output."""
        return 2 * n_out

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Pairs of columns that fit."""
        return columns // (2 * slices)


class TwoSided(Differential):
    """A pair whose cells move apart from mid-window, one up and one down by half the weight.

    No cell is at rest where the weight is zero, so that errors which grow with the conductance hit small weights too.
    """

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "2 rows n_out"]:
        """Mid-window plus and minus half the digit."""
        return jnp.stack([1.0 + digits, 1.0 - digits]) / 2.0


@dataclass(frozen=True)
class SeparatePair:
    """A pair whose two columns are converted each on its own and subtracted in the digital domain.

    Either each column has its turn at a converter, or (`shared`) the two are read one after the other through the one
    that the pair has, as in reads by the sign of the weight.
    """

    pair: Differential
    shared: bool = False

    cells_a_weight = 2
    signals_an_output = 2

    def digits(self, weights: Float[Array, "n_in n_out"], weight_bits: Float[Array, ""] | None, slices: int) -> Digits:
        """Those of the pair."""
        return self.pair.digits(weights, weight_bits, slices)

    def fractions(self, digits: Float[Array, "rows n_out"], arrays: int) -> Float[Array, "2 rows n_out"]:
        """Those of the pair."""
        return self.pair.fractions(digits, arrays)

    def signal(self, g: Float[Array, "2 rows n_out"], g_min, g_max) -> Float[Array, "rows two_n_out"]:
        """The adding columns, then the taking ones."""
        return jnp.concatenate([g[0], g[1]], axis=-1)

    def largest_signal(self, g_min, g_max):
        """A full cell, with the g_min that the difference would take off."""
        return g_max / (g_max - g_min)

    def noise(self, variance: Float[Array, "2 rows n_out"]) -> Float[Array, "rows two_n_out"]:
        """Each column has its own."""
        return jnp.concatenate([variance[0], variance[1]], axis=-1)

    def combine(self, y: Float[Array, "*batch two_n_out"], n_out: int, arrays: int) -> Float[Array, "*batch n_out"]:
        """The difference of the codes."""
        return y[..., :n_out] - y[..., n_out:]

    def places(self, n_out: int, arrays: int) -> tuple[Int[np.ndarray, "two_n_out"], Int[np.ndarray, "two_n_out"]]:
        """The columns of a pair side by side, or in one place."""
        array, place = self.pair.places(n_out, arrays)
        both = np.concatenate([place, place] if self.shared else [2 * place, 2 * place + 1])
        return np.concatenate([array, array]), both

    def converted(self, n_out, arrays):
        """Two conversions an output; with a shared converter they are reads of their own."""
        return n_out if self.shared else 2 * n_out

    def cell_columns(self, n_out, arrays):
        """Two columns an output."""
        return self.pair.cell_columns(n_out, arrays)

    def outputs_per_array(self, columns: int, slices: int) -> int:
        """Pairs of columns that fit."""
        return self.pair.outputs_per_array(columns, slices)
