"""A chip: one programmed instance of a device holding given weights."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from pim import crossbar as engine
from pim.compensation import compensate
from pim.crossbar import Crossbar, Ranges
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.holder import Holder
from pim.devices.macro import AnalogMacro
from pim.devices.random import site_key
from pim.devices.record import leaf, part, record
from pim.operands import Operands, measure_operands


@record
class Chip:
    """A matrix programmed into a device: its write errors, mismatch and faults are frozen in it.

    Attributes of interest: `time` (s since programming), `crossbar` (the programmed cells; None without analog cells),
    `held` (what a digital device has made of the matrix; None on an exact one).
    """

    weights: Float[Array, "n_in n_out"] = leaf("1", "the weights it was asked to hold")
    model: object = part("model of the device")
    key: Key[Array, ""] = leaf("1", "key of the chip")
    time: Float[Array, ""] | None = leaf("s", "time since programming; None: its device does not age")
    temperature: Float[Array, ""] | None = leaf("K", "temperature; None: that at which its laws were measured")
    crossbar: Crossbar | None = part("the programmed cells")
    held: object = part("what a digital device stores of the matrix", default=None)

    def at(self, time, temperature=None) -> "Chip":
        """The same chip later: a path of its cells, not a new draw.

        Args:
            time: time since programming in s; may be traced (outside the measured times a traced one gives NaN).
            temperature: in K, may be traced; None is the temperature at which the device was measured.

        Raises DeviceError if `time` is outside the measured times of the device, or if it has no law of ageing or, for
        a temperature, none of temperature.
        """
        if self.crossbar is None:
            return self
        assert isinstance(self.model, AnalogMacro)
        if temperature is not None:
            if self.model.cell.temperature is None:
                raise DeviceError("this device has no law of temperature; leave temperature=None")
            temperature = jnp.asarray(temperature, jnp.float32)
        time = reading_time(self.model, time)
        programmed = _program(self.weights, self.model, self.key, time, temperature, self.crossbar.ranges)
        return replace(self, time=time, temperature=temperature, crossbar=programmed)

    def compensate(
        self,
        kind: str = "global",
        *,
        since: float,
        x: Float[ArrayLike, "n n_in"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> "Chip":
        """The same chip with a digital gain that undoes the loss since an earlier readout.

        Args:
            kind: "global", one gain for the matrix, or "column", one for each output.
            since: time of the earlier readout, in s since programming.
            x: inputs of the readout; by default the identity, each cell on its own.
            key: key of the readout's noise; None reads without.

        Raises DeviceError if the device does not age or the kind is unknown.

        >>> chip.at(86400.0).compensate(since=0.0)
        """
        return compensate(self, kind, since=since, x=x, key=key)

    def matmul(
        self,
        x: Float[ArrayLike, "*batch n_in"],
        *,
        key: Key[Array, ""] | None,
        rows: Int[ArrayLike, "*batch"] | None = None,
    ) -> Float[Array, "*batch n_out"]:
        """The product x W with all the errors of this chip.

        Args:
            x: inputs; any leading dimensions.
            key: key of the reads; None reads without noise.
            rows: identity of each input vector, which decides its draws; by default its place in `x`.

        Raises DeviceError if the width of `x` is not that of the matrix.
        """
        x, n_in = jnp.asarray(x, jnp.float32), self.weights.shape[0]
        if x.ndim < 1 or x.shape[-1] != n_in:
            raise DeviceError(f"x has the shape {x.shape}; its last axis must be {n_in}, the inputs of this matrix")
        flat = x.reshape(-1, n_in)
        ids = jnp.arange(flat.shape[0]) if rows is None else jnp.asarray(rows).reshape(-1)
        if ids.shape[0] != flat.shape[0]:
            raise DeviceError(f"rows has {ids.shape[0]} entries; x has {flat.shape[0]} vectors")
        pairs = jnp.stack([jnp.zeros(ids.shape, jnp.uint32), ids.astype(jnp.uint32)], axis=1)
        return _matmul(self.weights, self.crossbar, self.held, self.model, flat, pairs, key).reshape(*x.shape[:-1], -1)

    def operands(self, x: Float[ArrayLike, "*batch n_in"]) -> Operands:
        """Statistics of the inputs `x` on this chip's cells, for `pim.cost`."""
        if self.crossbar is None:
            raise DeviceError("an exact device has no cells whose energy depends on its operands")
        assert isinstance(self.model, AnalogMacro)
        flat = jnp.asarray(x, jnp.float32).reshape(-1, self.weights.shape[0])
        return measure_operands(self.crossbar, self.model, flat)


