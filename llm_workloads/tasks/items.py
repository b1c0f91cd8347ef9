"""The items of a task, and reading them, one a line, with errors that name the line."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pim.llm_workloads.errors import WorkloadError

Item = TypeVar("Item")
Some = TypeVar("Some", bound="Items[Any]")


@dataclass(frozen=True)
class Items(Generic[Item]):
    """What a task asks.

    Attributes:
        file: name of the file that it comes from.
        sha256: of that file.
        items: one for each question.
    """

    file: str
    sha256: str
    items: tuple[Item, ...]

    @property
    def count(self) -> int:
        """Number of items."""
        return len(self.items)

    def part(self: Some, some: slice) -> Some:
        """Some of the items."""
        return replace(self, items=self.items[some])


def read_text(path: Path | str) -> tuple[str, str]:
    """The text of a UTF-8 file and its SHA-256.

    Raises:
        WorkloadError: it is not UTF-8.
        OSError: it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode(), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def json_lines(path: Path | str) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """The objects of a file with one a line, each with its place (file and line) for errors, and the file's SHA-256.

    Blank lines are left out.

    Raises:
        WorkloadError: a line that is no JSON object, or no line at all.
    """
    text, sha256 = read_text(path)
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            found.append((where, _object(line, where)))
    if not found:
        raise WorkloadError(f"{path}: there is no item in it")
    return found, sha256


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{where}: invalid JSON ({str(error) or 'nested too deep'})") from None
    if not isinstance(item, dict):
        raise WorkloadError(f"{where}: expected a JSON object, found {type(item).__name__}")
    return item


def text_of(item: Mapping[str, Any], key: str, where: str) -> str:
    """A value that must be text and not blank."""
    if key not in item:
        raise WorkloadError(f"{where}: {key!r} is missing")
    value = item[key]
    if not isinstance(value, str) or not value.strip():
        raise WorkloadError(f"{where}: {key!r} must be text that is not blank, not {value!r}")
    return value


def csv_rows(path: Path | str, columns: int) -> tuple[list[tuple[str, list[str]]], str]:
    """The rows of a comma-separated file, each with its place for errors, and the file's SHA-256.

    Raises:
        WorkloadError: a row of another number of columns, a quotation that does not end, or no row at all.
    """
    text, sha256 = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if len(row) not in (0, columns):
                raise WorkloadError(f"{where}: {len(row)} columns, but {columns} are expected")
            found += [(where, row)] if row else []
    except csv.Error as error:
        raise WorkloadError(f"{path}, line {reader.line_num}: invalid CSV ({error})") from None
    if not found:
        raise WorkloadError(f"{path}: there is no item in it")
    return found, sha256
