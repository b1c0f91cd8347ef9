"""The rows of a validation as a table for a terminal."""

from collections.abc import Sequence
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from pim.silicon.headline import headline_scale

if TYPE_CHECKING:
    from pim.silicon.uncalibrated import UncalibratedRow
    from pim.silicon.validation import ValidationRow

WIDTH = 118
"""Columns of a terminal."""
HEADS = ("published", "ours", "", "ratio", "tolerance", "")
INDENT = 4


def figure_cells(row: "ValidationRow", digits: int = 4) -> tuple[str, str, str, str, str]:
    """Published, ours, their unit, the ratio (of shares the difference, in points), and the tolerance."""
    share = row.figure.startswith("share.")
    relative = row.unit == "1" and not share
    scale, unit = (1.0, "") if relative else headline_scale(row.figure, row.published)
    known = not np.isnan(row.ours)
    ratio = f"{100 * (row.ours - row.published):+z.1f} pt" if share else f"{row.ratio:.2f}"
    return (
        _digits(row.published / scale, digits),
        _digits(row.ours / scale, digits),
        unit,
        ratio if known else "unknown",
        f"{100 * row.tolerance:.3g} {'pt' if share else '%'}",
    )


def _digits(value: float, digits: int) -> str:
    """In plain notation, with that many digits that say something."""
    if np.isnan(value):
        return "unknown"
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")


def verdict(row: "ValidationRow") -> str:
    """What became of a row, in a word or two."""
    if row.status == "predicted":
        return "within" if row.within else "MISSED"
    return row.status if row.within else f"{row.status}, off"


def validation_table(rows: Sequence["ValidationRow"]) -> list[str]:
    """Lines of a table, chip by chip, with what a missed figure is missed for."""
    if not rows:
        return ["no published figures"]
    order = list(dict.fromkeys(map(_where, rows)))
    rows = sorted(rows, key=lambda row: ([at[0] for at in order].index(row.chip), order.index(_where(row))))
    cells = [(row.name, *figure_cells(row), verdict(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(("", *HEADS), *cells, strict=True)]
    aligned = ("<", ">", ">", "<", ">", ">", "<")
    form = lambda line: "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, aligned, widths, strict=True)).rstrip()
    lines = [" " * INDENT + form(("", *HEADS))]
    for (chip, device), group in groupby(zip(rows, cells, strict=True), key=lambda pair: _where(pair[0])):
        lines += ["", chip if chip == device else f"{chip} ({device})"]
        for row, line in group:
            lines.append(" " * INDENT + form(line))
            told = f"why: {row.why}" if row.why and not row.within else ""
            lines += wrap(told, WIDTH, initial_indent=" " * 2 * INDENT, subsequent_indent=" " * 2 * INDENT)
    return lines


def _where(row: "ValidationRow") -> tuple[str, str]:
    return row.chip, row.device


def uncalibrated_table(rows: Sequence["UncalibratedRow"]) -> list[str]:
    """Lines of a table of generic macros: efficiencies, and energies as a ratio."""
    head = ("", "measured", "ours", "TOPS/W, energy", "")
    cells = [
        (
            row.macro.chip,
            _digits(row.macro.efficiency * 1e-12, 3),
            _digits(row.efficiency * 1e-12, 3),
            f"{row.energy_ratio:.2f}",
            ("within" if row.within else "MISSED") + ("" if row.macro.confidence == "high" else ", data uncertain"),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    form = lambda line: "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, "<>>><", widths, strict=True)).rstrip()
    lines = ["generic macros, nothing fitted", " " * INDENT + form(head)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(" " * INDENT + form(line))
        told = f"why: {row.macro.why}" if row.macro.why and not row.within else ""
        lines += wrap(told, WIDTH, initial_indent=" " * 2 * INDENT, subsequent_indent=" " * 2 * INDENT)
    return lines
