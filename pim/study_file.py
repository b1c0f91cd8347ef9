"""A study from a TOML file. Every key may be left away.

    model = "tiny-stories"              # or a Hugging Face folder
    system = "rram-techC"               # a preset or device file that holds the layers' matrices; or a table [system]
    text = "held_out.txt"               # the shipped model has text of its own
    calibration = "other.txt"           # without it, the first part of the text calibrates and the rest is scored
    tokens = 2048                       # scored tokens, at most
    chips = 4
    seed = 0
    context = 256
    stride = 64                         # windows overlap, and documents are scored to their end; without it neither
    time = 3600                         # s since programming; each device's reference time without it
    out = "out"

    [set]
    weights.rows = 128
    weights.cell.relaxation = "none"    # an effect is taken away

    [sweep]
    weights.adc.bits = [4, 5, 6]

    [system]                            # in place of a name: devices by name, and what goes where
    devices = {weights = "my_cell.toml", digital = "digital-28nm"}
    rules = [["layers.*.attention.?[kv]", "digital"], ["head", "digital"]]

Files are looked for beside the study's own file, `out` is made in the working folder.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pim.devices.errors import nearest
from pim.errors import StudyError
from pim.study import Study

KEYS = tuple(key.name for key in fields(Study))
WHOLE = {"tokens": 1, "chips": 1, "seed": 0, "context": 2, "stride": 1}
"""Whole numbers and the least that each may be."""


def load_study(path: str | Path) -> Study:
    """The study that a TOML file describes.

    Raises StudyError, naming file and key, for a file or key that is not there or not right.
    """
    file = Path(path)
    if not file.is_file():
        raise StudyError(f"no study file {file}: give the path of a TOML file, or leave it away for the default study")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{file} is not valid TOML: {error}") from None
    try:
        return study_of(table, file.parent)
    except StudyError as error:
        raise StudyError(f"{file}: {error}") from None


def study_of(table: Mapping[str, Any], folder: Path = Path(), base: Study | None = None) -> Study:
    """The study `base` (the default one) with the keys of a table changed; `folder` is where its files are looked for.

    Raises StudyError for an unknown key, and for a value that its key cannot have.
    """
    for key in table:
        if key not in KEYS:
            raise StudyError(f"unknown key {key!r}; {nearest(key, KEYS)}")
    values = dict(table)
    for key in ("set", "sweep"):
        if key in values:
            values[key] = _dotted(values[key], key)
    for key, value in values.items():
        _check(key, value)
    for key in ("model", "text", "calibration", "system"):
        if isinstance(values.get(key), str):
            values[key] = _beside(values[key], folder)
    if isinstance(values.get("system"), Mapping):
        values["system"] = _system_table(values["system"], folder)
    return replace(base or Study(), **values)


def _dotted(table: Any, key: str, above: str = "") -> dict[str, Any]:
    """Nested tables as values by dotted path."""
    if not isinstance(table, Mapping):
        raise StudyError(f"{key} must be a table of dotted paths, such as [{key}] with weights.adc.bits")
    found: dict[str, Any] = {}
    for name, value in table.items():
        here = f"{above}{name}"
        found |= _dotted(value, key, f"{here}.") if isinstance(value, Mapping) else {here: _or_none(value)}
    return found


def _or_none(value: Any) -> Any:
    """TOML has no null: "none" removes an effect."""
    if isinstance(value, list):
        return [_or_none(item) for item in value]
    return None if value == "none" else value


def _check(key: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key in WHOLE and not (isinstance(value, int) and number and value >= WHOLE[key]):
        raise StudyError(f"{key} = {value!r} must be a whole number of at least {WHOLE[key]}")
    if key == "time" and value is not None and not (number and 0 <= value < float("inf")):
        raise StudyError(f"time = {value!r} must be seconds since programming, 0 or more")
    if key in ("model", "text", "calibration", "out", "resume") and not (isinstance(value, str) and value):
        raise StudyError(f"{key} = {value!r} must be a name or a path")
    if key == "system" and not (isinstance(value, Mapping) or (isinstance(value, str) and value)):
        raise StudyError(f"system = {value!r} must be a preset, a device file or a table [system]")
    for path, values in value.items() if isinstance(value, Mapping) and key == "sweep" else ():
        if not isinstance(values, (list, tuple)) or not values:
            raise StudyError(f"sweep: {path} = {values!r} must be a list of values, such as [4, 6, 8]")


def _beside(name: str, folder: Path) -> str:
    return str(folder / name) if (folder / name).exists() else name


def _system_table(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    known = ("devices", "rules", "name")
    for key in table:
        if key not in known:
            raise StudyError(f"unknown key 'system.{key}'; {nearest(key, known)}")
    devices, rules = table.get("devices"), table.get("rules", [])
    if not isinstance(devices, Mapping) or not all(isinstance(name, str) for name in devices.values()):
        raise StudyError("system.devices must name a preset or a device file for each device")
    pairs = isinstance(rules, list) and all(
        isinstance(rule, list) and len(rule) == 2 and all(isinstance(part, str) for part in rule) for rule in rules
    )
    if not pairs:
        raise StudyError("system.rules must be a list of [pattern, device], such as [['head', 'digital']]")
    return {**table, "devices": {name: _beside(device, folder) for name, device in devices.items()}}
