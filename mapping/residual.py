"""Residual slices: each programs what the more significant ones have missed of the weight.

The most significant slice takes the weight, is read back, and what its write error left over goes into the next one,
whose cells count `residual_gain` times less: errors shrink by that factor with every slice but the last one's own.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.macro import AnalogMacro
from pim.mapping.encoding import Encoding
from pim.mapping.errors import MappingError
from pim.mapping.offsets import OffsetReference
from pim.mapping.pairs import Differential, SeparatePair


def residual_gains(macro: AnalogMacro) -> Float[Array, "slices"]:
    """What each slice counts, least significant first; the last one counts 1."""
    return macro.residual_gain ** jnp.arange(1.0 - macro.slices, 1.0)


def residual_digits(
    weights: Float[Array, "rows n_out"],
    macro: AnalogMacro,
    encoding: Encoding,
    arrays: int,
    written: Callable[[Float[Array, "slices rows n_out"]], Float[Array, "pair slices rows n_out"]],
) -> Float[Array, "slices rows n_out"]:
    """The digits of a tile, found slice by slice.

    Args:
        weights: of the tile, in [-1, 1].
        macro: the device.
        encoding: its encoding, whose `signal` is the weight.
        arrays: that stand side by side.
        written: conductances (S) of all cells, as read back, when told to take digits: the same cells at each call.

    Raises MappingError for an encoding in which a single cell's readout is not a weight.
    """
    readout = encoding.pair if isinstance(encoding, SeparatePair) else encoding
    if not (isinstance(readout, Differential) or type(readout) is OffsetReference):
        raise MappingError(
            f"slicing = 'residual' reads cells back as a weight; encoding = {macro.encoding!r} does not give one: take "
            "'differential' or 'offset_reference'"
        )
    cell, gains = macro.cell, residual_gains(macro)
    digits = jnp.zeros((macro.slices, *weights.shape))
    rest = weights
    for part in reversed(range(macro.slices)):
        digits = digits.at[part].set(jnp.clip(rest / gains[part], -1.0, 1.0))
        found = readout.signal(written(digits)[:, part], cell.g_min, cell.g_max) / (cell.g_max - cell.g_min)
        rest = rest - found * gains[part]
    return digits
