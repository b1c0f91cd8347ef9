"""The table of measurements: one row a pulse or reading, SI units, checked as it comes in.

The columns are those of `pim.devices.fitting.columns`. The header is required and may leave columns out; other columns
are kept as they are. `op` is form, set, reset, prog (a pulse that may go either way) or read. A row of a pulse may
carry the conductance that was read right after it. Where a row has a current and a read voltage but no conductance,
their ratio is taken.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from tqdm import tqdm

from pim.devices.errors import DeviceError
from pim.devices.fitting.columns import COLUMNS, NUMBERS, TEXTS, Values, Where, check_name, check_range, converted
from pim.devices.fitting.groups import compact, fill
from pim.devices.fitting.parquet import read_parquet
from pim.devices.fitting.sidecar import Sidecar, read_sidecar
from pim.devices.fitting.text_rows import Row, read_rows

BLOCK = 4_000
"""Rows that are turned into numbers at a time: their texts take some ten times the memory."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Rows of measurements by column, with the line of the file that each came from.

    Numbers are float64, NaN where missing; texts are empty where missing; `ok` is 1, 0 or NaN.

    >>> table = read_table("cells.csv")
    >>> table["g_S"].max()
    """

    name: str
    columns: Mapping[str, np.ndarray]
    lines: Int[np.ndarray, "rows"]
    cells: Int[np.ndarray, "rows"]
    """The number of each row's cell, from 0: a device of a die or, without a name, a row and column of it."""
    sidecar: Sidecar
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def where(self, rows: Bool[np.ndarray, "rows"] | Int[np.ndarray, "kept"]) -> "Measurements":
        """The table of some of the rows, by mask or index; its cells are numbered anew, in the same order."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            extra={name: values[rows] for name, values in self.extra.items()},
            lines=self.lines[rows],
            cells=compact(self.cells[rows])[0],
        )

    def is_op(self, *ops: str) -> Bool[np.ndarray, "rows"]:
        """Which rows are of these operations."""
        return np.isin(self["op"], ops)


def read_table(path: str | Path, progress: bool = False) -> Measurements:
    """The canonical table of a file, its sidecar beside it: CSV (or with tabs or semicolons), or Parquet by its suffix.

    Lines of a text that begin with # are comments. With `progress` a count of the rows is shown on standard error after
    two seconds.

    Raises:
        DeviceError: the header, a row or a unit is wrong; the message gives the line (in Parquet: the row, from 1).

    >>> read_table("cells.csv")["g_S"]
    """
    file = Path(path)
    if file.suffix.lower() in (".parquet", ".pq"):
        columns = read_parquet(file)
        for name in columns:
            check_name(name, list(columns), file.name)
        return measurements(columns, file.name, None, read_sidecar(file))
    rows = read_rows(file)
    header = next(rows)
    for name in header.cells:
        check_name(name, header.cells, f"{file.name}, line {header.line}")
    _check_columns(header.cells, file.name)
    blocks, lines = [], []
    with tqdm(desc="reading", unit=" rows", disable=not progress, delay=2) as bar:
        while block := list(islice(rows, BLOCK)):
            lines.append(np.array([row.line for row in block], int))
            blocks.append(_columns(block, header.cells, (f"{file.name}, line", lines[-1])))
            bar.update(len(block))
    if not blocks:
        raise DeviceError(f"{file.name}: no rows")
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in header.cells}
    return _checked(columns, file.name, (f"{file.name}, line", np.concatenate(lines)), read_sidecar(file))


def _columns(block: list[Row], names: list[str], where: tuple[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of a block of rows. Raises DeviceError at a row with more or fewer fields than there are names."""
    for row in block:
        if len(row.cells) != len(names):
            raise DeviceError(
                f"{where[0]} {row.line}: {len(row.cells)} fields where the header names {len(names)} columns"
            )
    fields = zip(*(row.cells for row in block), strict=True)
    return {name: converted(name, texts, where) for name, texts in zip(names, fields, strict=True)}


