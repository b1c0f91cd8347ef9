"""How figures look: sizes of a paper's column, few lines, and colours that everybody can tell apart.

Colours are those of Okabe and Ito (Color universal design, 2008).
"""

from collections.abc import Sequence
from io import BytesIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
INK, GREY, LIGHT = "#222222", "#9A9A9A", "#E6E6E6"
STROKE = {"linewidth": 1.6, "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 1.0, "zorder": 4}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
LOG_FROM = 4.0
"""Ratio of the largest to the smallest figure from which an axis is logarithmic."""


def blank_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure (inches) with its panels side by side, without the right and upper frame."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, panels, squeeze=False)[0]
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=INK, labelsize=9, color=GREY)
        axes.xaxis.label.set_size(10)
        axes.yaxis.label.set_size(10)
    return figure, list(row)


def scale_y(axes: Axes, values: Sequence[float] | np.ndarray) -> None:
    """A logarithmic scale with readable ticks where positive values spread widely, else a linear one."""
    low, high = float(np.min(values)), float(np.max(values))
    if low > 0 and high / low >= LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=_ticks(high / low)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PLAIN)
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)


def _ticks(ratio: float) -> tuple[float, ...]:
    """Labelled ticks of a decade."""
    if ratio < 30:
        return (1, 2, 3, 5)
    return (1, 2, 5) if ratio < 1000 else (1,)


def reference(axes: Axes, height: float, text: str) -> None:
    """A dashed line across, named at its right end."""
    axes.axhline(height, color=INK, linewidth=1, linestyle=(0, (5, 3)), zorder=2)
    axes.annotate(
        text, (1, height), xycoords=("axes fraction", "data"), xytext=(0, -4), textcoords="offset points",
        ha="right", va="top", color=INK, fontsize=9,
    )  # fmt: skip


def legend(axes: Axes) -> None:
    """A legend, if there is more than one line to tell apart."""
    handles, names = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(handles, names, frameon=False, fontsize=9)


def svg(figure: Figure) -> bytes:
    """The figure as SVG, letters as outlines, the same bytes each time."""
    with mpl.rc_context({"svg.hashsalt": "pim", "svg.fonttype": "path"}), BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue()
