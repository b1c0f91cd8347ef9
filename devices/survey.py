"""The columns of survey tables, for the cell of any device: what follows from it, what is known of it, what is not."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pim.devices.cells.cell import Cell
from pim.devices.macro import AnalogMacro


@dataclass(frozen=True)
class SurveyField:
    """One column of a survey table; `value` None: unknown."""

    name: str
    value: float | None
    unit: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: unknown"
        return f"{self.name}: {self.value:.4g}" + ("" if self.unit == "1" else f" {self.unit}")


def survey(what: Any) -> tuple[SurveyField, ...]:
    """Levels, cell area, density, on/off ratio, write energy and latency, leakage, endurance, retention.

    The density counts log2(levels) bits a cell, and is unknown for a continuous cell or an unknown area; the on/off
    ratio is that of the source, else that of the programmed window of conductances, unknown where that begins at zero.

    Args:
        what: a cell, or the model of any device: of one that says nothing of cells, all is unknown.

    >>> print(*survey(pim.preset("fefet-hzo").model), sep="\\n")
    """
    if isinstance(what, AnalogMacro):
        what = what.cell
    facts = getattr(what, "facts", None)
    levels = _number(getattr(what, "levels", None))
    area = _number(what.area if isinstance(what, Cell) else getattr(what, "cell_area", None))
    ratio = _number(facts.on_off_ratio if facts else None)
    if ratio is None and isinstance(what, Cell) and float(what.g_min) > 0:
        ratio = float(what.g_max / what.g_min)
    density = np.log2(levels) / area if levels is not None and area is not None else None
    known = {name: _number(getattr(facts, name)) if facts else None for name, _ in FACTS}
    if known["leakage"] is None:
        known["leakage"] = _number(getattr(what, "cell_leakage", None))
    return (
        SurveyField("levels", levels, "1"),
        SurveyField("cell area", area, "m^2"),
        SurveyField("density", density, "bit/m^2"),
        SurveyField("on/off ratio", ratio, "1"),
        *(SurveyField(name.replace("_", " "), known[name], unit) for name, unit in FACTS),
    )


FACTS = (
    ("write_energy", "J"),
    ("write_latency", "s"),
    ("leakage", "W"),
    ("endurance", "1"),
    ("retention", "s"),
)


def _number(value) -> float | None:
    return None if value is None else float(value)
