"""Figures of a fit: each law against what was measured, its residuals against the normal distribution."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter
from scipy.stats import norm

from pim.devices.fitting.estimate import LawFit, Picture
from pim.figure_style import COLOURS, GREY, INK, LIGHT, PLAIN, blank_figure, legend

MOST_POINTS = 2000
"""Points of a scatter that are drawn; of more, evenly chosen ones."""
FEW_DECADES = 100.0
"""Ratio of the ends of a logarithmic axis below which its decades alone are too few labels."""


def law_figure(law: LawFit) -> Figure | None:
    """The pictures of a law side by side, the QQ plot of its residuals last; None where there is nothing to draw.

    >>> law_figure(pim.fit("cells.csv")["write_error"]).savefig("write.pdf")
    """
    qq = len(law.scores) >= 3
    count = len(law.pictures) + qq
    if not count:
        return None
    figure, row = blank_figure(0.4 + 3.3 * count, 3.3, panels=count)
    for axes, picture in zip(row, law.pictures, strict=False):
        _draw(axes, picture)
    if qq:
        _draw_scores(row[-1], law.scores)
    return figure


def _draw(axes: Axes, picture: Picture) -> None:
    several = len(picture.points) > 1
    points = {name: (x, y) for name, (x, y) in picture.points.items() if len(x)}
    for colour, (name, (x, y)) in zip(COLOURS, points.items(), strict=False):
        some = slice(None, None, max(1, len(x) // MOST_POINTS))
        size, opacity = (24, 0.9) if len(x) <= 60 else (8, 0.35)
        axes.scatter(x[some], y[some], s=size, color=colour, alpha=opacity, linewidths=0, zorder=3, label=name)
    for colour, (name, (x, y, *band)) in zip(COLOURS, picture.lines.items(), strict=False):
        same = several and name in picture.points
        colour = colour if same or not picture.points else INK
        axes.plot(x, y, color=colour, linewidth=1.6, zorder=4, label="_" if same else name)
        if band:
            axes.fill_between(x, band[0], band[1], color=colour, alpha=0.15, linewidth=0)
    for axis, scale, log in (
        (axes.xaxis, axes.set_xscale, picture.log_x),
        (axes.yaxis, axes.set_yscale, picture.log_y),
    ):
        if log:
            scale("log")
            _label_decades(axis)
    axes.set_title(picture.title, fontsize=10, loc="left")
    axes.set(xlabel=picture.x, ylabel=picture.y)
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    legend(axes)
    box = axes.get_legend()
    for handle in box.legend_handles if box else ():
        if isinstance(handle, PathCollection):  # as strong as what it stands for is together
            handle.set(alpha=1, sizes=[24])


def _label_decades(axis: Axis) -> None:
    """Labels at each decade of a logarithmic axis or, where there are hardly any in sight, between them too."""
    low, high = sorted(axis.get_view_interval())
    if high / low < FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(PLAIN if low >= 1e-3 else LogFormatterSciNotation(labelOnlyBase=False))
    axis.set_minor_formatter(NullFormatter())


def _draw_scores(axes: Axes, scores: np.ndarray) -> None:
    """Sorted scores against the normal quantiles of their places, with the band that 95 % of the points keep within."""
    shares = (np.arange(len(scores)) + 0.5) / len(scores)
    expected = norm.ppf(shares)
    half = 1.96 * np.sqrt(shares * (1 - shares) / len(scores)) / norm.pdf(expected)
    some = np.unique(np.linspace(0, len(scores) - 1, min(len(scores), MOST_POINTS)).astype(int))
    axes.fill_between(expected[some], (expected - half)[some], (expected + half)[some], color=LIGHT, linewidth=0)
    axes.plot(expected[some], expected[some], color=GREY, linewidth=1)
    axes.scatter(expected[some], scores[some], s=8, color=COLOURS[0], linewidths=0, zorder=3)
    axes.set_title("Residuals (QQ)", fontsize=10, loc="left")
    axes.set(xlabel="normal quantile", ylabel="residual, as normal score")
