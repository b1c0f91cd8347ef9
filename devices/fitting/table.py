"""The table of measurements: one row a pulse or reading, SI units, checked as it comes in.

    device_id, die, row, col, cycle, seq, t_s, op, v_V, wl_V, pw_s, temp_K, g_S, i_A, v_read_V, g_target_S, pulse_no, ok

The header is required and may leave columns out; a missing value is empty; other columns are kept as they are. `op` is
form, set, reset, prog (a pulse that may go either way) or read. A row of a pulse may carry the conductance that was
read right after it. Where a row has a current and a read voltage but no conductance, their ratio is taken.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from pim.devices.errors import DeviceError, nearest
from pim.devices.fitting.sidecar import Sidecar, read_sidecar

OPS = ("form", "set", "reset", "prog", "read")
PULSES = ("set", "reset", "prog")
MISSING = {"", "nan", "na", "n/a", "none", "null"}


@dataclass(frozen=True)
class Column:
    """What a column of numbers holds, and the range in which a figure in SI units must lie."""

    unit: str
    doc: str
    low: float
    high: float
    mistaken: tuple[tuple[float, str], ...] = ()
    """What a figure out of range may be instead: factor to SI and name of the unit, the likeliest first."""


NUMBERS: Mapping[str, Column] = {
    "row": Column("1", "row of the array", 0, 1e9),
    "col": Column("1", "column of the array", 0, 1e9),
    "cycle": Column("1", "number of the programming cycle of the cell", 0, 1e15),
    "seq": Column("1", "order of the rows of a cell; absent: that of the file", 0, 1e15),
    "t_s": Column("s", "time of the row", 0, 1e11, ((1e-3, "ms"), (1e-9, "ns"))),
    "v_V": Column("V", "voltage of the pulse", -30, 30, ((1e-3, "mV"),)),
    "wl_V": Column("V", "voltage of the selector", -30, 30, ((1e-3, "mV"),)),
    "pw_s": Column("s", "width of the pulse", 0, 10, ((1e-9, "ns"),)),
    "temp_K": Column("K", "temperature", 150, 1500),
    "g_S": Column("S", "conductance", -1e-5, 0.1, ((1e-6, "µS"), (1e-9, "nS"))),
    "i_A": Column("A", "current", -1, 1, ((1e-6, "µA"), (1e-9, "nA"))),
    "v_read_V": Column("V", "voltage of the reading", -30, 30, ((1e-3, "mV"),)),
    "g_target_S": Column("S", "conductance that was asked for", 0, 0.1, ((1e-6, "µS"), (1e-9, "nS"))),
    "pulse_no": Column("1", "number of the pulse since its train began", 0, 1e15),
}
TEXTS = ("device_id", "die")
COLUMNS = (
    "device_id", "die", "row", "col", "cycle", "seq", "t_s", "op", "v_V", "wl_V", "pw_s", "temp_K", "g_S", "i_A",
    "v_read_V", "g_target_S", "pulse_no", "ok",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measurements:
    """Rows of measurements by column, with the line of the file that each came from.

    Numbers are float64, NaN where missing; texts are empty where missing; `ok` is 1, 0 or NaN.

    >>> table = read_table("cells.csv")
    >>> table["g_S"].max()
    """

    name: str
    columns: Mapping[str, np.ndarray]
    lines: np.ndarray
    sidecar: Sidecar
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def where(self, rows: Bool[np.ndarray, "rows"] | Int[np.ndarray, "kept"]) -> "Measurements":
        """The table of some of the rows, by mask or index."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            extra={name: values[rows] for name, values in self.extra.items()},
            lines=self.lines[rows],
        )

    def is_op(self, *ops: str) -> Bool[np.ndarray, "rows"]:
        """Which rows are of these operations."""
        return np.isin(self["op"], ops)

    @cached_property
    def cells(self) -> Int[np.ndarray, "rows"]:
        """The number of each row's cell, from 0: a cell is a device of a die."""
        names = np.char.add(np.char.add(self["die"].astype(str), "\t"), self["device_id"].astype(str))
        return np.unique(names, return_inverse=True)[1].reshape(-1)


