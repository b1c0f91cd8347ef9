"""TOML to system: the schema of the systems that ship with the package and of a user's own.

    name = "my-system"
    summary = "what it is, in one line"
    grade = "stated"                          # of what characterises it
    source = "Somebody, HPCA 2030"

    [sources.somebody2030]
    citation = "..."

    [devices.gpu]                             # a device's table as in a file of its own (see `pim.devices.loader`),
    base = "gpu-a100"                         # usually a preset,
    count = {value = 8, source = "somebody2030", grade = "stated"}
    [devices.gpu.device]                      # with some values changed
    bytes_per_second = {value = 3.0e12, unit = "1/s", source = "somebody2030", grade = "stated"}

    [links.gpu]                               # among the copies of a device, "gpu-pim" between two, or "pipeline"
    component = "link-nvlink"

    [[rules]]
    operators = "layers.*.attention.qk"
    device = "pim"
    phase = "decode"                          # optional

    [stores]                                  # optional: where keys and values wait that a device multiplies
    gpu = "kv"                                # a device among [devices] of the type KeyValueStore

    [schedule]                                # optional
    pipeline = 1
    micro_batches = 1
    interleave = 1
    overlap = ["links", "writing"]            # what goes on behind other work; nothing if it is not there

    [[copies]]                                # optional: matrices that lie in arrays more than once
    operators = "layers.*.ffn.*"
    count = 4

    [experts]                                 # optional
    placed = "spread"                         # or "cut": each whole on one of the copies of a device, or over all
    routing = [3, 1, 2, 2]                    # how often each was chosen in a trace; equally often by default

    [attention]                               # optional
    scored = "keys"                           # or "inputs", "inputs_by_head": what queries score
    attended = 1.0                            # share of the scores, and what chooses it: a claim about the workload
    attended_by = "pattern"                   # "screen" (`layers.*.screen.attention.qk`, a product of all) or "scores"

A bare number is allowed; its grade is then "user".
"""

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pim.devices.device import GRADES, Device, Source
from pim.devices.errors import DeviceError, nearest
from pim.devices.loader import device_of, sources_of, spelt_out
from pim.mapping.errors import MappingError
from pim.mapping.expert_parallel import CUT
from pim.mapping.system import System

SYSTEMS = Path(__file__).parent / "systems"
"""System files that ship with the package."""
_KEYS = (
    "name", "summary", "grade", "source", "sources", "devices", "links", "rules", "schedule", "attention", "stores",
    "copies", "experts",
)  # fmt: skip
_STAGED = ("pipeline", "micro_batches", "interleave")
_SCHEDULE = (*_STAGED, "overlap")
_OPTIONS = {"attention": ("scored", "attended", "attended_by"), "experts": ("placed", "routing")}


def system_names() -> list[str]:
    """Names of the systems that ship with the package."""
    return sorted(file.stem for file in SYSTEMS.glob("*.toml"))


def load_system(name: str | Path) -> System:
    """A system that ships with the package, by its name, or the one that a TOML file describes.

    Raises:
        MappingError, DeviceError: an unknown name (with the nearest ones), or a file that is not as it should be, with
            the file and the key.

    Example:
        >>> system = pim.load_system("attacc")
        >>> pim.cost(pim.place("gpt-3-175b", system), batch=32, context=2048).tokens_per_second
    """
    if str(name).endswith(".toml"):
        return _read(Path(name))
    if name not in system_names():
        raise MappingError(f"unknown system {str(name)!r}; {nearest(str(name), system_names())}")
    return _shipped(str(name))


def is_system_file(path: str | Path) -> bool:
    """Whether a file is that of a system, not of a device: whether it has [devices]."""
    try:
        return "devices" in tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


@cache
def _shipped(name: str) -> System:
    return _read(SYSTEMS / f"{name}.toml")


def system_table(path: Path) -> dict[str, Any]:
    """What a system file says, as it stands there."""
    if not path.is_file():
        raise MappingError(f"no system file {path}; give the path of a TOML file, or the name of a system")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path.name} is not valid TOML: {error}") from None
    for key in table:
        if key not in _KEYS:
            raise MappingError(f"{path.name}: unknown key {key!r}; {nearest(key, _KEYS)}")
    for key in ("name", "summary", "devices"):
        if not table.get(key):
            raise MappingError(f"{path.name}: {key!r} is missing")
    return table


def _read(path: Path) -> System:
    table = system_table(path)
    where, sources = path.name, sources_of(table, path.name)
    devices = {name: _device(name, entry, table, path) for name, entry in _tables(table, "devices", where)}
    counts = {
        name: _count(entry["count"], f"{where}: devices.{name}.count", sources)
        for name, entry in table["devices"].items()
        if "count" in entry
    }
    links = {name: _link(name, entry, table, path) for name, entry in _tables(table, "links", where)}
    told = {source: found for link in links.values() for source, found in link.citations().items()}
    schedule = _options(table, "schedule", _SCHEDULE, where)
    staged: dict[str, Any] = {
        key: _count(value, f"{where}: schedule.{key}", sources) for key, value in schedule.items() if key in _STAGED
    }
    attention, experts = (_options(table, key, known, where) for key, known in _OPTIONS.items())
    copies = [_copies(entry, f"{where}: copies[{i}]", sources) for i, entry in enumerate(table.get("copies", []))]
    rules = [_rule(entry, f"{where}: rules[{i}]") for i, entry in enumerate(table.get("rules", []))]
    try:
        system = System(
            devices,
            rules,
            table["name"],
            counts,
            {name: link.model for name, link in links.items()},
            summary=table["summary"],
            sources={**told, **sources},
            **attention,
            stores=_names(table, "stores", where),
            **staged,
            overlap=_listed(schedule.get("overlap", []), f"{where}: schedule.overlap"),
            copies=copies,
            experts=experts.get("placed", CUT),
            routing=_shares(experts.get("routing", []), f"{where}: experts.routing"),
        )
    except MappingError as error:
        raise MappingError(f"{where}: {error}") from None
    recalled = _recalled(devices, links, table)
    if recalled:
        warnings.warn(f"{system.name}: recalled, unverified figures: {', '.join(recalled)}", stacklevel=4)
    return system