def measurements(
    columns: Mapping[str, Values],
    name: str = "measurements",
    lines: Int[np.ndarray, "rows"] | None = None,
    sidecar: Sidecar | None = None,
) -> Measurements:
    """A checked table from columns of numbers or texts; what is not canonical is kept as extra columns.

    Raises:
        DeviceError: a column is missing, too short or holds what it must not; the message gives the line or, where
            there is none, the place in the column, from 1.

    >>> measurements({"device_id": ["a", "a"], "op": ["set", "read"], "g_S": [4e-5, 3.9e-5]})
    """
    _check_columns(columns, name)
    sizes = {column: len(values) for column, values in columns.items()}
    count = sizes["op"]
    if set(sizes.values()) != {count} or not count:
        raise DeviceError(f"{name}: {'no rows' if not count else f'columns of different lengths: {sizes}'}")
    where = f"{name}, {'row' if lines is None else 'line'}", np.arange(1, count + 1) if lines is None else lines
    found = {column: converted(column, values, where) for column, values in columns.items()}
    return _checked(found, name, where, sidecar or Sidecar())


def _check_columns(columns: Iterable[str], name: str) -> None:
    """Raise DeviceError where a column is missing without which nothing can be said."""
    if "op" not in columns:
        raise DeviceError(f"{name}: the column op is missing; columns are {', '.join(COLUMNS)}")
    if not {"g_S", "i_A"} & set(columns):
        raise DeviceError(f"{name}: there is neither a conductance (g_S) nor a current (i_A)")


def _checked(columns: Mapping[str, np.ndarray], name: str, where: Where, sidecar: Sidecar) -> Measurements:
    """The table of converted columns, the absent ones filled in. Raises DeviceError at a value out of range."""
    clean = {column: _absent(column, len(where[1])) for column in COLUMNS}
    clean |= {column: values for column, values in columns.items() if column in clean}
    extra = {column: values for column, values in columns.items() if column not in clean}
    for column in NUMBERS:
        check_range(column, clean[column], where, sidecar)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = clean["i_A"] / clean["v_read_V"]
    clean["g_S"] = np.where(np.isnan(clean["g_S"]) & np.isfinite(ratio), ratio, clean["g_S"])
    table = Measurements(name, clean, where[1], _cells(clean), sidecar, extra)
    _warn_of_repetition(table, where[0])
    return table


def _absent(column: str, count: int) -> np.ndarray:
    """A column in which everything is missing."""
    return np.full(count, "" if column in TEXTS else np.nan, object if column in TEXTS else float)


def _cells(columns: Mapping[str, np.ndarray]) -> Int[np.ndarray, "rows"]:
    keys: list[tuple] = list(zip(columns["die"], columns["device_id"], strict=True))
    places = zip(fill(columns["row"]).tolist(), fill(columns["col"]).tolist(), strict=True)
    keys = [key if key[1] else (*key, *place) for key, place in zip(keys, places, strict=True)]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    return np.array([number[key] for key in keys], int)


def _warn_of_repetition(table: Measurements, where: str) -> None:
    """Warn if readings with a time say the same as others before them: parts of a file may have been joined twice."""
    rows = np.flatnonzero(np.isfinite(table["t_s"]) & np.isfinite(table["g_S"]) & table.is_op("read"))
    rows = rows[np.lexsort((table["g_S"][rows], table["t_s"][rows], table.cells[rows]))]
    same = np.ones(max(len(rows) - 1, 0), bool)
    for values in (table.cells, *(fill(table[name]) for name in NUMBERS)):
        same &= values[rows[1:]] == values[rows[:-1]]
    if same.any():
        second = rows[1:][same].min()
        first = rows[:-1][same][np.argmin(rows[1:][same])]
        warnings.warn(
            f"{where} {table.lines[second]} repeats the reading of {where.rpartition(' ')[2]} {table.lines[first]}, "
            f"time and all ({same.sum()} such rows); are parts of the table there twice?",
            stacklevel=3,
        )
