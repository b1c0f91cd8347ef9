"""What runs a product on a DRAM: the protocol that every kernel follows."""

from typing import NamedTuple, Protocol

from pim.devices.dram.banks import Banks
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.timing import DramTiming
from pim.devices.dram.work import Commands, Work


class Memory(NamedTuple):
    """The DRAM that a kernel works on.

    Attributes:
        banks: its organisation.
        timing: intervals between its commands.
        level: where the arithmetic units are, one of `energy.LEVELS`.
        bits: of an operand.
        kernel: what runs products with weights on it, for attention that shares its units.
    """

    banks: Banks
    timing: DramTiming
    level: str
    bits: int
    kernel: "Kernel | None" = None


class Kernel(Protocol):
    """A way to run products: a closed form of what they take, in arrays of shapes."""

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of work, and the cycles that they take; refreshes are added by the device."""
        ...

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """The same commands one by one, in the busiest channel, with the refreshes that fall into them.

        Raises:
            DeviceError: the sizes are not plain numbers, or there are more commands than can be listed.
        """
        ...
