"""TOML to device: the schema of presets and of a user's own files.

    name = "my-cell"
    family = "reram"
    summary = "what it is, in one line"
    base = "macro-28nm"             # optional: another file whose values this one takes over

    [sources.chen2024]
    citation = "..."

    [device]                        # the model; each part names its class
    type = "AnalogMacro"
    rows = {value = 64, source = "chen2024", grade = "chosen"}

    [device.cell]
    type = "Cell"
    g_max = {value = 40e-6, unit = "S", source = "chen2024", grade = "stated", note = "Fig. 2"}

    [device.adc.cost]
    component = "adc-isaac"         # in place of a type: a shipped component, with its sources; fields may be changed

A bare number is allowed in a user's file; its grade is then "user". Units are SI and must be those of the field.
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pim.devices.device import GRADES, Device, Provenance, Source, cast_leaf, cast_static, join_sources
from pim.devices.errors import DeviceError, nearest
from pim.devices.record import check, fields_of, prepare
from pim.devices.registry import TYPES

PRESETS = Path(__file__).parent / "presets"
"""Device files that ship with the package; a published chip has a folder of its own in there."""
COMPONENTS = PRESETS / "components"
"""Files of single components: a converter's cost, a link."""


def shipped(folder: Path = PRESETS) -> dict[str, Path]:
    """The files that ship with the package by their names; components are not among the devices."""
    files = folder.rglob("*.toml")
    return {file.stem: file for file in sorted(files) if folder == COMPONENTS or COMPONENTS not in file.parents}


def load_device(path: str | Path) -> Device:
    """The device that a TOML file describes.

    Raises DeviceError, naming the file and the field, for anything that is missing, unknown, of another unit, or out of
    range.
    """
    file = Path(path)
    return device_of(read_table(file), file.name)


def device_of(table: Mapping[str, Any], where: str) -> Device:
    """The device of a table with what a device file says; `where` names it in messages."""
    for key in ("name", "family", "summary", "device"):
        if key not in table:
            raise DeviceError(f"{where}: {key!r} is missing" + (" (the table [device])" if key == "device" else ""))
    sources = sources_of(table, where)
    provenance: dict[str, Provenance] = {}
    model = _build(table["device"], "", where, sources, provenance)
    check(model, where)
    sources.setdefault("user", Source(f"set in {where}"))
    sources.setdefault("default", Source("default of this program: the effect is absent"))
    return Device(table["name"], table["family"], table["summary"], prepare(model), provenance, sources)


def read_table(file: Path) -> dict[str, Any]:
    """The file's table, laid over the one of its `base`, with components in the place of their names."""
    if not file.is_file():
        raise DeviceError(f"no device file {file}; give the path of a TOML file, or the name of a preset")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{file.name} is not valid TOML: {error}") from None
    return spelt_out(table, file)


