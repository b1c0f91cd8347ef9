"""Values of a device file: each with its unit, source, grade and a note."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

SOURCE = "measured"
"""Name of the source of every fitted value."""


@dataclass(frozen=True)
class Figure:
    """One value of a device file."""

    value: Any
    unit: str = "1"
    note: str = ""
    grade: str = "measured"

    def __str__(self) -> str:
        note = f", note = {quoted(self.note)}" if self.note else ""
        head = f'value = {_number(self.value)}, unit = "{self.unit}"'
        return f'{{{head}, source = "{SOURCE}", grade = "{self.grade}"{note}}}'


Part = dict[str, Any]
"""A part of a device: its type, figures, and parts of its own."""


def _number(value: Any) -> str:
    """A number or nested lists of them, with the digits of float32."""
    if np.ndim(value):
        return "[" + ", ".join(_number(item) for item in value) + "]"
    return f"{float(value):.7g}"


def quoted(text: str) -> str:
    """A text as TOML and JSON write it."""
    return json.dumps(text, ensure_ascii=False)
