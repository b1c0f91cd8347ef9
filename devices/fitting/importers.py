"""Tables in the forms in which instruments and other programs write them, as canonical ones.

| name         | what it reads                                                                                        |
|--------------|------------------------------------------------------------------------------------------------------|
| `arc`        | ArC instruments: word line, bit line, resistance, voltage, pulse width, tags, read voltage           |
| `relax_tsv`  | relaxation without header: address, time, R, G, initial G, level, time point                         |
| `keithley`   | sweeps side by side, columns V, I and t of each device; also `b1500`, with DataName and DataValue    |
| `pulse_pair` | two arrays, pulse number and conductance; a second branch that falls is that of the reset pulses     |
| `aihwkit`    | two arrays, pulses +1 and -1 and the response to each                                                |
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pim.devices.errors import DeviceError, nearest
from pim.devices.fitting.sidecar import read_sidecar
from pim.devices.fitting.table import Measurements, measurements, read_table
from pim.devices.fitting.text_rows import Row, numbers_of, read_rows

Columns = Mapping[str, Sequence[Any] | np.ndarray]


def read_measurements(path: str | Path, importer: str | None = None, progress: bool = False) -> Measurements:
    """The table of a file: a canonical one, or one that an importer knows.

    Raises:
        DeviceError: an unknown importer, or whatever is wrong with the file, with the line.

    >>> read_measurements("sweep.csv", "keithley")
    """
    if importer is None:
        return read_table(path, progress)
    if importer not in IMPORTERS:
        raise DeviceError(f"unknown importer {importer!r}; {nearest(importer, IMPORTERS)}")
    file = Path(path)
    columns, lines = IMPORTERS[importer](list(read_rows(file)), file.name)
    return measurements(columns, file.name, lines, read_sidecar(file))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without_header(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows from the first that begins with a number."""
    start = next((i for i, row in enumerate(rows) if row.cells and _is_number(row.cells[0])), len(rows))
    return rows[start:]


def _lines(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row.line for row in rows], int)


def _need(rows: Sequence[Row], file: str, what: str) -> Sequence[Row]:
    if not rows:
        raise DeviceError(f"{file} holds no {what}")
    return rows


def arc(rows: Sequence[Row], file: str) -> tuple[Columns, np.ndarray]:
    """Rows of ArC: a width of 0 is a reading; voltages above zero count as set, below as reset.

    The resistance of a row is that read after the pulse, at the row's read voltage.
    """
    rows = _need(_without_header(rows), file, "rows that begin with the number of a word line")
    for row in rows:
        if len(row.cells) != 8:
            raise DeviceError(
                f"{file}, line {row.line}: {len(row.cells)} fields where there must be 8: wordline, bitline, "
                "resistance, voltage, pulse width, test tag, read tag, read voltage"
            )
    figures = numbers_of([Row(row.line, [row.cells[i] for i in (0, 1, 2, 3, 4, 7)]) for row in rows], 6, file)
    word, bit, resistance, voltage, width, v_read = figures.T
    reading = ~(width > 0)
    return {
        "device_id": [f"W{w:.0f}B{b:.0f}" for w, b in zip(word, bit, strict=True)],
        "row": word, "col": bit, "op": np.where(reading, "read", np.where(voltage >= 0, "set", "reset")),
        "v_V": np.where(reading, np.nan, voltage), "pw_s": np.where(reading, np.nan, width), "v_read_V": v_read,
        "g_S": _inverse(resistance, rows, file), "tag": [row.cells[5] for row in rows],
        "read_tag": [row.cells[6] for row in rows],
    }, _lines(rows)  # fmt: skip


def _inverse(resistance: np.ndarray, rows: Sequence[Row], file: str) -> np.ndarray:
    bad = np.flatnonzero(resistance <= 0)
    if bad.size:
        raise DeviceError(f"{file}, line {rows[bad[0]].line}: a resistance of {resistance[bad[0]]:g} ohm")
    return 1 / resistance


def relax_tsv(rows: Sequence[Row], file: str) -> tuple[Columns, np.ndarray]:
    """Readings after programming; G in S or µS, told by its product with R."""
    figures = numbers_of([Row(row.line, row.cells[1:4] + row.cells[4:]) for row in rows if _seven(row, file)], 6, file)
    time, resistance, g, initial, level, point = figures.T
    with np.errstate(invalid="ignore"):
        product = float(np.nanmedian(np.abs(g * resistance)))
    scale = {0: 1.0, 6: 1e-6}.get(round(np.log10(product)) if product > 0 else -1)
    if scale is None:
        raise DeviceError(f"{file}: R times G is {product:.3g}; with R in ohm it must be 1 (G in S) or 1e6 (G in µS)")
    return {
        "device_id": [row.cells[0] for row in rows], "op": ["read"] * len(rows), "t_s": time, "g_S": g * scale,
        "g_target_S": initial * scale, "level": level, "time_point": point,
    }, _lines(rows)  # fmt: skip


def _seven(row: Row, file: str) -> bool:
    if len(row.cells) != 7:
        raise DeviceError(
            f"{file}, line {row.line}: {len(row.cells)} fields where there must be 7: address, time, R, G, initial G, "
            "level, time point"
        )
    return True


