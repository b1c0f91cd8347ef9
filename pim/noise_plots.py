"""Figures of the noise of products by its sources."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pim.figure_style import COLOURS, GREY, INK, LIGHT, blank_figure
from pim.model_snr import ModelSnr

NAMED = "adc", "write", "quantisation", "read", "wires", "nonlinearity", "faults"
COLOUR: dict[str, str] = dict(zip(NAMED, COLOURS, strict=True))
"""A source has the same colour in every figure; what has none is grey."""


def noise_by_layer(found: ModelSnr) -> Figure:
    """Noise over signal of each matrix, stacked by source, a panel an operator and a bar a layer.

    The heights are linear, as contributions add up; the right-hand scale tells the SNR of a whole bar in dB.
    """
    operators = found.operators
    layers = sorted({matrix.layer for matrix in found.matrices})
    data = found.to_dataset()
    figure, row = blank_figure(1.6 + 0.42 * len(operators) + 0.14 * len(found.matrices), 3.4, panels=len(operators))
    top = 1.08 * float(data["noise"].sum("source").max())
    counts = [sum(m.operator == operator for m in found.matrices) for operator in operators]
    grid = row[0].get_gridspec()
    assert grid is not None
    grid.set_width_ratios([0.8 + 0.35 * count for count in counts])
    for axes, operator in zip(row, operators, strict=True):
        of = data.isel(matrix=np.flatnonzero(data["operator"].values == operator))
        at, below = np.arange(of.sizes["matrix"]), np.zeros(of.sizes["matrix"])
        for name in found.sources:
            height = of["noise"].sel(source=name).values
            axes.bar(at, height, bottom=below, width=0.8, color=COLOUR.get(name, GREY), label=name)
            below = below + height
        axes.set_ylim(0, top)
        axes.set_xlim(-0.7, len(at) - 0.3)
        step = -(-len(at) // 8)
        names = [""] if operator == "head" else [str(layer) for layer in of["layer"].values]
        axes.set_xticks(at[::step], names[::step])
        axes.set_title(operator.replace("attention.", "").replace("ffn.", ""), fontsize=10, color=INK)
        axes.grid(axis="y", color=LIGHT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        if axes is not row[0]:
            axes.tick_params(axis="y", labelleft=False, length=0)
            axes.spines["left"].set_visible(False)
    row[0].set_ylabel("noise / signal")
    figure.supxlabel("layer" if len(layers) > 1 else "", fontsize=10)
    _decibel_scale(row[-1])
    handles, names = row[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def _decibel_scale(axes: Axes) -> None:
    """SNR on the right, at whole decibels that stand apart."""
    top = axes.get_ylim()[1]
    right = axes.secondary_yaxis("right")
    levels, last = [], np.inf
    for level in range(int(np.ceil(-10 * np.log10(top))), 80):
        height = 10 ** (-level / 10)
        if last - height > 0.09 * top and height > 0.03 * top:
            levels.append(level)
            last = height
    right.set_yticks([10 ** (-level / 10) for level in levels], [str(level) for level in levels])
    right.set_ylabel("SNR of the bar (dB)", fontsize=10)
    right.tick_params(labelsize=9, color=GREY)
    right.spines["right"].set_color(GREY)
