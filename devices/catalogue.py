"""The presets that ship with the package."""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pim.devices.device import Device
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import load_device, read_table, shipped


@dataclass(frozen=True)
class PresetRow:
    """One line of the catalogue."""

    name: str
    family: str
    summary: str
    grade: str
    source: str


class PresetTable(tuple[PresetRow, ...]):
    """The catalogue, printed as a table."""

    def __str__(self) -> str:
        wide = max(len(row.name) for row in self)
        family = max(len(row.family) for row in self)
        return "\n".join(f"{row.name:<{wide}}  {row.family:<{family}}  {row.grade:<8}  {row.summary}" for row in self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{r.name}</td><td>{r.family}</td><td>{r.grade}</td><td>{r.summary}</td><td>{r.source}</td></tr>"
            for r in self
        )
        head = "<tr><th>name</th><th>family</th><th>cell data</th><th>summary</th><th>source</th></tr>"
        return f"<table>{head}{body}</table>"


def preset_names() -> list[str]:
    """Names of the devices that ship with the package (files that only serve as a base are left out)."""
    return sorted(_files())


@cache
def _files() -> dict[str, Path]:
    """The files of devices: those that only serve as a base, or list published figures, have no name in them."""
    return {name: file for name, file in shipped().items() if "name" in read_table(file)}


def presets() -> PresetTable:
    """All presets: name, family, summary, and the grade and source of what characterises the device."""
    rows = []
    for name in preset_names():
        table = read_table(_files()[name])
        rows.append(PresetRow(name, table["family"], table["summary"], table.get("grade", ""), table.get("source", "")))
    return PresetTable(rows)


@cache
def preset(name: str) -> Device:
    """The preset device of that name.

    Raises DeviceError with the nearest names for an unknown one; warns once if any of its figures is only recalled.
    """
    if name not in preset_names():
        raise DeviceError(f"unknown preset {name!r}; {nearest(name, preset_names())}")
    device = load_device(_files()[name])
    recalled = [path for path, p in device.provenance.items() if p.grade == "recalled"]
    if recalled:
        warnings.warn(f"{name}: recalled, unverified figures: {', '.join(recalled)}", stacklevel=2)
    return device
