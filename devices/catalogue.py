"""The presets that ship with the package, and the components that devices are built of."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pim.devices.device import Device
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import COMPONENTS, load_device, read_table, shipped


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
    return _table(_files())


def component_names() -> list[str]:
    """Names of the components that ship with the package."""
    return sorted(_component_files())


def components() -> PresetTable:
    """All components, converters and links and memories, like `presets`."""
    return _table(_component_files())


@cache
def _component_files() -> dict[str, Path]:
    return shipped(COMPONENTS)


def _table(files: Mapping[str, Path]) -> PresetTable:
    rows = []
    for name in sorted(files):
        table = read_table(files[name])
        rows.append(PresetRow(name, table["family"], table["summary"], table.get("grade", ""), table.get("source", "")))
    return PresetTable(rows)


@cache
def preset(name: str) -> Device:
    """The preset device of that name.

    Raises DeviceError with the nearest names for an unknown one; warns once if any of its figures is only recalled.
    """
    return _loaded(name, _files(), "preset")


@cache
def component(name: str) -> Device:
    """The component of that name: a part for a device, with the source of each of its values.

    Raises DeviceError with the nearest names for an unknown one; warns once if any of its figures is only recalled.

    >>> device = pim.replace(pim.preset("rram-techC"), {"adc.cost": pim.component("adc-isaac")})
    """
    return _loaded(name, _component_files(), "component")


def find(name: str) -> Device:
    """A preset or a component by name; DeviceError with the nearest names of both for an unknown one."""
    if name in component_names():
        return component(name)
    if name in preset_names():
        return preset(name)
    raise DeviceError(f"unknown preset {name!r}; {nearest(name, [*preset_names(), *component_names()])}")


def _loaded(name: str, files: Mapping[str, Path], what: str) -> Device:
    if name not in files:
        raise DeviceError(f"unknown {what} {name!r}; {nearest(name, files)}")
    device = load_device(files[name])
    recalled = [path for path, p in device.provenance.items() if p.grade == "recalled"]
    if recalled:
        warnings.warn(f"{name}: recalled, unverified figures: {', '.join(recalled)}", stacklevel=3)
    return device
