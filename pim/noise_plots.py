"""Figures of the noise of products by its sources."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pim.figure_style import COLOURS, GREY, INK, LIGHT, STROKE, blank_figure
from pim.layer_noise import LayerSnr
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


def snr_by_width(found: LayerSnr) -> Figure:
    """SNR against the number of inputs: a line a source and one of all noise, a band of one deviation over chips."""
    figure, (axes,) = blank_figure(5.6, 3.8)
    data = found.to_dataset()
    n_in = data["n_in"].values
    order = np.argsort(n_in)
    lines = {name: data["snr"].sel(source=name).values for name in found.sources} | {"all": data["total_snr"].values}
    for name, each in lines.items():
        colour = INK if name == "all" else COLOUR.get(name, GREY)
        mean, std = each.mean(axis=1), each.std(axis=1, ddof=min(1, each.shape[1] - 1))
        axes.plot(n_in[order], mean[order], "-o", color=colour, label=name, **STROKE)
        axes.fill_between(n_in[order], (mean - std)[order], (mean + std)[order], color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(n_in[order], [f"{count:,}" for count in n_in[order]])
    axes.minorticks_off()
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set(xlabel="inputs of the matrix", ylabel="SNR (dB)")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    return figure
