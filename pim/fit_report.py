"""The page of a fit: what was measured, each law with its parameters and figures, and the device it makes."""

from collections.abc import Iterable
from html import escape

from pim.describe import field_rows, printed
from pim.devices.device import Device
from pim.devices.fitting.cell_fit import CellFit
from pim.devices.fitting.estimate import LawFit
from pim.fit_plots import law_figure
from pim.page import bullets, page_of, picture, section, table

METHOD = (
    "Bands hold 95 %: the value and Student's t times the standard deviation of a Bayesian bootstrap over cells "
    "(for positive parameters in their logarithm); intervals of shares are those of Clopper and Pearson.",
    "Residuals are normal scores: what a standard normal number would be if the law were true. The grey band of a QQ "
    "plot holds each point with 95 %. Counts, and times that are known to lie between two readings, make steps.",
    "The held-out log-likelihood is that of a datum of cells that were left out of the fit, mean over five folds.",
)


def fit_page(fit: CellFit) -> str:
    """The report as one page of HTML that needs nothing from elsewhere."""
    sidecar = fit.table.sidecar
    about = [text for text in (sidecar.technology, sidecar.selector, sidecar.citation, sidecar.licence) if text]
    cells = int(fit.table.cells.max()) + 1
    parts = [
        f"<h1>{escape(fit.name)}</h1>",
        f'<p class="lead">{len(fit.table)} rows of {cells} cells in {escape(fit.table.name)}</p>',
        *(f'<p class="lead">{escape(line)}</p>' for line in about),
        *(part for name, law in fit.laws.items() for part in _law(name, law)),
        section("Not fitted", table(("", ""), list(fit.absent.items()), "text")) if fit.absent else "",
        section("Method", bullets(METHOD)),
        section("The device", _device(fit.device())),
    ]
    return page_of(f"{fit.name}: fitted laws", parts)


def _law(name: str, law: LawFit) -> Iterable[str]:
    title = name.replace("_", " ").capitalize()
    held = "" if law.held_out is None else f", held-out log-likelihood {law.held_out:.4g} a datum"
    yield section(
        title, f'<p class="lead">{escape(law.law)}</p><p class="lead">{law.cells} cells, {law.data} data{held}</p>'
    )
    drawing = law_figure(law)
    if drawing is not None:
        yield picture(drawing, f"{title}: measured and fitted")
    rows = [
        (u.name, f"{v:.4g}", f"{low:.4g} to {high:.4g}", "" if u.unit == "1" else u.unit, u.doc)
        for u, v, low, high in zip(law.unknowns, law.values, law.low, law.high, strict=True)
    ]
    body = table(("parameter", "value", "95 % band", "unit", "meaning"), rows, "text")
    yield body if len(rows) <= 12 else f"<details><summary>{len(rows)} parameters</summary>{body}</details>"
    if len(law.criteria) > 1:
        chosen = ", ".join(f"{kind} {value - min(law.criteria.values()):.4g}" for kind, value in law.criteria.items())
        yield f'<p class="lead">Criterion above the least: {escape(chosen)}</p>'
    yield bullets(law.notes) if law.notes else ""


def _device(device: Device) -> str:
    heads = ("field", "value", "unit", "grade", "note")
    rows = [
        [printed(row[head]) if head == "value" else row[head] for head in heads]
        for row in field_rows(device)
        if row["field"].startswith("cell.") and row["source"] == "measured"
    ]
    return table(heads, rows, "text")