def read_table(path: str | Path) -> Measurements:
    """The canonical table of a CSV file (or one with tabs or semicolons), its sidecar beside it.

    Lines that begin with # are comments.

    Raises:
        DeviceError: the header, a row or a unit is wrong; the message gives the line.

    >>> read_table("cells.csv")["g_S"]
    """
    file = Path(path)
    header, *rows = read_rows(file)
    names = [name.strip() for name in header.cells]
    for name in names:
        _check_name(name, names, f"{file.name}, line {header.line}")
    for row in rows:
        if len(row.cells) != len(names):
            raise DeviceError(
                f"{file.name}, line {row.line}: {len(row.cells)} fields where the header names {len(names)} columns"
            )
    texts = {name: [row.cells[i] for row in rows] for i, name in enumerate(names)}
    return measurements(texts, file.name, np.array([row.line for row in rows], int), read_sidecar(file))


def measurements(
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    name: str = "measurements",
    lines: Int[np.ndarray, "rows"] | None = None,
    sidecar: Sidecar | None = None,
) -> Measurements:
    """A checked table from columns of numbers or texts; what is not canonical is kept as extra columns.

    Raises:
        DeviceError: a column is missing, too short or holds what it must not; the message gives the line, which is the
            place in the column, from 1, where there is no file.

    >>> measurements({"device_id": ["a", "a"], "op": ["set", "read"], "g_S": [4e-5, 3.9e-5]})
    """
    sidecar = sidecar or Sidecar()
    if "op" not in columns:
        raise DeviceError(f"{name}: the column op is missing; columns are {', '.join(COLUMNS)}")
    if not {"g_S", "i_A"} & set(columns):
        raise DeviceError(f"{name}: there is neither a conductance (g_S) nor a current (i_A)")
    sizes = {column: len(values) for column, values in columns.items()}
    count = sizes["op"]
    if set(sizes.values()) != {count} or not count:
        raise DeviceError(f"{name}: {'no rows' if not count else f'columns of different lengths: {sizes}'}")
    lines = np.arange(1, count + 1) if lines is None else lines
    clean: dict[str, np.ndarray] = {}
    for column in COLUMNS:
        values = columns.get(column)
        where = f"{name}, line", lines
        if column == "op":
            clean[column] = _operations(columns["op"], where)
        elif column in TEXTS:
            clean[column] = np.array([""] * count if values is None else [str(value).strip() for value in values])
        elif values is None:
            clean[column] = np.full(count, np.nan)
        elif column == "ok":
            clean[column] = _flags(values, where)
        else:
            clean[column] = _numbers(column, values, where)
            _check_range(column, clean[column], where, sidecar)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = clean["i_A"] / clean["v_read_V"]
    clean["g_S"] = np.where(np.isnan(clean["g_S"]) & np.isfinite(ratio), ratio, clean["g_S"])
    extra = {column: np.asarray(values) for column, values in columns.items() if column not in COLUMNS}
    return Measurements(name, clean, np.asarray(lines), sidecar, extra)


# Rows of text files


@dataclass(frozen=True)
class Row:
    """A line of a file, cut into fields."""

    line: int
    cells: list[str]


