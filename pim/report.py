"""The files of a result: the arrays for analysis, the figures for programs, a page for people."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from pim.describe import field_rows, printed
from pim.devices.device import GRADES, Device
from pim.files import OutputFolder
from pim.model_snr import ModelSnr
from pim.page import bullets, cells, figure, page_of, section, table
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

NOISE = (
    "Noise over signal of each matrix on an analog device, by layer and source: what each source adds when it is put "
    "in after those before it, of the first chip, each matrix with the inputs that it has in the exact model."
)


def write_report(result: Result, folder: Path, noise: ModelSnr | None = None) -> list[Path]:
    """Write result.nc (xarray, netCDF), result.json and report.html, all or none; returns their paths.

    With the `noise` of the result (`Result.snr`) the page shows it, and noise.nc holds it.

    Raises:
        StudyError: not enough disk, no permission, or something in the way.
        OSError: a file cannot be written.

    >>> write_report(result, Path("out"))
    """
    files = {
        "result.nc": netcdf(result.to_dataset()),
        "result.json": json.dumps(summary(result), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "report.html": page(result, noise),
        **({} if noise is None else {"noise.nc": netcdf(noise.to_dataset())}),
    }
    return OutputFolder(Path(folder)).write(files)


def netcdf(data: xr.Dataset) -> bytes:
    """The dataset as a netCDF file; values of an axis that are neither numbers nor text go in as text."""
    mixed = {name: axis.astype(str) for name, axis in data.coords.items() if axis.dtype == object}
    return bytes(data.assign_coords(mixed).to_netcdf(engine="scipy"))


def page(result: Result, noise: ModelSnr | None = None) -> str:
    """The report as one page of HTML that needs nothing from elsewhere; with the `noise` of each matrix, if given."""
    first, *lines = headline(result)
    index, at = point_to_show(result)
    point = result.points[index]
    parts = [
        f"<h1>{escape(first.partition(':')[0])}</h1>",
        *(f'<p class="lead">{escape(line)}</p>' for line in [first.partition(": ")[2], *lines]),
        section("Results", _point_table(result, index)),
        *(figure(title, draw(result), caption) for title, (draw, caption) in FIGURES.items()),
        *([] if noise is None else [figure("Noise of each product", noise.plot(), NOISE)]),
        section(f"A written token {at}", f'<div class="pair">{_split_table("component", split(point, "component"))}'
                 f'{_split_table("operator", split(point, "operator"))}</div>'),
        section("Assumptions and what is left out", bullets(notes(result))),
        section("Protocol", table(("", ""), _flat(result.protocol), "text")),
        section("Sources", _sources(result)),
        section("Every value of the devices", "".join(_values(name, d) for name, d in _devices(result))),
    ]  # fmt: skip
    return page_of(f"{result.protocol['model']} on {result.protocol['system']}", parts)


def _point_table(result: Result, shown: int) -> str:
    heads, rows = point_columns(result)
    top = "".join(f"<th>{escape(name)}<small>{escape(unit)}</small></th>" for name, unit in heads)
    body = "".join(
        f"<tr{' class=shown' if i == shown and len(rows) > 1 else ''}>{cells(row)}</tr>" for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _split_table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    heads, body = split_columns(rows)
    return table((title, *heads), body)


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
            rows.append(f"<tr>{cells([name])}<td>{escape(source.citation)}{link}</td>{cells([counts])}</tr>")
    meaning = "; ".join(f"{grade}: {text}" for grade, text in GRADES.items())
    head = "<tr><th>device</th><th>source</th><th>values by grade</th></tr>"
    return f'<table class="text">{head}{"".join(rows)}</table><p class="lead">{escape(meaning)}.</p>'


def _values(name: str, device: Device) -> str:
    heads = ("field", "value", "unit", "grade", "source", "note")
    rows = [[printed(row[head]) if head == "value" else row[head] for head in heads] for row in field_rows(device)]
    title = f"{name}: {device.name}, {device.summary}"
    return f"<details><summary>{escape(title)}</summary>{table(heads, rows, 'text')}</details>"
