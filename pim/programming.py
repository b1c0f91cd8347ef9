"""The verb `program`: a matrix into a device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from pim import crossbar
from pim.chip import Chip
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.gain_attention import GainAttention
from pim.devices.holder import Holder
from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_keys
from pim.formulation import choose, forced
from pim.holding import check_matrix, hold_matrix, program_cells, reading_time
from pim.inputs import check_inputs
from pim.sum_grid import check_pedestal
from pim.tile_programming import program_tiles


def program(
    weights: Float[ArrayLike, "n_in n_out"],
    device: Device,
    *,
    key: Key[Array, ""],
    calibration: Float[ArrayLike, "n n_in"] | None = None,
    time: float | None = None,
    chips: int | None = None,
    formulation: str | None = None,
) -> Chip:
    """Program a matrix into a device, or into many of them in one call.

    Args:
        weights: the matrix, [in, out]; y = x W.
        device: a preset or a loaded device.
        key: key of the chip: the same key and device give the same cells.
        calibration: inputs that set the ranges of DAC and ADC; without them the DAC follows each vector's largest
            value and the ADC spans the largest sum that its array could give.
        time: s since programming at which it is read; by default the reference time of the device.
        chips: how many; chip c is that of the key `chip_key(key, c)`, however many there are. By default a single one,
            of the key itself and without an axis of chips.
        formulation: how products are computed: "analog", "integer", "packed" or "lossless" (see `pim.formulation`); by
            default the fastest that gives what the device gives, which `chip.formulation` tells.

    Raises:
        DeviceError: weights that are no finite matrix, calibration of another width, a time that was not measured, no
            chips, a formulation that does not hold.

    >>> chip = pim.program(w, pim.preset("rram-techC"), key=jax.random.key(0), calibration=x)
    >>> y = chip.matmul(x, key=jax.random.key(1))
    >>> spread = pim.program(w, device, key=key, chips=64).matmul(x, key=None).std(axis=0)
    """
    if chips is not None:
        if chips < 1:
            raise DeviceError(f"chips = {chips}: give at least one")
        key = chip_keys(key, chips)
    weights = jnp.asarray(weights, jnp.float32)
    check_matrix(weights, "weights")
    model = device.model
    if not isinstance(model, AnalogMacro):
        held = None
        if isinstance(model, GainAttention):
            raise DeviceError(f"{device.name} computes attention and holds no weights: give another device")
        if formulation is not None:
            raise DeviceError("formulation was given, but this device has no analog cells: leave formulation=None")
        if isinstance(model, Holder):
            if time is not None:
                raise DeviceError("time was given, but this device has no law of ageing: leave time=None")
            held = hold_matrix(weights, model, key)
        return Chip(weights=weights, model=model, key=key, time=None, temperature=None, crossbar=None, held=held)
    check_pedestal(model)
    when, ranges = reading_time(model, time), None
    if calibration is not None:
        calibration = jnp.asarray(calibration, jnp.float32)
        check_matrix(calibration, "calibration")
        if calibration.shape[1] != weights.shape[0]:
            raise DeviceError(f"calibration is {calibration.shape}; it must be [n, {weights.shape[0]}]")
        check_inputs(model, calibration, "calibration")
        ranges = _calibrate(weights, model, calibration)
    how = choose if formulation is None else partial(forced, formulation)
    chosen = how(model, weights.shape[0], calibrated=ranges is not None)
    programmed = program_cells(weights, model, key, when, None, ranges, np.uint32(0), chosen)
    return Chip(weights=weights, model=model, key=key, time=when, temperature=None, crossbar=programmed)


@jax.jit
def _calibrate(weights, macro, x):
    nominal = program_tiles(weights, macro, None, None)
    return crossbar.calibrate(nominal, macro, x)
