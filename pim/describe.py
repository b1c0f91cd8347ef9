"""What a device's fields are, in rows: value, unit, meaning, and where each value comes from."""

import inspect
from dataclasses import asdict
from typing import Any

import numpy as np

from pim.devices.device import GRADES, Device, named
from pim.devices.errors import DeviceError, nearest
from pim.devices.record import walk
from pim.devices.survey import survey

HEADINGS = ("Example:", "Attributes:", "Args:", "Raises:")
"""Of a docstring: what is indented below them is no formula."""


def field_rows(device: Device) -> list[dict[str, Any]]:
    """Every value of a device as plain values: field, value, unit, meaning, range, source, url, grade and note.

    >>> field_rows(pim.preset("rram-techC"))[0]["field"]
    'rows'
    """
    return [_row(device, path, field.metadata, value) for path, field, value in walk(device.model) if value is not None]


def explain(device: Device, path: str) -> list[dict[str, Any]]:
    """The row of one field, or those of all fields of a part.

    Raises DeviceError, with the nearest names, if the device has neither.
    """
    rows = field_rows(device)
    found = [row for row in rows if row["field"] == path or row["field"].startswith(f"{path}.")]
    if not found:
        raise DeviceError(f"{device.name} has no field {path!r}; {nearest(path, [row['field'] for row in rows])}")
    return [row | _law(device.model, row["field"]) for row in found]


def _law(model: Any, path: str) -> dict[str, Any]:
    """The law that owns a field, the class of its record, and the equations of its docstring."""
    for name in path.split(".")[:-1]:
        model = getattr(model, name)
    return {"law": type(model).__name__, "equation": equations(type(model))}


def equations(law: type) -> list[str]:
    """The formulas of a record's docstring, which stand there as indented lines.

    >>> equations(FlashADCCost)[0]
    'E = (2^b - 1) C vdd^2 + ladder_power t      t = decision_time      A = (2^b - 1) comparator_area'
    """
    found, heading, before, within = [], "", "", False
    for line in inspect.cleandoc(law.__doc__ or "").splitlines():
        within = line.startswith("    ") and (within or before == "")
        if line and not line.startswith(" "):
            heading = line
        elif within and heading not in HEADINGS:
            found.append(line.strip())
        before = line
    return found


def device_dict(device: Device) -> dict[str, Any]:
    """The whole device as plain values, ready for JSON."""
    sources = {name: asdict(source) for name, source in device.citations().items()}
    head = {"name": device.name, "family": device.family, "summary": device.summary}
    known = {field.name: {"value": field.value, "unit": field.unit} for field in survey(device.model)}
    return {**head, "fields": field_rows(device), "survey": known, "sources": sources}


def device_text(device: Device) -> str:
    """The whole device as a table, its sources below."""
    rows = [(r["field"], printed(r["value"]), r["unit"], r["grade"], r["source"]) for r in field_rows(device)]
    table = [("field", "value", "unit", "grade", "source"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    sources = [f"{name}: {source.citation} {source.url}".rstrip() for name, source in device.citations().items()]
    cell = ["", "; ".join(f"{field}" for field in survey(device.model))] if device.family != "component" else []
    head = f"{device.name} ({device.family}): {device.summary}"
    return "\n".join([head, "", *lines, *cell, "", *sources])


def row_text(device: Device, row: dict[str, Any]) -> str:
    """One field in full."""
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    lines = [f"{device.name}.{row['field']} = {printed(row['value'])}{unit}", f"  {row['meaning']}"]
    details = {
        "allowed": row["allowed"],
        "grade": f"{row['grade']}: {GRADES.get(row['grade'], '')}",
        "source": f"{row['citation']} {row['url']}".rstrip(),
        "note": row["note"],
        "law": row.get("law", ""),
    }
    lines_of_law = [f"          {line}" for line in row.get("equation", ())]
    return "\n".join([*lines, *(f"  {name:<8}{text}" for name, text in details.items() if text), *lines_of_law])


def printed(value: Any) -> str:
    """A value in a few characters."""
    shape = np.shape(value)
    if shape:
        return "table of " + " x ".join(map(str, shape))
    return value if isinstance(value, str) else f"{value:g}"


def _row(device: Device, path: str, meta: Any, value: Any) -> dict[str, Any]:
    known = device.provenance.get(path)
    source = device.sources.get(known.source) if known else None
    return {
        "field": path,
        "value": _plain(value),
        "unit": meta["unit"],
        "meaning": _meaning(meta, value),
        "allowed": _allowed(meta),
        "grade": known.grade if known else "default",
        "source": known.source if known else "",
        "citation": source.citation if source else "",
        "url": source.url if source else "",
        "note": known.note if known else "",
    }


def _meaning(meta: Any, value: Any) -> str:
    chosen = (meta.get("meanings") or {}).get(value) if isinstance(value, str) else None
    return f"{meta['doc']}; here {chosen}" if chosen else meta["doc"]


def _allowed(meta: Any) -> str:
    if meta.get("choices"):
        return ", ".join(map(str, meta["choices"]))
    low, high = meta.get("low"), meta.get("high")
    low, high = (None if bound is None or not np.isfinite(bound) else bound for bound in (low, high))
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"{low:g} or more" if low is not None else f"{high:g} or less" if high is not None else ""


def _plain(value: Any) -> Any:
    """Numbers as their float32 reads, without the digits that only float64 has."""
    if callable(value):
        return named(value)
    if isinstance(value, (str, int)):
        return value
    rounded = np.vectorize(lambda number: float(f"{number:.7g}"))(np.asarray(value))
    return rounded.tolist()
