"""The table of a result, for a terminal of 118 columns (a sweep over several fields needs a few more)."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np

from pim.result import Result
from pim.summary import array_energy, deviation, point_to_show, short_names, shown, split
from pim.units import column, significant

WIDTH = 118
"""Columns of a terminal."""
LISTED = 9
"""Rows of a split; what is left is summed up in one more."""


def result_table(result: Result) -> str:
    """Protocol and its notes, a line for each point, and the split of energy, latency and area at one of them."""
    shown_point, name = point_to_show(result)
    return "\n".join(
        [
            *headline(result),
            *wrap(result.protocol["text_protocol"], WIDTH),
            *result.protocol.get("notes", []),
            "",
            *aligned(*point_columns(result)),
            "",
            f"A written token {name}:",
            "",
            *_splits(result, shown_point),
        ]
    )


def headline(result: Result) -> list[str]:
    """What was run and on what, in two lines."""
    p = result.protocol
    chips = f"{p['chips']} chip{'s' if p['chips'] != 1 else ''}"
    time = f", {p['time_s']:g} s after programming" if isinstance(p["time_s"], (int, float)) else ""
    calibration = p.get("calibration")
    ranges = ""
    if calibration and calibration["percentiles"]:
        ranges = f", converter ranges from {calibration['tokens']:,} tokens of other text"
    return [
        f"{p['model']} on {p['system']}: {p['scored_tokens']:,} tokens of {p['documents']} documents, "
        f"context {p['context']}, {chips}, seed {p['seed']}{time}",
        f"digital perplexity {significant(result.digital_perplexity)}{ranges}",
    ]


def point_columns(result: Result) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Headings (name, unit) and rows of the table of points."""
    points = result.points
    names = short_names(list(result.axes))
    arrays = [array_energy(result, point) for point in points]
    columns: list[tuple[str, str, list[str]]] = [
        (*_in_two(names[path]), [shown(point.changes[path]) for point in points]) for path in result.axes
    ]
    columns += [
        ("perplexity", "mean ± std", [_spread(point.perplexity) for point in points]),
        ("worst", "chip", [significant(float(point.perplexity.max())) for point in points]),
        ("loss difference", "nat/tok, 95 % interval", [str(point.difference) for point in points]),
        ("KL", "nat", [f"{point.kl:.4f}" for point in points]),
        ("top-1", "agree", [f"{point.agreement:.1%}" for point in points]),
        _scaled("energy", "tok", [p.cost.energy_per_token for p in points], "J"),
        *([_scaled("arrays", "tok", arrays, "J")] if any(arrays) else []),
        _scaled("prefill", f"{points[0].cost.prompt}", [p.cost.prefill_latency for p in points], "s"),
        _scaled("decode", "tok", [p.cost.decode_latency for p in points], "s"),
        _scaled("area", "", [p.cost.area for p in points], "m^2"),
    ]
    heads = [(name, unit) for name, unit, _ in columns]
    return heads, [list(row) for row in zip(*(cells for _, _, cells in columns), strict=True)]


def _in_two(path: str) -> tuple[str, str]:
    part, _, field = path.rpartition(".")
    return part, field


def _spread(perplexity: Any) -> str:
    mean, std = significant(float(perplexity.mean())), deviation(perplexity)
    if std is None:
        return mean
    decimals = len(mean.partition(".")[2])
    return f"{mean} ± {std:.{decimals}f}" if "e" not in mean else f"{mean} ± {std:.2g}"


def _scaled(name: str, each: str, values: Sequence[float], unit: str) -> tuple[str, str, list[str]]:
    scaled, cells = column(values, unit)
    return name, f"{scaled}/{each}" if each else scaled, cells


def aligned(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of right-aligned columns under two lines of headings and a rule."""
    lines = [[name for name, _ in heads], [unit for _, unit in heads], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return [*text[:2], "-" * len(text[0]), *text[2:]]


def _splits(result: Result, index: int) -> list[str]:
    """By component and by operator, side by side."""
    point = result.points[index]
    left = _split_lines("component", split(point, "component"), with_area=True)
    right = _split_lines("operator", split(point, "operator"), with_area=False)
    height, width = max(len(left), len(right)), max(map(len, left))
    pad = lambda lines: [*lines, *[""] * (height - len(lines))]
    return [f"{a:<{width}}    {b}".rstrip() for a, b in zip(pad(left), pad(right), strict=True)]


def shorten(rows: Sequence[dict[str, Any]], count: int = LISTED) -> list[dict[str, Any]]:
    """The first rows, and one that sums what is left."""
    if len(rows) <= count + 1:
        return list(rows)
    rest = {name: sum(row[name] for row in rows[count:]) for name in ("energy", "latency", "area")}
    return [*rows[:count], {"name": f"{len(rows) - count} others", **rest}]


def split_columns(rows: Sequence[dict[str, Any]], with_area: bool = True) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a split: name, energy, its share, latency and, if asked for, area."""
    total = sum(row["energy"] for row in rows)
    shares = ["unknown" if np.isnan(total) else f"{row['energy'] / total:.1%}" if total else "0.0%" for row in rows]
    figures = {"energy": "J", "latency": "s"} | ({"area": "m^2"} if with_area else {})
    scaled = {name: column([row[name] for row in rows], unit) for name, unit in figures.items()}
    heads = [f"{name}, {unit}" for name, (unit, _) in scaled.items()]
    cells = [cells for _, cells in scaled.values()]
    table = zip([row["name"] for row in rows], cells[0], shares, *cells[1:], strict=True)
    return [heads[0], "share", *heads[1:]], [list(row) for row in table]


def _split_lines(title: str, rows: Sequence[dict[str, Any]], with_area: bool) -> list[str]:
    heads, cells = split_columns(shorten(rows), with_area)
    lines = [[title, *heads], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return [text[0], "-" * len(text[0]), *text[1:]]
