"""Named corners: process, temperature and supply at the ends of what a design is signed off for.

The customary ends: three standard deviations of the process, -40 and 125 °C, and a tenth of the supply either way.
"Slow" cells conduct less than typical ones. What a corner does is up to the device: process moves the die of a cell's
`variation`, temperature its law of `temperature` and the circuits' `environment`, supply the latter and all costs.
"""

from dataclasses import dataclass

from pim.devices.device import Device, replace
from pim.devices.environment import ROOM
from pim.devices.errors import DeviceError, nearest
from pim.devices.macro import AnalogMacro

COLD, HOT = 233.15, 398.15
"""-40 and 125 °C in K."""


@dataclass(frozen=True)
class Corner:
    """Where a chip is operated, and where in the spread of the process it lies."""

    process: float = 0.0
    """Standard deviations of the die."""
    temperature: float = ROOM
    """K"""
    supply: float = 1.0
    """Over that of the device."""


CORNERS = {
    "TT": Corner(),
    "SS": Corner(-3.0, HOT, 0.9),
    "FF": Corner(3.0, COLD, 1.1),
    "SS-cold": Corner(-3.0, COLD, 0.9),
    "FF-hot": Corner(3.0, HOT, 1.1),
    "TT-hot": Corner(0.0, HOT, 1.0),
    "TT-cold": Corner(0.0, COLD, 1.0),
}


def at_corner(device: Device, corner: str | Corner) -> Device:
    """The device as it is at a corner.

    Args:
        device: with analog cells and an `environment`.
        corner: one of `CORNERS`, or one of your own.

    Raises:
        DeviceError: an unknown name, or a device without `environment`.

    >>> hot = pim.at_corner(pim.preset("sram-qs28"), "SS")
    """
    if isinstance(corner, str):
        if corner not in CORNERS:
            raise DeviceError(f"unknown corner {corner!r}; {nearest(corner, CORNERS)}")
        corner = CORNERS[corner]
    macro = device.model
    if not isinstance(macro, AnalogMacro) or macro.environment is None:
        raise DeviceError(f"{device.name} does not say what temperature and supply do to it: it has no 'environment'")
    changes = {"vdd": float(macro.vdd) * corner.supply, "environment.temperature": corner.temperature}
    if macro.cell.variation is not None:
        changes["cell.variation.die"] = corner.process
    return replace(device, changes)
