"""The files of a result: the arrays for analysis, the figures for programs, a page for people."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from pim.describe import field_rows, printed
from pim.devices.device import GRADES, Device
from pim.figure_style import svg
from pim.files import OutputFolder
from pim.plots import accuracy_against_energy, energy_split, loss_difference
from pim.result import Result
from pim.summary import notes, point_to_show, split, summary
from pim.table import headline, point_columns, split_columns

FIGURES: Mapping[str, tuple[Callable[[Result], Figure], str]] = {
    "Accuracy against energy": (
        accuracy_against_energy,
        "Perplexity on the same tokens and chips at every point: mean over chips, a band of one standard deviation, "
        "and each chip. The dashed line is the exact digital model.",
    ),
    "Loss beyond the digital model": (
        loss_difference,
        "Extra loss a token, paired by token with the digital model: 95 % bootstrap interval over documents and chips, "
        "and each chip beside it.",
    ),
    "Where the energy goes": (energy_split, "Energy of a written token by component, and by operator."),
}

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2.5rem auto; max-width: 62rem;
  padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.1rem; margin-top: 2.4rem; }
p.lead { margin: 0.1rem 0; color: #555; } figure { margin: 1rem 0 0; } figcaption { color: #555; max-width: 46rem; }
img { max-width: 100%; height: auto; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem 0.25rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; border-bottom: 1px solid #999; } th small { display: block; font-weight: 400; color: #555; }
td { border-bottom: 1px solid #eee; }
table.text th, table.text td { text-align: left; white-space: normal; }
table.text td + td { overflow-wrap: anywhere; } table.text td:first-child { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.shown td { background: #f2f6fa; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
details { margin: 0.6rem 0; } summary { cursor: pointer; } a { color: #0b5cad; }
""".strip()


def write_report(result: Result, folder: Path) -> list[Path]:
    """Write result.nc (xarray, netCDF), result.json and report.html, all or none; returns their paths.

    Raises:
        StudyError: not enough disk, no permission, or something in the way.
        OSError: a file cannot be written.

    >>> write_report(result, Path("out"))
    """
    files = {
        "result.nc": netcdf(result.to_dataset()),
        "result.json": json.dumps(summary(result), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "report.html": page(result),
    }
    return OutputFolder(Path(folder)).write(files)


def netcdf(data: xr.Dataset) -> bytes:
    """The dataset as a netCDF file; values of an axis that are neither numbers nor text go in as text."""
    mixed = {name: axis.astype(str) for name, axis in data.coords.items() if axis.dtype == object}
    return bytes(data.assign_coords(mixed).to_netcdf(engine="scipy"))


def page(result: Result) -> str:
    """The report as one page of HTML that needs nothing from elsewhere."""
    first, *lines = headline(result)
    index, at = point_to_show(result)
    point = result.points[index]
    parts = [
        f"<h1>{escape(first.partition(':')[0])}</h1>",
        *(f'<p class="lead">{escape(line)}</p>' for line in [first.partition(": ")[2], *lines]),
        _section("Results", _point_table(result, index)),
        *(_figure(title, draw(result), caption) for title, (draw, caption) in FIGURES.items()),
        _section(f"A written token {at}", f'<div class="pair">{_split_table("component", split(point, "component"))}'
                 f'{_split_table("operator", split(point, "operator"))}</div>'),
        _section("Assumptions and what is left out", _list(notes(result))),
        _section("Protocol", _table(("", ""), _flat(result.protocol), "text")),
        _section("Sources", _sources(result)),
        _section("Every value of the devices", "".join(_values(name, d) for name, d in _devices(result))),
    ]  # fmt: skip
    title = f"{result.protocol['model']} on {result.protocol['system']}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>\n{STYLE}\n</style></head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _figure(title: str, figure: Figure, caption: str) -> str:
    image = b64encode(svg(figure)).decode()
    return _section(
        title,
        f'<figure><img alt="{escape(title)}" src="data:image/svg+xml;base64,{image}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>",
    )


def _point_table(result: Result, shown: int) -> str:
    heads, rows = point_columns(result)
    top = "".join(f"<th>{escape(name)}<small>{escape(unit)}</small></th>" for name, unit in heads)
    body = "".join(
        f"<tr{' class=shown' if i == shown and len(rows) > 1 else ''}>{_cells(row)}</tr>" for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _split_table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    heads, cells = split_columns(rows)
    return _table((title, *heads), cells)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads) if any(heads) else ""
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{top}</tr>{body}</table>'


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested values as (dotted name, text)."""
    rows = []
    for name, value in values.items():
        here = f"{above}{name}"
        rows += _flat(value, f"{here}.") if isinstance(value, Mapping) else [(here, _text(value))]
    return rows


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "; ".join(" → ".join(map(str, item)) if isinstance(item, (list, tuple)) else str(item) for item in value)
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _devices(result: Result) -> Iterable[tuple[str, Device]]:
    return result.plan.system.devices.items()


def _sources(result: Result) -> str:
    """The sources of each device with what they give and how well that is known."""
    rows = []
    for name, device in _devices(result):
        for key, source in device.citations().items():
            grades = [p.grade for p in device.provenance.values() if p.source == key]
            counts = ", ".join(f"{grades.count(grade)} {grade}" for grade in GRADES if grade in grades)
            link = f' <a href="{escape(source.url)}">{escape(source.url)}</a>' if source.url else ""
            rows.append(f"<tr>{_cells([name])}<td>{escape(source.citation)}{link}</td>{_cells([counts])}</tr>")
    meaning = "; ".join(f"{grade}: {text}" for grade, text in GRADES.items())
    head = "<tr><th>device</th><th>source</th><th>values by grade</th></tr>"
    return f'<table class="text">{head}{"".join(rows)}</table><p class="lead">{escape(meaning)}.</p>'


def _values(name: str, device: Device) -> str:
    heads = ("field", "value", "unit", "grade", "source", "note")
    rows = [[printed(row[head]) if head == "value" else row[head] for head in heads] for row in field_rows(device)]
    title = f"{name}: {device.name}, {device.summary}"
    return f"<details><summary>{escape(title)}</summary>{_table(heads, rows, 'text')}</details>"
