"""The device file of a fit: a macro of the house around the fitted cell."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pim.devices.fitting.cell_part import cell_part
from pim.devices.fitting.chosen_laws import family_of
from pim.devices.fitting.device_figure import SOURCE, quoted

if TYPE_CHECKING:
    from pim.devices.device import Device
    from pim.devices.fitting.cell_fit import CellFit

BASE = "macro-28nm"


def device_text(fit: "CellFit") -> str:
    """The device file of a fit, TOML."""
    table, sidecar = fit.table, fit.table.sidecar
    technology = sidecar.technology or "a cell"
    citation = sidecar.citation or f"own measurements, {table.name}"
    licence = f" (licence: {sidecar.licence})" if sidecar.licence else ""
    lines = [
        f"name = {quoted(fit.name)}",
        f"family = {quoted(family_of(technology))}",
        f"summary = {quoted(f'{technology}, fitted to {len(table)} rows of {table.name}: ' + ', '.join(fit.laws))}",
        'grade = "measured"',
        f"source = {quoted(citation)}",
        f'base = "{BASE}"',
        "",
        f"[sources.{SOURCE}]",
        f"citation = {quoted(citation + licence)}",
        *([f"url = {quoted(sidecar.url)}"] if sidecar.url else []),
        "",
    ]
    return "\n".join([*lines, *_section("device.cell", cell_part(fit))])


def device_of(fit: "CellFit") -> "Device":
    """The device of a fit, read back from its file's text."""
    from pim.devices.loader import load_device

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{fit.name}.toml"
        file.write_text(device_text(fit), encoding="utf-8")
        return load_device(file)


def _section(path: str, part: Mapping[str, Any]) -> list[str]:
    lines = [f"[{path}]"]
    for name, value in part.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {quoted(value) if isinstance(value, str) else value}")
    lines.append("")
    for name, value in part.items():
        if isinstance(value, dict):
            lines += _section(f"{path}.{name}", value)
    return lines
