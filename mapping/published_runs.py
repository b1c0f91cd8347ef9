"""Figures that systems were published with: what our costs of whole models are held against.

They stand in the folder `published`, a file for each publication, or in a file of the user's own:

    [sources.somebody2030]
    citation = "..."

    [[point]]
    system = "attacc"                          # one that ships, or a system file beside this one
    model = "gpt-3-175b"                       # a model whose shapes are known, or a folder
    name = "tokens a second, batch 32"
    figure = "tokens_per_second"               # one of FIGURES
    batch = 32
    prompt = 2048
    generate = 128                             # or context = 2048: a single step of decoding
    value = 1234.0
    unit = "1/s"
    tolerance = 0.15                           # relative
    grade = "stated"
    source = "somebody2030"

`set` replaces values of the system ("gpu.bandwidth_share"). `relative_to` names another system, and what differs there
(batch, set): the figure is ours over theirs. `fitted = true` confesses that a value of the system was set from this
very point. `why` says why a point is missed.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pim.devices.device import Source
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import sources_of
from pim.devices.published import check_kind, check_value, dotted_paths, known_keys, whole_number
from pim.mapping.system_file import SYSTEMS

RUNS = Path(__file__).parent / "published"
"""Files of published figures that ship with the package."""
FIGURES = {
    "tokens_per_second": "1/s",
    "decode_latency": "s",
    "prefill_latency": "s",
    "energy_per_token": "J",
    "tokens_per_joule": "1/J",
    "power": "W",
}
"""Figures and their units: of written tokens, unless they say prefill."""
_NEEDED = {
    "system": str, "model": str, "name": str, "figure": str, "value": float, "unit": str, "tolerance": float,
    "source": str, "batch": int,
}  # fmt: skip
_OPTIONAL = {
    "prompt": int, "generate": int, "context": int, "set": Mapping, "relative_to": Mapping, "fitted": bool,
    "grade": str, "note": str, "why": str,
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A system, and what runs on it."""

    system: Path
    batch: int
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPoint:
    """One published figure of a model on a system; see this module's head."""

    publication: str
    model: str
    name: str
    figure: str
    value: float
    unit: str
    tolerance: float
    source: Source
    of: Asked
    relative_to: Asked | None
    prompt: int | None
    generate: int | None
    context: int | None
    fitted: bool
    grade: str
    note: str
    why: str
    where: str


def published_runs() -> dict[str, tuple[RunPoint, ...]]:
    """The published figures of all systems that ship, by publication."""
    return {file.stem: read_runs(file) for file in sorted(RUNS.glob("*.toml"))}


def read_runs(file: Path) -> tuple[RunPoint, ...]:
    """The points of a file, in its order.

    Raises DeviceError, naming the file, the point and the key, for what is missing, unknown or of another kind.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DeviceError(f"{file.name} is no TOML file with [[point]] tables: {error}") from None
    known_keys(table, ("point", "sources"), file.name)
    sources, points = sources_of(table, file.name), table.get("point", [])
    if not isinstance(points, list) or not points or not all(isinstance(point, Mapping) for point in points):
        raise DeviceError(f"{file.name}: it holds no points; give each as a table [[point]]")
    return tuple(_point(entry, i, file, sources) for i, entry in enumerate(points))


def is_runs(file: Path) -> bool:
    """Whether the points of a file are of systems, not of devices."""
    try:
        points = tomllib.loads(file.read_text(encoding="utf-8")).get("point", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
        return False
    return isinstance(points, list) and any(isinstance(point, Mapping) and "system" in point for point in points)


def _point(entry: Mapping[str, Any], index: int, file: Path, sources: Mapping[str, Source]) -> RunPoint:
    where = f"{file.name}: point {entry.get('name', index + 1)!r} of {entry.get('system', 'no system')}"
    known_keys(entry, (*_NEEDED, *_OPTIONAL), where)
    for key in _NEEDED:
        if key not in entry:
            raise DeviceError(f"{where}: the key {key!r} is missing")
    for key, value in entry.items():
        check_kind(value, (_NEEDED | _OPTIONAL)[key], f"{where}: {key}")
    check_value(entry, where)
    if entry["figure"] not in FIGURES:
        raise DeviceError(f"{where}: unknown figure {entry['figure']!r}; {nearest(entry['figure'], FIGURES)}")
    relative = entry.get("relative_to")
    unit = "1" if relative is not None else FIGURES[entry["figure"]]
    if entry["unit"] != unit:
        raise DeviceError(f"{where}: unit = {entry['unit']!r}, but this figure is in {unit!r}")
    if entry["source"] not in sources:
        raise DeviceError(f"{where}: source {entry['source']!r} is not among [sources]")
    run, step = {"prompt", "generate"} & set(entry), "context" in entry
    if len(run) != (0 if step else 2):
        raise DeviceError(f"{where}: give prompt and generate, or the context of a single step")
    if step and entry["figure"] == "prefill_latency":
        raise DeviceError(f"{where}: a step of decoding has no {entry['figure']}: give prompt and generate")
    return RunPoint(
        publication=file.stem,
        model=entry["model"],
        name=entry["name"],
        figure=entry["figure"],
        value=float(entry["value"]),
        unit=unit,
        tolerance=float(entry["tolerance"]),
        source=sources[entry["source"]],
        of=_asked(entry, entry, file, where),
        relative_to=None if relative is None else _relative(relative, entry, file, where),
        fitted=entry.get("fitted", False),
        grade=entry.get("grade", "stated"),
        note=entry.get("note", ""),
        why=entry.get("why", ""),
        where=where,
        **{key: whole_number(entry.get(key), f"{where}: {key}") for key in ("prompt", "generate", "context")},
    )


def _relative(relative: Mapping[str, Any], entry: Mapping[str, Any], file: Path, where: str) -> Asked:
    known_keys(relative, ("system", "batch", "set"), f"{where}: relative_to")
    if "system" not in relative:
        raise DeviceError(f"{where}: relative_to.system is missing")
    return _asked(relative, entry, file, f"{where}: relative_to")


def _asked(entry: Mapping[str, Any], whole: Mapping[str, Any], file: Path, where: str) -> Asked:
    name = str(entry["system"])
    beside = file.parent / (name if name.endswith(".toml") else f"{name}.toml")
    shipped = SYSTEMS / f"{name}.toml"
    if not shipped.is_file() and not (beside.is_file() and beside != file):
        known = [found.stem for found in SYSTEMS.glob("*.toml")]
        raise DeviceError(f"{where}: no system {name!r} beside it or among those that ship; {nearest(name, known)}")
    batch = whole_number(entry.get("batch", whole["batch"]), f"{where}: batch")
    assert batch is not None, "needed"
    return Asked(shipped if shipped.is_file() else beside, batch, dotted_paths(entry.get("set", {})))