def keithley(rows: Sequence[Row], file: str) -> tuple[Columns, np.ndarray]:
    """Sweeps side by side: columns named V..., I... and, if there are any, t... or Time..., a set for each device.

    What stands before the line of names is passed over, and of rows that begin with a word (DataValue) that word. A
    device is named by what follows the letter in its columns' names.
    """
    start, names = next(((i, _named(row.cells)) for i, row in enumerate(rows) if len(_named(row.cells)) >= 2), (-1, {}))
    if start < 0:
        raise DeviceError(f"{file}: no line names columns V and I, such as V1, I1, t1, V2, I2, t2")
    devices = [suffix for kind, suffix in names if kind == "v" and ("i", suffix) in names]
    if not devices:
        raise DeviceError(
            f"{file}, line {rows[start].line}: no column I has the number of a column V: {rows[start].cells}"
        )
    body = _need(rows[start + 1 :], file, "readings below the names of the columns")
    width = len(rows[start].cells)
    figures = numbers_of([Row(row.line, _only(row, names, width, file)) for row in body], len(names), file)
    place = {name: i for i, name in enumerate(names)}
    parts = []
    for device in devices:
        column = lambda kind, device=device: figures[:, place[kind, device]]
        own = ("t", device) if ("t", device) in names else ("t", "")
        time = figures[:, place[own]] if own in place else np.full(len(figures), np.nan)
        parts.append((device, column("v"), column("i"), time))
    keep = [np.flatnonzero(np.isfinite(v) & np.isfinite(i)) for _, v, i, _ in parts]
    join = lambda k: np.concatenate([part[k][rows] for part, rows in zip(parts, keep, strict=True)])
    ids = [name or "1" for (name, *_), rows in zip(parts, keep, strict=True) for _ in rows]
    lines = np.concatenate([_lines(body)[rows] for rows in keep])
    return {
        "device_id": ids, "op": ["read"] * len(ids), "t_s": join(3), "v_read_V": join(1), "i_A": join(2),
    }, lines  # fmt: skip


def _named(cells: Sequence[str]) -> dict[tuple[str, str], int]:
    """Columns of voltages, currents and times by kind and device: {("v", "1"): 0, ...}."""
    found = {}
    for i, cell in enumerate(cells):
        match = re.fullmatch(r"(V|I|t|T|[Tt]ime)[ _]?([A-Za-z]?\d*)(?:\s*[\[(].*)?", cell.strip())
        if match:
            found[match[1][0].lower(), match[2]] = i
    return found if {"v", "i"} <= {kind for kind, _ in found} else {}


def _only(row: Row, names: Mapping[tuple[str, str], int], width: int, file: str) -> list[str]:
    if len(row.cells) != width:
        raise DeviceError(f"{file}, line {row.line}: {len(row.cells)} fields where the columns' names are {width}")
    return [row.cells[i] for i in names.values()]


def pulse_pair(rows: Sequence[Row], file: str) -> tuple[Columns, np.ndarray]:
    """Pulse number and conductance (S) of one device, branch after branch.

    A branch ends where the number turns or repeats itself, so that a branch may be mirrored by hand and count
    backwards. One whose conductance falls is of reset pulses. Pulse 0, and a repetition of where the last branch ended,
    are readings.
    """
    rows = _need(_without_header(rows), file, "rows of a pulse number and a conductance")
    number, g = numbers_of(rows, 2, file).T
    starts, way = [0], 0.0
    for i, step in enumerate(np.sign(np.diff(number)), 1):
        if step == 0 or (way != 0 and step != way):
            starts.append(i)
            way = 0.0
        else:
            way = step
    op, cycle, count = np.full(len(number), "read", object), np.zeros(len(number)), np.zeros(len(number))
    seen = {"set": 0, "reset": 0}
    for start, end in zip(starts, [*starts[1:], len(number)], strict=True):
        kind = "set" if g[end - 1] >= g[start] else "reset"
        seen[kind] += 1
        op[start:end], cycle[start:end] = kind, seen[kind]
        if number[start] == 0 or (start > 0 and number[start] == number[start - 1]):
            op[start] = "read"
        count[start:end] = np.abs(number[start:end] - number[start]) + (op[start] != "read")
    return {"device_id": ["1"] * len(number), "op": op, "cycle": cycle, "pulse_no": count, "g_S": g}, _lines(rows)


def aihwkit(rows: Sequence[Row], file: str) -> tuple[Columns, np.ndarray]:
    """Pulses +1 (set) and -1 (reset) and the conductance (S) after each, of one device; 0 is a reading."""
    rows = _need(_without_header(rows), file, "rows of a pulse and a response")
    pulse, g = numbers_of(rows, 2, file).T
    bad = np.flatnonzero(~np.isin(pulse, (-1, 0, 1)))
    if bad.size:
        raise DeviceError(f"{file}, line {rows[bad[0]].line}: a pulse of {pulse[bad[0]]:g}; pulses are +1, -1 or 0")
    op = np.select([pulse > 0, pulse < 0], ["set", "reset"], "read")
    # a cycle is one train up and the train down that follows
    down = np.concatenate([[False], (pulse[1:] > 0) & (pulse[:-1] < 0)]) if len(pulse) else np.zeros(0, bool)
    return {"device_id": ["1"] * len(pulse), "op": op, "cycle": 1.0 + np.cumsum(down), "g_S": g}, _lines(rows)


IMPORTERS: Mapping[str, Callable[[Sequence[Row], str], tuple[Columns, np.ndarray]]] = {
    "arc": arc, "relax_tsv": relax_tsv, "keithley": keithley, "b1500": keithley, "pulse_pair": pulse_pair,
    "aihwkit": aihwkit,
}  # fmt: skip
