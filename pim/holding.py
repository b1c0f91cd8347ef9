"""What becomes of a matrix that is put on a device, on one chip or on many: its cells, and when they are read."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.crossbar import Crossbar
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import is_many, site_key
from pim.formulation import Formulation
from pim.ranges import Ranges
from pim.tile_programming import program_tiles


def reading_time(macro: AnalogMacro, time, temperature=None) -> Float[Array, ""] | None:
    """The time (s) at which a chip is read: the one given, else the device's reference time.

    Raises DeviceError if it lies, at `temperature` (K; None: that of the macro), outside what was measured.
    """
    cell = macro.cell
    if not cell.ages:
        if time is not None:
            raise DeviceError("time was given, but this device has no law of ageing: leave time=None")
        return None
    if time is None:
        if cell.reference_time is None:
            raise DeviceError("this device ages and names no reference_time: give the time since programming, in s")
        time = cell.reference_time
    temperature = macro.temperature if temperature is None else temperature
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((time, cell, temperature))):
        cell.check_time(float(time), temperature)
    return jnp.asarray(time, jnp.float32)


def check_matrix(matrix: Array, name: str) -> None:
    """Raise DeviceError for what is no matrix, or holds values that are not finite."""
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DeviceError(f"{name} has the shape {matrix.shape}; it must be a matrix with rows and columns")
    if not isinstance(matrix, Tracer) and not np.isfinite(matrix).all():
        bad = int(np.size(matrix) - np.isfinite(matrix).sum())
        raise DeviceError(f"{name} holds {bad} values that are NaN or infinite; every value must be finite")


def program_cells(
    weights, macro, key, time, temperature, ranges: Ranges | None, cycle, formulation: Formulation
) -> Crossbar:
    """The cells of a chip, or of many: `key` is one key or an array of them."""
    cells = _program_cells(weights, macro, key, time, temperature, ranges, cycle, formulation)
    return replace(cells, formulation=formulation)  # with its own reason: of equal ones, jit keeps the first


@partial(jax.jit, static_argnames="formulation")
def _program_cells(weights, macro, key, time, temperature, ranges, cycle, formulation):
    def one(key):
        return program_tiles(
            weights, macro, key, time, temperature, ranges=ranges, cycle=cycle, formulation=formulation
        )

    # Chips one after another: as fast on a processor as several at a time, with the memory of one, and to the same bits
    # as alone (a vectorised exponential or sum may round otherwise).
    return jax.lax.map(one, key) if is_many(key) else one(key)


def hold_matrix(weights, model, key):
    """What a digital device, or many of them, make of a matrix.

    Raises DeviceError for a digital macro whose codes are too narrow or too wide to compute with.
    """
    if isinstance(model, DigitalMacro):
        model.check_bits()
    return _hold_matrix(weights, model, key)


@jax.jit
def _hold_matrix(weights, model, key):

    def one(key):
        return model.hold(weights, lambda use: site_key(key, use=use))

    return jax.lax.map(one, key) if is_many(key) else one(key)
