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

Figures of prefill need no `generate`; with a context, `tokens` are those that each sequence goes on by in the step
(guessed ones, all of them kept). Where `model`, `batch`, `prompt`, `generate`, `context` or `tokens` are lists, the
figure is found for every combination, and `across` says what is published of them: "geometric" (the mean; so it is if
nothing is said), "arithmetic", "smallest" or "largest". Where `system` is a list, each run is on the one that is
quickest or, of a figure of energy, spends least: placements that a machine chooses from as it goes.

`set` replaces values of the system ("gpu.bandwidth_share"). `relative_to` names another system, and what differs there
(batch, set): the figure is ours over theirs. `fitted = true` confesses that a value of the system was set from this
very point. `why` says why a point is missed.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pim.devices.device import Source
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import sources_of
from pim.devices.published import check_kind, check_names, check_value, dotted_paths, known_keys, whole_number
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
    "latency": "s",
    "energy": "J",
    "prefill_tokens_per_second": "1/s",
    "prefill_energy_per_token": "J",
}
"""Figures and their units: of written tokens, unless they say prefill; `latency` and `energy` are of the whole run."""
STEP_FIGURES = ("tokens_per_second", "decode_latency", "energy_per_token", "tokens_per_joule", "power", "energy")
"""Those that a single step of decoding has."""
ACROSS = ("geometric", "arithmetic", "smallest", "largest")
"""What a figure of several runs is: a mean, or one end of their range."""
_SIZES = ("batch", "prompt", "generate", "context", "tokens")
_NEEDED = {
    "system": str | list, "model": str | list, "name": str, "figure": str, "value": float, "unit": str,
    "tolerance": float, "source": str, "batch": int | list,
}  # fmt: skip
_OPTIONAL = {
    "prompt": int | list, "generate": int | list, "context": int | list, "tokens": int | list, "across": str,
    "set": Mapping, "relative_to": Mapping, "fitted": bool, "grade": str, "note": str, "why": str,
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A system or several to choose from, and what is different on it."""

    systems: tuple[Path, ...]
    batch: int | None = None
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A model, sequences, and the tokens that each reads and writes, or those behind a single step of some more."""

    model: str
    batch: int
    prompt: int | None
    generate: int | None
    context: int | None
    tokens: int


@dataclass(frozen=True)
class RunPoint:
    """One published figure of models on a system; see this module's head."""

    publication: str
    name: str
    figure: str
    value: float
    unit: str
    tolerance: float
    source: Source
    of: Asked
    relative_to: Asked | None
    runs: tuple[Run, ...]
    across: str
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
    found = tuple(_point(entry, i, file, sources) for i, entry in enumerate(points))
    check_names(point.where for point in found)
    return found


def is_runs(file: Path) -> bool:
    """Whether the points of a file are of systems, not of devices."""
    try:
        points = tomllib.loads(file.read_text(encoding="utf-8")).get("point", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
        return False
    return isinstance(points, list) and any(isinstance(point, Mapping) and "system" in point for point in points)


def _point(entry: Mapping[str, Any], index: int, file: Path, sources: Mapping[str, Source]) -> RunPoint:
    where = f"{file.name}: point {entry.get('name', index + 1)!r} of {_named(entry)}"
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
    return RunPoint(
        publication=file.stem,
        name=entry["name"],
        figure=entry["figure"],
        value=float(entry["value"]),
        unit=unit,
        tolerance=float(entry["tolerance"]),
        source=sources[entry["source"]],
        of=Asked(_systems(entry, file, where), set=dotted_paths(entry.get("set", {}))),
        relative_to=None if relative is None else _relative(relative, file, where),
        fitted=entry.get("fitted", False),
        grade=entry.get("grade", "stated"),
        note=entry.get("note", ""),
        why=entry.get("why", ""),
        where=where,
        runs=_runs(entry, where),
        across=_across(entry, where),
    )


def _named(entry: Mapping[str, Any]) -> str:
    return ", ".join(map(str, _listed(entry.get("system", "no system"))))


def _runs(entry: Mapping[str, Any], where: str) -> tuple[Run, ...]:
    """Every combination of the models and sizes that a point names."""
    reading = entry["figure"].startswith("prefill")
    given, step = {"prompt", "generate"} & set(entry), "context" in entry
    if step and entry["figure"] not in STEP_FIGURES:
        raise DeviceError(f"{where}: a step of decoding has no {entry['figure']}: give prompt and generate")
    if given != (set() if step else {"prompt", "generate"}) and not (reading and given == {"prompt"}):
        raise DeviceError(f"{where}: give prompt and generate, or the context of a single step")
    if "tokens" in entry and not step:
        raise DeviceError(f"{where}: tokens are those of a single step: give its context")
    unsaid = {"generate": 1 if reading else None, "tokens": 1}
    sizes = [_listed(entry.get(key, unsaid.get(key))) for key in _SIZES]
    for key, values in zip(_SIZES, sizes, strict=True):
        for value in values:
            whole_number(value, f"{where}: {key}")
    models = _listed(entry["model"])
    for model in models:
        check_kind(model, str, f"{where}: model")
    found = tuple(Run(*run) for run in product(models, *sizes))
    if not found:
        raise DeviceError(f"{where}: a list of models, batches, prompts, generates, contexts or tokens is empty")
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _across(entry: Mapping[str, Any], where: str) -> str:
    across = entry.get("across", ACROSS[0])
    if across not in ACROSS:
        raise DeviceError(f"{where}: across = {across!r}; {nearest(across, ACROSS)}")
    return across


def _relative(relative: Mapping[str, Any], file: Path, where: str) -> Asked:
    known_keys(relative, ("system", "batch", "set"), f"{where}: relative_to")
    if "system" not in relative:
        raise DeviceError(f"{where}: relative_to.system is missing")
    batch = whole_number(relative.get("batch"), f"{where}: relative_to: batch")
    return Asked(_systems(relative, file, f"{where}: relative_to"), batch, dotted_paths(relative.get("set", {})))


def _systems(entry: Mapping[str, Any], file: Path, where: str) -> tuple[Path, ...]:
    """The files of the systems that are named."""
    names = _listed(entry["system"])
    if not names:
        raise DeviceError(f"{where}: the list of systems is empty")
    return tuple(_system(str(name), file, where) for name in names)


def _system(name: str, file: Path, where: str) -> Path:
    beside = file.parent / (name if name.endswith(".toml") else f"{name}.toml")
    shipped = SYSTEMS / f"{name}.toml"
    if not shipped.is_file() and not (beside.is_file() and beside != file):
        known = [found.stem for found in SYSTEMS.glob("*.toml")]
        raise DeviceError(f"{where}: no system {name!r} beside it or among those that ship; {nearest(name, known)}")
    return shipped if shipped.is_file() else beside
