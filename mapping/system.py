"""A system: devices by name, and the rules of which operators go to which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from pim.devices.device import Device, Source
from pim.devices.device import replace as replace_device
from pim.devices.errors import nearest
from pim.mapping.errors import MappingError

DIGITAL_RULES = (("layers.*.attention.qk", "digital"), ("layers.*.attention.pv", "digital"), ("head", "digital"))


@dataclass(frozen=True)
class System:
    """Devices and rules.

    An operator (`layers.3.attention.q`, `head`, ...) goes to the device of the first rule whose pattern matches its
    path, and to the first device where none does.

    >>> System({"weights": reram, "digital": unit}, rules=[("layers.*.attention.?v", "digital"), ("head", "digital")])

    Raises MappingError for a rule that names an unknown device.
    """

    devices: Mapping[str, Device]
    rules: Sequence[tuple[str, str]] = ()
    name: str = "system"

    def __post_init__(self):
        if not self.devices:
            raise MappingError("a system needs at least one device")
        for pattern, device in self.rules:
            if device not in self.devices:
                hint = nearest(device, self.devices)
                raise MappingError(f"the rule for {pattern!r} names the device {device!r}; {hint}")

    def device_for(self, path: str) -> str:
        """Name of the device that the operator at `path` goes to."""
        matches = (device for pattern, device in self.rules if fnmatchcase(path, pattern))
        return next(matches, next(iter(self.devices)))

    def replace(self, changes: Mapping[str, Any]) -> "System":
        """The system with values changed, by paths that begin with a device's name: `weights.adc.bits`."""
        devices = dict(self.devices)
        for path, value in changes.items():
            name, _, field = path.partition(".")
            if name not in devices or not field:
                known = [f"{n}.{p}" for n, d in devices.items() for p in d.paths()]
                raise MappingError(f"{path!r} names no field of this system; {nearest(path, known)}")
            devices[name] = replace_device(devices[name], {field: value})
        return replace(self, devices=devices)

    def citations(self) -> dict[str, Source]:
        """The sources behind every figure of the devices, by their short names."""
        found: dict[str, Source] = {}
        for device in self.devices.values():
            for name, source in device.citations().items():
                found[name if found.get(name, source) == source else f"{device.name}: {name}"] = source
        return found


def inference_system(weights: Device, digital: Device) -> System:
    """The usual first system: the matrices of the layers on one device, attention and the head on a digital unit."""
    return System({"weights": weights, "digital": digital}, DIGITAL_RULES, name=weights.name)