def read_rows(file: Path) -> list[Row]:
    """The lines of a text file that hold something, cut at commas, tabs or semicolons.

    Raises DeviceError where there is no such file, it is no text, or it is empty.
    """
    if not file.is_file():
        raise DeviceError(f"no file {file}; give the path of a table of measurements")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DeviceError(f"{file.name} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    kept = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not kept:
        raise DeviceError(f"{file.name} is empty")
    separator = next((mark for mark in "\t;," if mark in kept[0][1]), ",")
    return [Row(i, [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]) for i, line in kept]


def numbers_of(rows: Sequence[Row], count: int, file: str) -> np.ndarray:
    """Rows of `count` numbers each [rows, count], empty fields as NaN.

    Raises DeviceError with the line of the first row that is something else.
    """
    for row in rows:
        if len(row.cells) != count:
            raise DeviceError(f"{file}, line {row.line}: {len(row.cells)} fields where there must be {count}")
    lines = np.array([row.line for row in rows], int)
    columns = [_numbers(str(i + 1), [row.cells[i] for row in rows], (f"{file}, line", lines)) for i in range(count)]
    return np.stack(columns, axis=1)


# Checks

Where = tuple[str, np.ndarray]
"""What an error says before the line's number, and the lines."""


def _check_name(name: str, names: Sequence[str], where: str) -> None:
    if names.count(name) > 1:
        raise DeviceError(f"{where}: the column {name!r} is there twice")
    stem, _, _ = name.rpartition("_")
    for column in NUMBERS:
        if name != column and stem and "_" in column and stem == column.rpartition("_")[0]:
            raise DeviceError(f"{where}: the column {name!r}: the table is in SI units, write {column}")


def _numbers(column: str, values: Sequence[Any] | np.ndarray, where: Where) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return _finite(column, values.astype(float), where)
    try:
        found = np.array([np.nan if value is None or value == "" else value for value in values], float)
    except (TypeError, ValueError):
        found = np.array([_number(column, value, where, i) for i, value in enumerate(values)])
    return _finite(column, found, where)


def _finite(column: str, found: np.ndarray, where: Where) -> np.ndarray:
    if np.isinf(found).any():
        line = where[1][np.isinf(found)][0]
        raise DeviceError(f"{where[0]} {line}: {column} is infinite; leave the field empty where nothing was measured")
    return found


def _number(column: str, value: Any, where: Where, i: int) -> float:
    if value is None or str(value).strip().lower() in MISSING:
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DeviceError(f"{where[0]} {where[1][i]}: {column} = {value!r} is not a number") from None


def _operations(values: Sequence[Any] | np.ndarray, where: Where) -> np.ndarray:
    ops = np.array([str(value).strip().lower() for value in values])
    bad = np.flatnonzero(~np.isin(ops, OPS))
    if bad.size:
        raise DeviceError(
            f"{where[0]} {where[1][bad[0]]}: op = {str(values[int(bad[0])])!r} is none of {', '.join(OPS)}"
            + (f"; {nearest(str(ops[bad[0]]), OPS)}" if ops[bad[0]] else "")
        )
    return ops


def _flags(values: Sequence[Any] | np.ndarray, where: Where) -> np.ndarray:
    known = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0}
    known |= dict.fromkeys(MISSING, np.nan)
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        values = ["" if np.isnan(value) else f"{value:g}" for value in values.astype(float)]
    texts = ["" if value is None else str(value).strip().lower() for value in values]
    for line, text in zip(where[1], texts, strict=True):
        if text not in known:
            raise DeviceError(f"{where[0]} {line}: ok = {text!r} is neither 1 nor 0")
    return np.array([known[text] for text in texts])


def _check_range(name: str, values: np.ndarray, where: Where, sidecar: Sidecar) -> None:
    """Raise at the first value that cannot be in SI units."""
    column = NUMBERS[name]
    low, high = sidecar.ranges.get(name, (column.low, column.high))
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero((values < low) | (values > high))
    if not bad.size:
        return
    value = float(values[bad[0]])
    unit = "" if column.unit == "1" else f" {column.unit}"
    others = f" ({bad.size - 1} more rows are out of range)" if bad.size > 1 else ""
    raise DeviceError(
        f"{where[0]} {where[1][bad[0]]}: {name} = {value:g}{unit} is no {column.doc}; it must lie in "
        f"[{low:g}, {high:g}]{unit}{_looks_like(name, value, low, high)}{others}"
    )


def _looks_like(name: str, value: float, low: float, high: float) -> str:
    """What a value out of range may be, and how to write it."""
    if name == "temp_K" and low <= value + 273.15 <= high:
        return f". It looks like degrees Celsius: write {value + 273.15:g} (colder: `ranges.temp_K` in the sidecar)"
    if name.startswith("g_") and value >= 1e3:
        return f". It looks like a resistance in ohm: write {1 / value:.4g}"
    for factor, unit in NUMBERS[name].mistaken:
        if low <= value * factor <= high:
            return f". It looks like {unit}: write {value * factor:.4g}"
    return ""
