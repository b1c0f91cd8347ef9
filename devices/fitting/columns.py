"""The columns of a table of measurements: what each holds, and what its values must be.

    device_id, die, row, col, cycle, seq, t_s, op, v_V, wl_V, pw_s, temp_K, g_S, i_A, v_read_V, g_target_S, pulse_no, ok

Numbers are in SI units, which are checked by the range in which a figure can lie. A value that is missing is empty.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pim.devices.errors import DeviceError, nearest
from pim.devices.fitting.sidecar import Sidecar

OPS = ("form", "set", "reset", "prog", "read")
PULSES = ("set", "reset", "prog")
MISSING = {"", "nan", "na", "n/a", "none", "null"}
FLAGS = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0}

Values = Sequence[Any] | np.ndarray
Where = tuple[str, np.ndarray]
"""What an error says before the number of a row, and those numbers."""


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
TEXTS: Mapping[str, str] = {
    "device_id": "name of the cell; absent: a cell is told by its die, row and col",
    "die": "name of the die",
}
COLUMNS = (
    "device_id", "die", "row", "col", "cycle", "seq", "t_s", "op", "v_V", "wl_V", "pw_s", "temp_K", "g_S", "i_A",
    "v_read_V", "g_target_S", "pulse_no", "ok",
)  # fmt: skip


def described() -> list[str]:
    """A line for each column: its name, what it holds, and its unit.

    >>> print(described()[0])
    device_id   name of the cell; absent: a cell is told by its die, row and col
    """
    words = {name: column.doc + ("" if column.unit == "1" else f" ({column.unit})") for name, column in NUMBERS.items()}
    words |= TEXTS | {
        "op": f"required: {', '.join(OPS)}; prog is a pulse either way",
        "ok": "1 or 0: the write succeeded",
    }
    return [f"{name:<11} {words[name]}" for name in COLUMNS]


def check_name(name: str, names: Sequence[str], where: str) -> None:
    """Raise DeviceError if a name is there twice, or is that of a column in another unit."""
    if names.count(name) > 1:
        raise DeviceError(f"{where}: the column {name!r} is there twice")
    stem, _, _ = name.rpartition("_")
    for column in NUMBERS:
        if name != column and stem and "_" in column and stem == column.rpartition("_")[0]:
            raise DeviceError(f"{where}: the column {name!r}: the table is in SI units, write {column}")


def converted(column: str, values: Values, where: Where) -> np.ndarray:
    """The values of a column as numbers (NaN where missing) or texts (empty where missing).

    Raises DeviceError with the number of the first row whose value cannot be one.
    """
    if column == "op":
        return _operations(values, where)
    if column == "ok":
        return _flags(values, where)
    if column in NUMBERS:
        return numbers(column, values, where)
    if column not in TEXTS and isinstance(values, np.ndarray):
        return values
    same: dict[str, str] = {}  # one object for equal texts
    texts = ["" if value is None else str(value).strip() for value in values]
    return _objects([same.setdefault(text, text) for text in texts])


def _objects(values: Sequence[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def numbers(column: str, values: Values, where: Where) -> np.ndarray:
    """Values as float64, NaN where missing. Raises DeviceError at the first that is no finite number."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        found = values.astype(float)
    else:
        try:
            found = np.array([np.nan if value is None or value == "" else float(value) for value in values], float)
        except (TypeError, ValueError):
            found = np.array([_number(column, value, where, i) for i, value in enumerate(values)], float)
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
        comma = re.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?", str(value).strip())
        hint = f"; write the decimal point: {str(value).strip().replace(',', '.')}" if comma else ""
        raise DeviceError(f"{where[0]} {where[1][i]}: {column} = {value!r} is not a number{hint}") from None


def _operations(values: Values, where: Where) -> np.ndarray:
    code = {op: i for i, op in enumerate(OPS)}
    known: dict[Any, int] = {}
    found = np.empty(len(values), np.int8)
    for i, value in enumerate(values):
        if value not in known:
            op = str(value).strip().lower()
            if op not in code:
                raise DeviceError(
                    f"{where[0]} {where[1][i]}: op = {str(value)!r} is none of {', '.join(OPS)}"
                    + (f"; {nearest(op, OPS)}" if op else "")
                )
            known[value] = code[op]
        found[i] = known[value]
    return np.array(OPS)[found]


def _flags(values: Values, where: Where) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        values = ["" if np.isnan(value) else f"{value:g}" for value in values.astype(float)]
    known = FLAGS | dict.fromkeys(MISSING, np.nan)
    texts = ["" if value is None else str(value).strip().lower() for value in values]
    for line, text in zip(where[1], texts, strict=True):
        if text not in known:
            raise DeviceError(f"{where[0]} {line}: ok = {text!r} is neither 1 nor 0")
    return np.array([known[text] for text in texts])


def check_range(name: str, values: np.ndarray, where: Where, sidecar: Sidecar) -> None:
    """Raise DeviceError at the first value that cannot be in SI units; the sidecar may widen a range."""
    column = NUMBERS[name]
    low, high = sidecar.ranges.get(name, (column.low, column.high))
    bad = np.flatnonzero((values < low) | (values > high))
    if not bad.size:
        return
    value = float(values[bad[0]])
    unit = "" if column.unit == "1" else f" {column.unit}"
    more = bad.size - 1
    others = f" ({more} more row{'s are' if more > 1 else ' is'} out of range)" if more else ""
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