def spelt_out(table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A device's table out of a file, laid over the one of its `base`, with components in the place of their names."""
    table = dict(table)
    if isinstance(table.get("device"), Mapping):
        sources = dict(table.get("sources", {}))
        table["device"] = _with_components(table["device"], sources, file.name)
        if sources:
            table["sources"] = sources
    if "base" not in table:
        return table
    beside = file.parent / f"{table['base']}.toml"
    base = beside if beside.is_file() else shipped().get(table["base"])
    if base is None or base == file:
        raise DeviceError(f"{file.name}: no base {table['base']!r} beside it or among the presets")
    return overlay(read_table(base), table)


def _with_components(table: Mapping[str, Any], sources: dict[str, Any], where: str) -> dict[str, Any]:
    """The table of a part with each `component` below it spelt out; their sources join `sources`."""
    own = {k: _with_components(v, sources, where) if isinstance(v, Mapping) else v for k, v in table.items()}
    if "component" not in table:
        return own
    files = shipped(COMPONENTS)
    name = own["component"]
    if name not in files:
        raise DeviceError(f"{where}: unknown component {name!r}; {nearest(str(name), files)}")
    found = read_table(files[name])
    renamed = join_sources(sources, found.get("sources", {}), name)
    return overlay(_renamed(found["device"], renamed), own)


def _renamed(table: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """The table with the sources of its values under other keys."""
    if "value" in table:
        return {**table, "source": keys.get(table.get("source", "user"), "user")}
    return {k: _renamed(v, keys) if isinstance(v, Mapping) else v for k, v in table.items()}


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` over `base`: tables merge, unless the top one is a value, names another type or is another component."""
    merged = dict(base)
    for key, value in top.items():
        old = base.get(key)
        merged[key] = value
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not {"value", "component"} & set(value):
            if value.get("type", old.get("type")) == old.get("type"):
                merged[key] = overlay(old, value)
    return merged


def sources_of(table: Mapping[str, Any], where: str) -> dict[str, Source]:
    """The sources that a file names, by their short names."""
    return {key: _source(entry, f"{where}: sources.{key}") for key, entry in table.get("sources", {}).items()}


def _source(entry: Any, where: str) -> Source:
    if not isinstance(entry, Mapping) or "citation" not in entry:
        raise DeviceError(f'{where} needs a citation: citation = "authors, title, venue, year"')
    return Source(str(entry["citation"]), str(entry.get("url", "")))


def _build(table: Any, path: str, where: str, sources: Mapping[str, Source], provenance: dict[str, Provenance]) -> Any:
    """The record of one table and, below it, of its parts."""
    at = f"{where}: {path or 'device'}"
    if not isinstance(table, Mapping) or "type" not in table:
        raise DeviceError(f'{at} needs a type: type = "AnalogMacro" for the device, "Cell" for a cell, ...')
    if table["type"] not in TYPES:
        raise DeviceError(f"{at}: unknown type {table['type']!r}; {nearest(str(table['type']), TYPES)}")
    cls = TYPES[table["type"]]
    fields = fields_of(cls)
    values: dict[str, Any] = {}
    for name, entry in table.items():
        if name in ("type", "component"):
            continue
        here = f"{path}.{name}" if path else name
        if name not in fields:
            raise DeviceError(f"{where}: unknown field {here!r} of {cls.__name__}; {nearest(name, fields)}")
        field = fields[name]
        if field.metadata["kind"] == "part":
            values[name] = None if entry == "none" else _build(entry, here, where, sources, provenance)
        else:
            values[name], provenance[here] = _value(entry, field, f"{where}: {here}", sources)
    for missing in _required(fields, values):
        raise DeviceError(
            f"{at} ({cls.__name__}): the field {missing!r} is missing ({fields[missing].metadata['doc']})"
        )
    for name, field in fields.items():
        if name not in values and field.default is not None and field.metadata["kind"] != "part":
            here = f"{path}.{name}" if path else name
            unit = field.metadata["unit"]
            values[name] = cast_leaf(field.default, here, unit) if field.metadata["kind"] == "leaf" else field.default
            provenance[here] = Provenance(unit, "default", "chosen", "not set: the field's default")
    return cls(**values)


def _required(fields: Mapping[str, dataclasses.Field], values: Mapping[str, Any]) -> Iterator[str]:
    return (n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING)


def _value(entry: Any, field: dataclasses.Field, where: str, sources: Mapping[str, Source]) -> tuple[Any, Provenance]:
    """A field's value and where it comes from."""
    unit = field.metadata["unit"]
    table = entry if isinstance(entry, Mapping) else {"value": entry, "source": "user", "grade": "user", "unit": unit}
    unknown = set(table) - {"value", "unit", "source", "grade", "note"}
    if unknown or "value" not in table:
        raise DeviceError(f"{where} must be a number or {{value, unit, source, grade, note}}, not {sorted(table)}")
    if table.get("unit", "1") != unit:
        raise DeviceError(f"{where} has the unit {table.get('unit', '1')!r}; the field is in {unit!r}")
    source, grade = table.get("source", "user"), table.get("grade", "user")
    if source != "user" and source not in sources:
        raise DeviceError(f"{where}: source {source!r} is not among [sources]; {nearest(source, sources)}")
    if grade not in GRADES:
        raise DeviceError(f"{where}: grade {grade!r} is none of {', '.join(GRADES)}")
    if field.metadata["kind"] == "leaf":
        value = cast_leaf(table["value"], where, unit)
    else:
        value = cast_static(table["value"], field, where)
    return value, Provenance(unit, source, grade, table.get("note", ""))
