"""A matrix kept as whole numbers, and the sums of its tiles: by bytes or by bits, as its formulation says.

Everything is counted in the smallest product, the least digit of a weight times the least level of an input. Sums,
place values and what converters are lossless for are then whole numbers, which float32 adds exactly up to 2^24.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from pim.arriving import Arriving, by_conversion
from pim.devices.macro import AnalogMacro
from pim.exact_product import exact_product, limbs
from pim.formulation import Formulation
from pim.inputs import drive
from pim.integer_sums import as_bytes, integer_sums
from pim.mapping.weights import Digits
from pim.packed_bits import input_planes, packed_sums, weight_planes
from pim.sum_grid import largest_digit


class Counted(NamedTuple):
    """What is counted in smallest products."""

    unit: Float[Array, ""]
    """The smallest product, in cells of full conductance and input."""
    places: Float[Array, "slices"]
    """Whole place value of each slice."""
    whole: Float[Array, ""]
    """What one counts in the product, whose weights and inputs are at most one."""
    offset: Float[Array, ""] | None
    """What the digital sum of the input codes counts less."""


WholeCells = Int8[Array, "tiles columns rows"] | UInt32[Array, "tiles slices planes words columns"]


def in_smallest_products(macro: AnalogMacro, gains: Float[Array, "slices"], offset: Float[Array, ""] | None) -> Counted:
    """Gains of slices, and what is taken off for each input, in smallest products."""
    digit, level, top = largest_digit(macro), macro.dac.largest_level, macro.dac.top
    whole = gains[0] / (digit * top)
    off = None if offset is None else jnp.round(offset / (whole * top))
    return Counted(1.0 / (digit * level), jnp.round(gains / gains[0]), whole, off)


def whole_cells(
    formulation: Formulation, macro: AnalogMacro, signals: Float[Array, "tiles rows all_columns"]
) -> WholeCells:
    """Signed weights of the cells, in [-1, 1] and slice by slice, as whole numbers."""
    digits = jnp.round(signals * largest_digit(macro))
    if formulation.kind == "integer":
        return jax.lax.map(as_bytes, digits)
    tiles, rows, _ = digits.shape
    by_slice = jnp.moveaxis(digits.reshape(tiles, rows, macro.slices, -1), 2, 1)
    return jax.lax.map(lambda tile: weight_planes(tile, formulation.planes), by_slice)


def whole_sums(
    formulation: Formulation,
    macro: AnalogMacro,
    levels: Float[Array, "steps batch rows"],
    cells: Int8[Array, "all_columns rows"] | UInt32[Array, "slices planes words columns"],
) -> Arriving:
    """Sums of a tile for each step and slice, in smallest products."""
    steps, batch, rows = levels.shape
    if formulation.kind == "packed":
        magnitudes, signs = input_planes(levels)
        count = lambda step, part: packed_sums(magnitudes[step], signs[step], cells[part]).astype(jnp.float32)
        return Arriving([count(step, part) for step in range(steps) for part in range(macro.slices)])
    sums = integer_sums(levels.reshape(-1, rows).astype(jnp.int8), cells).T
    return Arriving(by_conversion(sums.reshape(steps, batch, macro.slices, -1).astype(jnp.float32)))


def whole_weights(formulation: Formulation, macro: AnalogMacro, cut: Digits) -> Int8[Array, "limbs n_out n_in"]:
    """The integers that the digits of a matrix are, for `product_of_integers`."""
    assert macro.weight_bits is not None
    value = (cut.gains[:, None, None] * cut.digits).sum(axis=0) - (0.0 if cut.offset is None else cut.offset)
    return limbs((2.0 ** (macro.weight_bits - 1.0) - 1.0) * value.T, formulation.limbs[0])


def product_of_integers(
    formulation: Formulation,
    macro: AnalogMacro,
    weights: Int8[Array, "limbs n_out n_in"],
    x: Float[Array, "batch n_in"],
    full_scale: Float[Array, ""] | None,
) -> Float[Array, "batch n_out"]:
    """The product with a matrix of integers, of which no converter changes a sum; weights of one are at their limit."""
    assert macro.weight_bits is not None
    full, levels, places = drive(macro, x, full_scale, whole=True)
    codes = (places[:, None, None] * levels).sum(axis=0)
    total = exact_product(limbs(codes, formulation.limbs[1]), weights).astype(jnp.float32)
    return total * (full / ((2.0 ** (macro.weight_bits - 1.0) - 1.0) * macro.dac.top))
