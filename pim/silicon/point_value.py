"""What our model has for a published figure, under the circumstances in which it was published."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from pim.costs.array_peak import peak
from pim.costs.operands import Operands, uniform_operands
from pim.devices.device import Device
from pim.devices.device import replace as replaced
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.published import STATISTICS, Circumstances, Point
from pim.errors import StudyError


def point_value(point: Point, device: Device) -> float:
    """The figure of a point by our model, in its unit; NaN where the model does not know it.

    Raises DeviceError, naming the file and the point, for what the device does not have.
    """
    try:
        value = _figure(point, device, point.under)
        if point.relative_to is None:
            return value
        reference = _figure(point, device, point.relative_to)
        if reference == 0:
            raise DeviceError("the figure under relative_to is 0: nothing is a multiple of it")
        return value / reference
    except (DeviceError, StudyError) as error:
        raise DeviceError(f"{point.where}: {error}") from None


def _figure(point: Point, device: Device, under: Circumstances) -> float:
    changed = replaced(device, under.set) if under.set else device
    operands = _operands(changed, under)
    found = peak(changed, shape=point.shape, vectors=point.vectors, operands=operands, copies=point.copies)
    if not point.share:
        return float(getattr(found, point.figure))
    _, of_what, components = point.figure.split(".", 2)
    return float(found.share(of_what, *components.split("+")))


def _operands(device: Device, under: Circumstances) -> Operands | None:
    """Uniform statistics with those given in their place; None where nothing is given."""
    if not under.operands:
        return None
    if not isinstance(device.model, AnalogMacro):
        raise DeviceError("operands are statistics of an analog macro's inputs and cells: leave them away, or use set")
    given: dict[str, Any] = {name: jnp.float32(value) for name, value in under.operands.items()}
    if set(given) == set(STATISTICS):
        return Operands(**given)
    return replace(uniform_operands(device.model), **given, source="given, the others uniform")
