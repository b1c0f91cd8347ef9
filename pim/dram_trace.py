"""The trace of one product in a DRAM: its commands one by one, with their times, and files that simulators read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Work
from pim.devices.near_dram import NearDram
from pim.errors import StudyError
from pim.files import atomic_write
from pim.trace_formats import aim_isr, ramulator

FORMATS = ("aim", "ramulator")
EVENT = np.dtype([("cycle", "i8"), ("time", "f8"), ("command", "U12"), ("bank", "i4"), ("row", "i4"), ("column", "i4")])
"""A command: cycle and time (s) of its issue, name, and where it goes; -1 where it goes to none in particular."""


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """The commands of the busiest channel: `pim.cost(device, shape, trace=True).trace`.

    Attributes:
        device: the device.
        work: the product.
        schedule: its commands; see `Schedule` for what bank, row and column mean.

    Example:
        >>> trace = pim.cost(pim.preset("dram-aim"), (4096, 4096), trace=True).trace
        >>> print(trace)                                      # counts, and the first commands
        >>> trace.counts()["MAC16"]
        2048
        >>> events = trace.events                             # a structured array, ready for pandas
        >>> events["time"][events["command"] == "ACT16"]
        >>> trace.save("gemv.aim", format="aim")
    """

    device: NearDram
    work: Work
    schedule: Schedule

    @property
    def events(self) -> np.ndarray:
        """All commands in the order of their issue, as a structured array with the fields of `EVENT`."""
        schedule = self.schedule
        events = np.empty(len(schedule), EVENT)
        period = float(str(np.float32(self.device.timing.t_ck)))  # 5e-10, not 4.9999997e-10
        events["time"] = schedule.cycle * period
        events["command"] = np.array([kind.name for kind in schedule.kinds])[schedule.command]
        for name in ("cycle", "bank", "row", "column"):
            events[name] = getattr(schedule, name)
        return events

    def counts(self) -> dict[str, int]:
        """How often each command is issued, by its name."""
        return self.schedule.counts()

    def aim_isr(self) -> str:
        """All channels' instructions as GDDR6-AiM's simulator reads them; see `trace_formats.aim_isr`."""
        return aim_isr(self.device, self.work)

    def ramulator(self) -> str:
        """The channel's reads and writes as Ramulator 2 reads them; see `trace_formats.ramulator`."""
        return ramulator(self.device, self.schedule)

    def save(self, path: Path | str, *, format: str) -> Path:
        """Write a trace file, whole or not at all; its path.

        Args:
            path: where; the folder must exist.
            format: "aim", instructions for the simulator of GDDR6-AiM; "ramulator", reads and writes for Ramulator 2.

        Raises:
            StudyError: an unknown format, one that the device does not know, or a folder in the way.
            OSError: the file cannot be written.
        """
        if format not in FORMATS:
            raise StudyError(f"format = {format!r} is none of {', '.join(FORMATS)}")
        path = Path(path)
        atomic_write(path, self.aim_isr() if format == "aim" else self.ramulator())
        return path

    def __len__(self) -> int:
        return len(self.schedule)

    def __str__(self) -> str:
        return str(self.schedule)

    __repr__ = __str__


def trace_of(device: NearDram, work: Work) -> Trace:
    """The trace of one product.

    Raises:
        DeviceError: see `NearDram.schedule`.
    """
    return Trace(device, work, device.schedule(work))
