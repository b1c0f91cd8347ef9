"""The verb `replace`: a device, system or plan with some of its values changed."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pim.devices.device import Device
from pim.devices.device import replace as replace_in_device
from pim.errors import StudyError
from pim.mapping.plan import Plan
from pim.mapping.system import System

Changed = TypeVar("Changed", Device, System, Plan)


def replace(what: Changed, changes: Mapping[str, Any]) -> Changed:
    """A copy with the values at dotted paths changed; None removes an effect.

    Args:
        what: a device; or a system or plan, whose paths begin with the name of a device.
        changes: values by path. They are checked and cast here.

    Raises:
        DeviceError, MappingError: an unknown path (with the nearest names), or a value out of its range.

    Example:
        >>> pim.replace(pim.preset("rram-techC"), {"adc.bits": 7, "cell.read_noise": None})
        >>> pim.replace(plan, {"weights.adc.bits": 7})
    """
    if isinstance(what, Device):
        return replace_in_device(what, changes)
    if isinstance(what, System | Plan):
        return what.replace(changes)
    raise StudyError(f"only a device, a system or a plan has values to replace, not a {type(what).__name__}")
