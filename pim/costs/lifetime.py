"""How long cells last that are written again and again: weights loaded anew, keys and values of every token.

What is not known stays unknown: a device whose endurance nobody gives has no lifetime here, not an endless one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pim.devices.cells.cell import Cell
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError

DEAD = 0.01
"""Share of dead cells at which the life of cells with a law of wear counts as over."""

YEAR = 365.25 * 86400.0


@dataclass(frozen=True)
class Endurance:
    """Writes that a cell has left, and where the figure comes from. None: unknown; infinite: no writing wears it."""

    writes: float | None
    basis: str

    @property
    def counted(self) -> float | None:
        """Writes as a plain number, for JSON; None where they are unknown or without end."""
        return self.writes if self.writes is not None and np.isfinite(self.writes) else None

    def __str__(self) -> str:
        if self.writes is None:
            return f"endurance unknown ({self.basis})"
        return f"{self.writes:.4g} writes ({self.basis})" if np.isfinite(self.writes) else f"no wear ({self.basis})"


@dataclass(frozen=True)
class Lifetime:
    """Time until the endurance is used up at a rate of writes to each cell. None: unknown; infinite: never."""

    seconds: float | None
    rate: float
    """Writes a second of each cell."""
    endurance: Endurance

    def __str__(self) -> str:
        return (
            f"lifetime {printed_time(self.seconds)} at {self.rate:.4g} writes a second of each cell: {self.endurance}"
        )


def endurance_of(what: Any) -> Endurance:
    """Writes that a cell of a device (or its model) has left.

    By the cell's law of wear, if cells die by it: writes until a share `DEAD` of them is dead, less those that it has
    seen. Else as its facts say; most presets have the lowest figure of a survey there. Writes count, whatever pulses a
    write takes. The latches of a digital macro's SRAM do not wear by writing, unless its facts say otherwise.

    >>> print(endurance_of(pim.preset("rram-wan2022")))
    1e+04 writes (cell.facts.endurance: lowest of the survey, whose highest is 1e9)
    """
    model = what.model if isinstance(what, Device) else what
    cell = model.cell if isinstance(model, AnalogMacro) else model
    wear = cell.wear if isinstance(cell, Cell) else None
    if wear is not None and wear.life is not None:
        left = float(np.asarray(wear.writes_until(DEAD))) - float(np.asarray(wear.cycles))
        return Endurance(max(left, 0.0), f"law of wear: {DEAD:.0%} of the cells dead")
    facts = getattr(cell, "facts", None)
    path = "cell.facts.endurance" if isinstance(model, AnalogMacro) else "facts.endurance"
    if facts is None or facts.endurance is None:
        if isinstance(model, DigitalMacro):
            return Endurance(float("inf"), "SRAM, whose latches do not wear by writing")
        return Endurance(None, f"neither {path} nor a law of wear is given")
    return Endurance(float(facts.endurance), f"{path}{noted(what, path)}")


def lifetime(endurance: Endurance, rate: float) -> Lifetime:
    """Time at a rate of writes a second to each cell. Raises StudyError for a rate that is not positive and finite."""
    if not (np.isfinite(rate) and rate > 0):
        raise StudyError(f"a rate of {rate!r} a second is none; give a positive number")
    seconds = None if endurance.writes is None else endurance.writes / rate
    return Lifetime(seconds, float(rate), endurance)


def kv_lifetime(device: Any, tokens_per_second: float, context: int) -> Lifetime:
    """How long cells last that hold the keys and values of a decoding model.

    Every token writes its key and its value, each in cells of its own. Tokens go round a window of `context`
    positions, so that each cell is written once in `context` tokens: the most even wear there is.

    Args:
        device: a device (or its model) with a known endurance, or the lifetime is unknown.
        tokens_per_second: tokens read and written a second, of one sequence.
        context: positions that are there.

    Raises StudyError for a rate or a context that is not positive.

    >>> pim.kv_lifetime(pim.preset("rram-wan2022"), 100.0, 2048).seconds / 3600
    56.88...
    """
    if not context >= 1:
        raise StudyError(f"context = {context!r}: give at least one position")
    if not (np.isfinite(tokens_per_second) and tokens_per_second > 0):
        raise StudyError(f"tokens_per_second = {tokens_per_second!r}: give a positive number")
    return lifetime(endurance_of(device), tokens_per_second / context)


def noted(what: Any, path: str) -> str:
    """What the source of a device's value adds to it, after a colon; nothing for a bare model."""
    found = what.provenance.get(path) if isinstance(what, Device) else None
    return f": {found.note}" if found is not None and found.note else ""


def printed_time(seconds: float | None) -> str:
    """A time for people.

    >>> printed_time(204800.0)
    '2.37 days'
    """
    if seconds is None or np.isnan(seconds):
        return "unknown"
    if np.isinf(seconds):
        return "without end"
    for unit, name in ((YEAR, "years"), (86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
