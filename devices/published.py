"""Figures that chips were published with: what their device files are held against.

They stand in `published.toml` in the folder of a chip, beside its device files, or in a file of the user's own:

    [[point]]
    device = "rram-neurram"                    # a preset, or a device file beside this one
    name = "TOPS/W, 4-bit inputs, 6-bit outputs"
    figure = "efficiency"                      # one of FIGURES, or share.energy.adc+dac, share.area.cells, ...
    value = 15.95e12
    unit = "1/J"
    tolerance = 0.2                            # relative; of a share absolute (0.05: five points)
    grade = "stated"
    source = "cimloop"                         # among the [sources] of the device, or of this file

`set` replaces values of the device and `operands` its statistics, `shape`, `vectors` and `copies` say what runs;
`relative_to` divides the figure by the one under another `set` and `operands`. `fitted = true` confesses that a value
of the device was set from this very point: it shows nothing then. `why` says why a point is missed.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pim.devices.device import Source
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import PRESETS, read_table, shipped

FIGURES = {
    "rate": "1/s",
    "efficiency": "1/J",
    "density": "1/(s m^2)",
    "energy": "J",
    "energy_per_mac": "J",
    "latency": "s",
    "area": "m^2",
    "power": "W",
}
"""Figures and their units. An operation is a multiplication or an addition: a multiply-accumulate is two."""
SHARES = ("share.energy.", "share.power.", "share.area.")
POINT_GRADES = ("stated", "derived", "measured", "recalled")
STATISTICS = ("u2", "g", "active", "code")
FILE = "published.toml"

_NEEDED = {"device": str, "name": str, "figure": str, "value": float, "unit": str, "tolerance": float, "source": str}
_OPTIONAL = {
    "set": Mapping, "operands": Mapping, "shape": list, "vectors": int, "copies": int, "relative_to": Mapping,
    "fitted": bool, "grade": str, "note": str, "why": str,
}  # fmt: skip
_CALLED = {
    str: "a text", float: "a number", int: "a whole number", bool: "true or false", Mapping: "a table", list: "a list",
    str | list: "a text or a list of texts", int | list: "a whole number or a list of them",
}  # fmt: skip


@dataclass(frozen=True)
class Circumstances:
    """Under which a figure holds: values of the device replaced, and the statistics of its operands."""

    set: Mapping[str, Any]
    operands: Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """One published figure."""

    chip: str
    device: str
    device_file: Path
    name: str
    figure: str
    value: float
    unit: str
    tolerance: float
    source: Source
    under: Circumstances
    relative_to: Circumstances | None = None
    shape: tuple[int, int] | None = None
    vectors: int | None = None
    copies: int = 1
    fitted: bool = False
    grade: str = "stated"
    note: str = ""
    why: str = ""
    where: str = ""

    @property
    def share(self) -> bool:
        """Whether the figure is a share, whose tolerance is absolute."""
        return self.figure.startswith(SHARES)


def published(name: str | None = None) -> tuple[Point, ...]:
    """The published figures of all chips that ship, or of one: a chip (a folder's name), a preset, or a file.

    Raises:
        DeviceError: a name of which no figures are published, or a file that is not as it should be; it names the file,
            the point and the key.

    Example:
        >>> for point in published("tu2022"):
        ...     print(point.name, point.value, point.unit, point.source.citation)
    """
    if name is not None and name.endswith(".toml"):
        return read_points(Path(name))
    points = tuple(point for file in sorted(PRESETS.glob(f"*/{FILE}")) for point in read_points(file))
    if name is None:
        return points
    known = {point.chip for point in points} | {point.device for point in points}
    if name not in known:
        raise DeviceError(f"no published figures of {name!r}; {nearest(name, known)}")
    return tuple(point for point in points if name in (point.chip, point.device))


def read_points(file: Path) -> tuple[Point, ...]:
    """The points of a file, in its order.

    Raises DeviceError, naming the file, the point and the key, for what is missing, unknown or of another kind.
    """
    if not file.is_file():
        raise DeviceError(f"no file {file}; give the path of a TOML file with [[point]] tables")
    shown = f"{file.parent.name}/{file.name}"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{shown} is not valid TOML: {error}") from None
    known_keys(table, ("point", "sources"), shown)
    points = table.get("point", [])
    if not isinstance(points, list) or not points or not all(isinstance(point, Mapping) for point in points):
        raise DeviceError(f"{shown}: it holds no points; give each as a table [[point]]")
    found = tuple(_point(entry, i, file, shown, table.get("sources", {})) for i, entry in enumerate(points))
    check_names(point.where for point in found)
    return found


def check_names(places: Iterable[str]) -> None:
    """Raise DeviceError for two points of one device, or of one system, that have the same name."""
    seen: set[str] = set()
    for where in places:
        if where in seen:
            raise DeviceError(f"{where} is there twice: give each of a device's points a name of its own")
        seen.add(where)


def _point(entry: Mapping[str, Any], index: int, file: Path, shown: str, own_sources: Mapping[str, Any]) -> Point:
    where = f"{shown}: point {entry.get('name', index + 1)!r} of {entry.get('device', 'no device')}"
    known_keys(entry, (*_NEEDED, *_OPTIONAL), where)
    for key in _NEEDED:
        if key not in entry:
            raise DeviceError(f"{where}: the key {key!r} is missing")
    for key, value in entry.items():
        check_kind(value, (_NEEDED | _OPTIONAL)[key], f"{where}: {key}")
    relative = entry.get("relative_to")
    if relative is not None:
        known_keys(relative, ("set", "operands"), f"{where}: relative_to")
    _check_figure(entry["figure"], where)
    unit = "1" if relative is not None or entry["figure"].startswith(SHARES) else FIGURES[entry["figure"]]
    if entry["unit"] != unit:
        raise DeviceError(f"{where}: unit = {entry['unit']!r}, but {_told(entry['figure'], relative)} is in {unit!r}")
    device_file = _device_file(entry["device"], file, where)
    check_value(entry, where)
    return Point(
        chip=file.parent.name if file.name == FILE else file.stem,
        device=entry["device"],
        device_file=device_file,
        name=entry["name"],
        figure=entry["figure"],
        value=float(entry["value"]),
        unit=unit,
        tolerance=float(entry["tolerance"]),
        source=_source(entry["source"], device_file, own_sources, where),
        under=_circumstances(entry, where),
        relative_to=None if relative is None else _circumstances(relative, f"{where}: relative_to"),
        shape=_shape(entry.get("shape"), where),
        vectors=whole_number(entry.get("vectors"), f"{where}: vectors"),
        copies=whole_number(entry.get("copies"), f"{where}: copies") or 1,
        fitted=entry.get("fitted", False),
        grade=entry.get("grade", "stated"),
        note=entry.get("note", ""),
        why=entry.get("why", ""),
        where=where,
    )


def check_value(entry: Mapping[str, Any], where: str) -> None:
    """Raise DeviceError for a figure or a tolerance that is none, and for a grade that is not known."""
    grade = entry.get("grade", "stated")
    if grade not in POINT_GRADES:
        raise DeviceError(f"{where}: grade = {grade!r} is none of {', '.join(POINT_GRADES)}")
    if not (math.isfinite(entry["value"]) and math.isfinite(entry["tolerance"])):
        raise DeviceError(f"{where}: value and tolerance must be finite")
    if not entry["tolerance"] > 0 or entry["value"] == 0:
        raise DeviceError(f"{where}: value and tolerance cannot be zero, and the tolerance is positive")


def known_keys(table: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    """Raise DeviceError, with the nearest one, for a key that is none of these."""
    for key in table:
        if key not in keys:
            raise DeviceError(f"{where}: unknown key {key!r}; {nearest(key, keys)}")


def check_kind(value: Any, kind: Any, where: str) -> None:
    """Raise DeviceError for a value of another kind: an integer is a number, a truth value is none."""
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise DeviceError(f"{where} = {value!r} is not {_CALLED[kind]}")


def _check_figure(figure: str, where: str) -> None:
    known = (*FIGURES, *(f"{share}COMPONENT" for share in SHARES))
    components = next((figure.removeprefix(share) for share in SHARES if figure.startswith(share)), None)
    if figure not in FIGURES and (components is None or not all(components.split("+"))):
        raise DeviceError(f"{where}: unknown figure {figure!r}; {nearest(figure, known)}")


def _told(figure: str, relative: Any) -> str:
    return f"{figure} relative to another" if relative is not None else figure


def _device_file(device: str, file: Path, where: str) -> Path:
    """The file of a preset, or one beside the points."""
    beside = file.parent / (device if device.endswith(".toml") else f"{device}.toml")
    found = beside if beside.is_file() else shipped().get(device)
    if found is None:
        raise DeviceError(f"{where}: no device {device!r} beside it or among the presets; {nearest(device, shipped())}")
    return found


def _source(key: str, device_file: Path, own: Mapping[str, Any], where: str) -> Source:
    sources = {**read_table(device_file).get("sources", {}), **own}
    entry = sources.get(key)
    if not isinstance(entry, Mapping) or "citation" not in entry:
        raise DeviceError(f"{where}: source {key!r} is not among [sources] with a citation; {nearest(key, sources)}")
    return Source(str(entry["citation"]), str(entry.get("url", "")))


def _circumstances(entry: Mapping[str, Any], where: str) -> Circumstances:
    changes, operands = entry.get("set", {}), entry.get("operands", {})
    check_kind(changes, Mapping, f"{where}: set")
    check_kind(operands, Mapping, f"{where}: operands")
    known_keys(operands, STATISTICS, f"{where}: operands")
    for name, value in operands.items():
        check_kind(value, float, f"{where}: operands.{name}")
        if not 0 <= value <= (math.inf if name == "g" else 1):
            limits = "0 or more" if name == "g" else "0 to 1"
            raise DeviceError(f"{where}: operands.{name} = {value:g}; it may be {limits}")
    return Circumstances(
        {path: None if value == "none" else value for path, value in dotted_paths(changes).items()},
        {name: float(value) for name, value in operands.items()},
    )


def dotted_paths(changes: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted paths, whether the keys are quoted ("adc.bits" = 4) or TOML has made tables of them (adc.bits = 4)."""
    paths: dict[str, Any] = {}
    for key, value in changes.items():
        here = f"{above}{key}"
        paths |= dotted_paths(value, f"{here}.") if isinstance(value, Mapping) else {here: value}
    return paths


def _shape(sizes: Any, where: str) -> tuple[int, int] | None:
    if sizes is None:
        return None
    if len(sizes) != 2:
        raise DeviceError(f"{where}: shape = {sizes!r} is not [n_in, n_out]")
    n_in, n_out = (whole_number(size, f"{where}: shape") for size in sizes)
    assert n_in is not None and n_out is not None
    return n_in, n_out


def whole_number(value: Any, where: str) -> int | None:
    """A positive whole number, or None as it is; DeviceError for anything else."""
    if value is None:
        return None
    check_kind(value, int, where)
    if value < 1:
        raise DeviceError(f"{where} = {value!r} is not a positive whole number")
    return value
