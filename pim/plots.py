"""Figures of a result, drawn without pyplot: nothing global is touched, and no display is needed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pim.figure_style import COLOURS, GREY, INK, LIGHT, PLAIN, STROKE, blank_figure, legend, reference, scale_y
from pim.result import Point, Result, combinations
from pim.summary import array_energy, label, point_to_show, short_names, shown
from pim.units import common_scale

OPERATORS = 9
"""Operators with a bar of their own; what is left is one more."""


def accuracy_against_energy(result: Result) -> Figure:
    """Perplexity against the energy of a written token: mean, a band of one standard deviation, and each chip.

    One panel has the energy of the whole system, one that of its arrays, where there are any. The last axis of
    the sweep runs along a line, with its values at the points; other axes give a line each.

    >>> accuracy_against_energy(result).savefig("accuracy.pdf")
    """
    points, exact = result.points, result.digital_perplexity
    panels = {"the whole system": [point.cost.energy_per_token for point in points]}
    arrays = [array_energy(result, point) for point in points]
    if any(arrays):
        panels["its arrays, with converters or adders"] = arrays
    figure, row = blank_figure(1.6 + 4.0 * len(panels), 3.8, panels=len(panels))
    for axes, (title, energy) in zip(row, panels.items(), strict=True):
        scale, unit = common_scale(energy, "J")
        known = not np.isnan(energy).any()
        _draw_accuracy(axes, result, points, np.array(energy) / scale if known else np.arange(1.0, len(points) + 1))
        scale_y(axes, [exact, *np.concatenate([point.perplexity for point in points])])
        reference(axes, exact, f"digital model {exact:.4g}")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel(f"energy of a written token ({unit})" if known else "point (its energy is unknown)")
    row[0].set_ylabel("perplexity")
    legend(row[-1])
    return figure


def _draw_accuracy(axes: Axes, result: Result, points: Sequence[Point], energy: np.ndarray) -> None:
    lines = _lines(result)
    for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
        x, each = energy[line], np.array([points[i].perplexity for i in line])
        mean = each.mean(axis=1)
        _draw_chips(axes, x, each, colour)
        if each.shape[1] > 1:
            std, order = each.std(axis=1, ddof=1), np.argsort(x)
            axes.fill_between(x[order], (mean - std)[order], (mean + std)[order], color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, "-o", color=colour, label=name, **STROKE)
    for i, text in zip(next(iter(lines.values())), _names(result), strict=True):
        at = (energy[i], points[i].perplexity.mean())
        axes.annotate(text, at, xytext=(5, 6), textcoords="offset points", color=INK, fontsize=9)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.margins(x=0.14)


def loss_difference(result: Result) -> Figure:
    """Loss a token beyond the exact model's, by swept value: 95 % interval over documents and chips, and each chip.

    Pairing takes the text's own difficulty off: losses show here that perplexities hide.
    """
    figure, (axes,) = blank_figure(5.6, 3.8)
    points, lines = result.points, _lines(result)
    shift = 0.14 * (np.arange(len(COLOURS)) - (min(len(lines), len(COLOURS)) - 1) / 2)
    for colour, aside, (name, line) in zip(COLOURS, shift, lines.items(), strict=False):
        x, these = np.arange(len(line)) + aside, [points[i] for i in line]
        mean, low, high = np.array([[p.difference.mean, p.difference.low, p.difference.high] for p in these]).T
        _draw_chips(axes, x + 0.06, np.log([p.perplexity / result.digital_perplexity for p in these]), colour)
        axes.errorbar(x, mean, yerr=(mean - low, high - mean), fmt="-o", color=colour, label=name, capsize=3, **STROKE)
    scale_y(axes, [bound for point in points for bound in (point.difference.low, point.difference.high)])
    if axes.get_yscale() == "linear":
        reference(axes, 0.0, "digital model")
    axes.set_xticks(range(len(_along(result))), [shown(value) for value in _along(result)])
    axes.set(xlabel=_along_name(result), ylabel="loss beyond the digital model (nat/token)")
    axes.set_xlim(-0.5, len(_along(result)) - 0.5)
    legend(axes)
    return figure


def energy_split(result: Result) -> Figure:
    """Energy of a written token by component: at each point of the sweep, and for each operator at one of them."""
    data = result.to_dataset()["energy"]
    operators, components = ([str(name) for name in data[axis].values] for axis in ("operator", "component"))
    energy = data.values.reshape(-1, len(operators), len(components))
    index, _ = point_to_show(result)
    energy, components = _largest_first(energy, components, energy[index].sum(axis=0), axis=2, count=len(COLOURS))
    energy, operators = _largest_first(energy, operators, energy[index].sum(axis=1), axis=1, count=OPERATORS)
    figure, (left, right) = blank_figure(9.6, 4.0, panels=2)
    _stack(right, energy[index], operators, components)
    if not result.axes:
        _stack(left, np.diag(energy[0].sum(axis=0)), components, components)
    elif len(result.axes) == 1:
        _stack(left, energy.sum(axis=1), [shown(value) for value in _along(result)], components)
        left.set_ylabel(_along_name(result))
    else:
        _stack(left, energy.sum(axis=1), [label(changes) for changes in combinations(result.axes)], components)
    left.set_title("by component", fontsize=10, loc="left")
    at = label(combinations(result.axes)[index]).replace(", ", ",\n")
    lead = "by operator, at\n" if len(result.axes) > 1 else "by operator, at " if at else "by operator"
    right.set_title(lead + at, fontsize=10, loc="left")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def _lines(result: Result) -> dict[str, list[int]]:
    """Indices of the points along the last axis, a line for each combination of the others."""
    lines: dict[str, list[int]] = {}
    for i, changes in enumerate(combinations(result.axes)):
        others = dict(list(changes.items())[:-1])
        lines.setdefault(label(others), []).append(i)
    return lines


def _along(result: Result) -> Sequence[Any]:
    """Values of the last axis; one blank value where nothing is swept."""
    return list(result.axes.values())[-1] if result.axes else [""]


def _along_name(result: Result) -> str:
    return list(short_names(list(result.axes)).values())[-1] if result.axes else ""


def _names(result: Result) -> list[str]:
    """What stands at the points of a line: the values, the first with the name of their field."""
    first, *rest = _along(result)
    return [f"{_along_name(result)} = {shown(first)}" if result.axes else "", *map(shown, rest)]


def _draw_chips(axes: Axes, x: np.ndarray, each: np.ndarray, colour: str) -> None:
    axes.scatter(np.repeat(x, each.shape[1]), each.ravel(), s=10, color=colour, alpha=0.45, linewidths=0, zorder=3)


def _largest_first(
    table: np.ndarray, names: list[str], size: np.ndarray, axis: int, count: int
) -> tuple[np.ndarray, list[str]]:
    """The table sorted along an axis, what comes after the `count` largest summed into one."""
    order = np.argsort(-size, kind="stable")
    table, names = np.take(table, order, axis), [names[i] for i in order]
    if len(names) <= count:
        return table, names
    head, rest = np.split(table, [count], axis)
    return np.concatenate([head, rest.sum(axis, keepdims=True)], axis), [*names[:count], "others"]


def _stack(axes: Axes, energy: np.ndarray, bars: Sequence[str], components: Sequence[str]) -> None:
    """Horizontal bars [bars, components], the first on top."""
    scale, unit = common_scale(energy.sum(axis=1), "J")
    at = np.arange(len(bars))
    starts = np.cumsum(energy, axis=1) - energy
    for i, (name, colour) in enumerate(zip(components, [*COLOURS, GREY], strict=False)):
        axes.barh(at, energy[:, i] / scale, left=starts[:, i] / scale, color=colour, label=name, height=0.7)
    axes.set_yticks(at, list(bars))
    axes.invert_yaxis()
    axes.set_xlabel(f"energy of a written token ({unit})")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.grid(axis="x", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
