"""Model against measured, as a figure: on the diagonal they agree, in the shaded band within a factor of two."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox, BboxBase

from pim.figure_style import COLOURS, GREY, INK, LIGHT, PLAIN, STROKE, blank_figure, svg
from pim.silicon.validation import STATUSES, Validation

Row = tuple[str, float, float, str]
"""A label, the measured figure, ours, and the group whose colour it has. Points of one label are joined."""

PER_WATT = "TOPS/W"


def efficiency_rows(found: Validation) -> list[Row]:
    """Operations a joule, in TOPS/W, of every row that tells them, or the energy of a multiply-accumulate."""
    rows = []
    for row in found.rows:
        if row.figure == "efficiency" and row.unit == "1/J":
            rows.append((row.chip, 1e-12 * row.published, 1e-12 * row.ours, row.status))
        elif row.figure == "energy_per_mac" and row.unit == "J":
            rows.append((row.chip, 2e-12 / row.published, 2e-12 / row.ours, row.status))
    return rows


def scatter(rows: Iterable[Row], path: Path | None = None, *, what: str = PER_WATT) -> Figure:
    """Ours against measured on logarithmic axes, a colour for each group; written to `path` as SVG if one is given.

    What our model does not know (NaN) is left out.

    >>> scatter([("Tu 2022", 36.6, 24.7, "predicted")], Path("validation.svg"))
    """
    rows = [row for row in rows if np.isfinite(row[2])]
    figure, (axes,) = blank_figure(6.8, 6.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = _limits(rows)
    diagonal = np.array([low, high])
    axes.fill_between(diagonal, diagonal / 2, diagonal * 2, color=LIGHT, linewidth=0, zorder=1)
    axes.plot(diagonal, diagonal, color=GREY, linewidth=1, zorder=2)
    for label in dict.fromkeys(row[0] for row in rows):
        line = sorted((measured, ours) for name, measured, ours, _ in rows if name == label)
        axes.plot(*zip(*line, strict=True), color=GREY, linewidth=0.7, zorder=3)
    groups = sorted({row[3] for row in rows}, key=lambda group: (group not in STATUSES, group != STATUSES[0], group))
    for label, measured, ours, group in rows:
        (point,) = axes.plot(measured, ours, "o", color=COLOURS[groups.index(group) % len(COLOURS)], **STROKE)
        point.set_gid(point_id(label, measured, ours))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter(PLAIN)
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"measured ({what})", ylabel=f"ours ({what})")
    axes.set_aspect("equal")
    handles = [Line2D([], [], marker="o", linestyle="", color=c) for c, _ in zip(COLOURS, groups, strict=False)]
    axes.legend(handles, groups, frameon=False, fontsize=9, loc="upper left")
    _label(figure, axes, rows)
    if path is not None:
        path.write_bytes(svg(figure))
    return figure


def point_id(label: str, measured: float, ours: float) -> str:
    """The name of a point in the SVG: it tells with which figures it was drawn."""
    return f"{label}: {measured:.3g}, {ours:.3g}".replace("&", "and").replace("<", "below")


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    values = [value for row in rows for value in row[1:3]]
    return min(values, default=1.0) / 2.5, max(values, default=1.0) * 2.5


def _label(figure: Figure, axes: Axes, rows: Sequence[Row]) -> None:
    """Each label once, beside the first of its points where there is room: no other label and no point in the way."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    points = axes.transData.transform([row[1:3] for row in rows]) if rows else np.zeros((0, 2))
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    for label in dict.fromkeys(row[0] for row in rows):
        text = axes.annotate(label, (1, 1), xytext=(0, 0), textcoords="offset points", color=INK, fontsize=8, zorder=5)
        spots = [(i, spot) for spot in SPOTS for i, row in enumerate(rows) if row[0] == label]
        overlaps = []
        for i, spot in spots:
            _place(text, rows[i], spot)
            box = text.get_window_extent(canvas.get_renderer())
            overlaps.append(sum(box.overlaps(other) for other in taken) + (not _inside(box, axes.bbox)))
            if not overlaps[-1]:
                break
        best = int(np.argmin(overlaps))
        _place(text, rows[spots[best][0]], spots[best][1])
        taken.append(text.get_window_extent(canvas.get_renderer()))


def _place(text, row: Row, spot: tuple[float, float]) -> None:
    x, y = spot
    text.xy = row[1:3]
    text.set_position(spot)
    text.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
    text.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")


def _inside(box: BboxBase, outer: BboxBase) -> bool:
    return bool(outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1)


SPOTS = [(x * d, y * d) for d, x, y in product((6, 11, 18, 28), (1, -1, 0), (0, 1, -1)) if (x, y) != (0, 0)]
"""Where a label may stand, in points from what it names; the first that is free is taken."""
