"""Rows of a text file: what is no comment, cut into fields, with the line that each began in."""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pim.devices.errors import DeviceError
from pim.devices.fitting.columns import numbers


class Row(NamedTuple):
    """The fields of a row, and the line of the file in which it begins."""

    line: int
    cells: list[str]


def read_rows(file: Path) -> Iterator[Row]:
    """The rows of a text file, cut at the tabs, semicolons or commas that its first row has.

    Lines that are blank or begin with # are passed over. A field in quotation marks may hold the separator and ends of
    lines. The file is read as its rows are asked for.

    Raises:
        DeviceError: there is no such file, it is no text, or it is empty.

    >>> list(read_rows(Path("cells.csv")))[0].cells
    ['device_id', 'op', 'g_S']
    """
    if not file.is_file():
        raise DeviceError(f"no file {file}; give the path of a table of measurements")
    begun: list[int] = []  # lines of the row that is being read
    with file.open(encoding="utf-8-sig") as text:

        def kept() -> Iterator[str]:
            for i, line in enumerate(text, 1):
                if line.strip() and not line.startswith("#"):
                    begun.append(i)
                    yield line

        try:
            lines = kept()
            first = next(lines, None)
            if first is None:
                raise DeviceError(f"{file.name} is empty")
            separator = next((mark for mark in "\t;," if mark in first), ",")
            for cells in csv.reader(chain([first], lines), delimiter=separator):
                yield Row(begun[0], [cell.strip() for cell in cells])
                begun.clear()
        except UnicodeDecodeError as error:
            last = begun[-1] if begun else 1
            raise DeviceError(
                f"{file.name}, line {last} or after: no text in UTF-8 ({error.reason}); save it as CSV in UTF-8"
            ) from None
        except csv.Error as error:
            raise DeviceError(f"{file.name}, line {begun[0]}: {error}; is a quotation mark left open?") from None


def numbers_of(rows: Sequence[Row], count: int, file: str) -> np.ndarray:
    """Rows of `count` numbers each [rows, count], empty fields as NaN.

    Raises DeviceError with the line of the first row that is something else.
    """
    for row in rows:
        if len(row.cells) != count:
            raise DeviceError(f"{file}, line {row.line}: {len(row.cells)} fields where there must be {count}")
    where = f"{file}, line", np.array([row.line for row in rows], int)
    columns = [numbers(f"field {i + 1}", [row.cells[i] for row in rows], where) for i in range(count)]
    return np.stack(columns, axis=1)
