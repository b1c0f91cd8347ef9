"""The sidecar of a table: what the numbers cannot say, in a small TOML file of the same name beside it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pim.devices.errors import DeviceError, nearest


@dataclass(frozen=True)
class Sidecar:
    """What is known of measured cells besides the table; SI units, all of it optional.

    technology = "HfOx RRAM, 130 nm"
    selector = "1T1R"
    area_m2 = 1e-13
    licence = "CC BY 4.0"
    citation = "authors, title, venue, year"
    url = "https://..."
    read_bandwidth_Hz = 1e6     # of the readings
    read_voltage_V = 0.2        # at which a device will be read
    g_min_S = 1e-6              # the window that a device made of these cells will use
    g_max_S = 40e-6
    noise_floor_S = 1e-8        # smaller conductances were not resolved
    retention_loss = 0.1        # share of the conductance that may be lost before a state counts as lost
    window_ratio = 2.0          # least ratio of set to reset conductance of a cell that still works
    [ranges]                    # instead of the usual range of a column
    temp_K = [4, 400]
    """

    technology: str = ""
    selector: str = ""
    area_m2: float | None = None
    licence: str = ""
    citation: str = ""
    url: str = ""
    read_bandwidth_Hz: float | None = None
    read_voltage_V: float | None = None
    g_min_S: float | None = None
    g_max_S: float | None = None
    noise_floor_S: float = 0.0
    retention_loss: float = 0.1
    window_ratio: float = 2.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


TEXTS = {name.name for name in fields(Sidecar) if name.type is str or name.type == "str"}


def read_sidecar(table: Path) -> Sidecar:
    """The sidecar of a table: `cells.toml` beside `cells.csv`; all defaults where there is none.

    Raises:
        DeviceError: it is no TOML, a key is unknown (with the nearest), or a value is of the wrong kind.
    """
    file = table.with_suffix(".toml")
    if not file.is_file() or file == table:
        return Sidecar()
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{file.name} is not valid TOML: {error}") from None
    return sidecar_of(entries, file.name)


def sidecar_of(entries: Mapping[str, Any], where: str = "sidecar") -> Sidecar:
    """The sidecar of a table's entries; see `read_sidecar` for what is raised.

    >>> sidecar_of({"technology": "PCM", "g_max_S": 25e-6}).g_max_S
    2.5e-05
    """
    known = {entry.name for entry in fields(Sidecar)}
    values: dict[str, Any] = {}
    for name, value in entries.items():
        if name not in known:
            raise DeviceError(f"{where}: unknown key {name!r}; {nearest(name, known)}")
        if name == "ranges":
            values[name] = {column: _range(bounds, f"{where}: ranges.{column}") for column, bounds in value.items()}
        elif name in TEXTS:
            values[name] = str(value)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise DeviceError(
                f"{where}: {name} = {value!r} must be a positive number, in the unit that its name ends in"
            )
        else:
            values[name] = float(value)
    return Sidecar(**values)


def _range(bounds: Any, where: str) -> tuple[float, float]:
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(x, (int, float)) for x in bounds):
        raise DeviceError(f"{where} must be [lowest, highest]")
    low, high = map(float, bounds)
    return low, high