def program(
    weights: Float[ArrayLike, "n_in n_out"],
    device: Device,
    *,
    key: Key[Array, ""],
    calibration: Float[ArrayLike, "n n_in"] | None = None,
    time: float | None = None,
) -> Chip:
    """Program a matrix into a device.

    Args:
        weights: the matrix, [in, out]; y = x W.
        device: a preset or a loaded device.
        key: key of the chip: the same key and device give the same cells.
        calibration: inputs that set the ranges of DAC and ADC; without them the DAC follows each vector's largest
            value and the ADC spans the largest sum that its array could give.
        time: s since programming at which it is read; by default the reference time of the device.

    Raises:
        DeviceError: weights that are no finite matrix, calibration of another width, a time that was not measured.

    >>> chip = pim.program(w, pim.preset("rram-techC"), key=jax.random.key(0), calibration=x)
    >>> y = chip.matmul(x, key=jax.random.key(1))
    """
    weights = jnp.asarray(weights, jnp.float32)
    _check_matrix(weights, "weights")
    model = device.model
    if not isinstance(model, AnalogMacro):
        held = None
        if isinstance(model, Holder):
            if time is not None:
                raise DeviceError("time was given, but this device has no law of ageing: leave time=None")
            held = _hold(weights, model, key)
        return Chip(weights=weights, model=model, key=key, time=None, temperature=None, crossbar=None, held=held)
    when, ranges = reading_time(model, time), None
    if calibration is not None:
        calibration = jnp.asarray(calibration, jnp.float32)
        _check_matrix(calibration, "calibration")
        if calibration.shape[1] != weights.shape[0]:
            raise DeviceError(f"calibration is {calibration.shape}; it must be [n, {weights.shape[0]}]")
        ranges = _calibrate(weights, model, calibration)
    programmed = _program(weights, model, key, when, None, ranges)
    return Chip(weights=weights, model=model, key=key, time=when, temperature=None, crossbar=programmed)


def reading_time(macro: AnalogMacro, time) -> Float[Array, ""] | None:
    """The time (s) at which a chip is read: the one given, if it was measured, else the device's reference time."""
    cell = macro.cell
    if not cell.ages:
        if time is not None:
            raise DeviceError("time was given, but this device has no law of ageing: leave time=None")
        return None
    if time is None:
        if cell.reference_time is None:
            raise DeviceError("this device ages and names no reference_time: give the time since programming, in s")
        return cell.reference_time
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((time, cell))):
        cell.check_time(float(time))
    return jnp.asarray(time, jnp.float32)


def _check_matrix(matrix: Array, name: str) -> None:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DeviceError(f"{name} has the shape {matrix.shape}; it must be a matrix with rows and columns")
    if not isinstance(matrix, Tracer) and not np.isfinite(matrix).all():
        bad = int(np.size(matrix) - np.isfinite(matrix).sum())
        raise DeviceError(f"{name} holds {bad} values that are NaN or infinite; every value must be finite")


@jax.jit
def _program(weights, macro, key, time, temperature, ranges: Ranges | None):
    return engine.program(weights, macro, key, time, temperature, ranges=ranges)


@jax.jit
def _calibrate(weights, macro, x):
    nominal = engine.program(weights, macro, None, None)
    return engine.calibrate(nominal, macro, x)


@jax.jit
def _hold(weights, model, key):
    return model.hold(weights, lambda use: site_key(key, use=use))


@jax.jit
def _matmul(weights, programmed, held, macro, x, rows, key):
    if held is not None:
        return macro.multiply(held, x)
    if programmed is None:
        return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)
    return engine.matmul(programmed, macro, x, rows, key)