RECALLED = "recalled"
"""The grade of figures that warn and gate nothing."""


def _recalled(devices: Mapping[str, Device], links: Mapping[str, Device], table: Mapping[str, Any]) -> list[str]:
    """The paths of recalled figures: of devices, links, counts and the schedule."""
    parts = {**{f"links.{name}": link for name, link in links.items()}, **devices}
    found = [f"{n}.{p}" for n, part in parts.items() for p, of in part.provenance.items() if of.grade == RECALLED]
    numbers = {f"{name}.count": entry.get("count") for name, entry in table["devices"].items()}
    numbers |= {f"schedule.{key}": entry for key, entry in table.get("schedule", {}).items()}
    return found + [n for n, entry in numbers.items() if isinstance(entry, Mapping) and entry.get("grade") == RECALLED]


def _tables(table: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The tables below a key, by name."""
    found = table.get(key, {})
    if not isinstance(found, Mapping):
        raise MappingError(f"{where}: {key} must be tables, [{key}.NAME]")
    for name, entry in found.items():
        if not isinstance(entry, Mapping):
            raise MappingError(f"{where}: {key}.{name} must be a table, [{key}.{name}]")
    return list(found.items())


def _options(table: Mapping[str, Any], key: str, known: Sequence[str], where: str) -> dict[str, Any]:
    """What stands below a key that a file need not have."""
    found = table.get(key, {})
    if not isinstance(found, Mapping):
        raise MappingError(f"{where}: {key} must be a table, [{key}]")
    for name in found:
        if name not in known:
            raise MappingError(f"{where}: unknown key {key}.{name}; {nearest(name, known)}")
    return dict(found)


def _copies(entry: Any, where: str, sources: Mapping[str, Source]) -> tuple[str, int]:
    if not isinstance(entry, Mapping) or set(entry) != {"operators", "count"}:
        raise MappingError(f"{where} needs operators and count: [[copies]]")
    return str(entry["operators"]), _count(entry["count"], f"{where}.count", sources)


def _listed(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MappingError(f'{where} must be a list, such as ["links"], not {value!r}')
    return tuple(str(each) for each in value)


def _shares(value: Any, where: str) -> tuple[float, ...]:
    numbers = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    if not numbers:
        raise MappingError(f"{where} must be a list of numbers, one for each expert, not {value!r}")
    return tuple(float(each) for each in value)


def _names(table: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    """The table of a key whose values are names."""
    found = table.get(key, {})
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found.values()):
        raise MappingError(f"{where}: {key} must be a table of names, [{key}]")
    return dict(found)


def _device(name: str, entry: Mapping[str, Any], table: Mapping[str, Any], path: Path) -> Device:
    """A device of the system, which may name the system's sources."""
    own = {key: value for key, value in entry.items() if key != "count"}
    sources = {**table.get("sources", {}), **own.get("sources", {})}
    try:
        return device_of(spelt_out({**own, "sources": sources}, path), f"{path.name}: devices.{name}")
    except DeviceError as error:
        raise DeviceError(str(error) if str(error).startswith(path.name) else f"{path.name}: {error}") from None


def _link(name: str, entry: Mapping[str, Any], table: Mapping[str, Any], path: Path) -> Device:
    """A link, by a component's name or by its values."""
    named = {"name": name, "family": "link", "summary": "a link of a system"}
    part = dict(entry) if "component" in entry or "type" in entry else {"type": "Link", **entry}
    found = spelt_out({**named, "device": part, "sources": table.get("sources", {})}, path)
    return device_of(found, f"{path.name}: links.{name}")


def _count(entry: Any, where: str, sources: Mapping[str, Source]) -> int:
    value = entry
    if isinstance(entry, Mapping):
        source, grade = entry.get("source", "user"), entry.get("grade", "user")
        if source != "user" and source not in sources:
            raise MappingError(f"{where}: source {source!r} is not among [sources]; {nearest(source, sources)}")
        if grade not in GRADES:
            raise MappingError(f"{where}: grade {grade!r} is none of {', '.join(GRADES)}")
        value = entry.get("value")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MappingError(f"{where} must be a whole number of at least 1, not {value!r}")
    return value


def _rule(entry: Any, where: str) -> tuple[str, str] | tuple[str, str, str]:
    if not isinstance(entry, Mapping) or not {"operators", "device"} <= set(entry) <= {"operators", "device", "phase"}:
        raise MappingError(f"{where} needs operators and device, and may have a phase: [[rules]]")
    pattern, device = str(entry["operators"]), str(entry["device"])
    return (pattern, device) if "phase" not in entry else (pattern, device, str(entry["phase"]))
