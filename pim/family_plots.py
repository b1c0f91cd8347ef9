"""Pictures of devices without analog cells: what a product spends, what a format loses, and a roofline."""

from collections.abc import Sequence
from textwrap import wrap

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pim.costs import near_dram_cost
from pim.costs.digital_macro_cost import matrix_cost
from pim.costs.ledger import quantity
from pim.devices.arithmetic import FloatArithmetic
from pim.devices.bit_errors import BitErrorTable
from pim.devices.digital_macro import DigitalMacro
from pim.devices.near_dram import NearDram
from pim.devices.roofline import Roofline
from pim.devices.rounding_error import relative_error
from pim.figure_style import COLOURS, GREY, INK, LIGHT, PLAIN, blank_figure, legend
from pim.units import common_scale

LENGTHS = (64, 256, 1024, 4096, 16384)
SHAPE = (4096, 4096)
"""The product whose time and energy is drawn of a near-DRAM device."""
BARS = 6
"""Components for which a panel has room at least."""


def digital_macro_figure(macro: DigitalMacro) -> Figure:
    """Energy of a multiply-accumulate by component and, where there is a table of it, bit error rate against supply."""
    if macro.bit_errors is None:
        figure, (split,) = blank_figure(5.2, 3.4)
    else:
        figure, (split, errors) = blank_figure(9.0, 3.4, panels=2)
        _draw_errors(errors, macro.bit_errors, float(macro.vdd))
    _draw_split(split, macro)
    return figure


def near_dram_figure(device: NearDram) -> Figure:
    """Three panels: time and energy of one product by component, and error of a product against the length of its sums.

    What is not known of the energy is named instead of drawn.
    """
    figure, (time, energy, errors) = blank_figure(11.6, 3.6, panels=3)
    ledger = near_dram_cost.matrix_cost(device, *SHAPE).by_component()
    for axes, name, unit in ((time, "latency", "s"), (energy, "energy", "J")):
        _draw_bars(axes, name, ledger.components, np.asarray(getattr(ledger, name), np.float64), unit)
    _draw_rounding(errors, device)
    return figure


def roofline_figure(roofline: Roofline) -> Figure:
    """One panel: operations a second against operations a byte, as published and as reached, with the ridge."""
    figure, (axes,) = blank_figure(5.2, 3.6)
    ridge = float(roofline.ridge)
    intensity = np.geomspace(0.25, 16 * ridge, 200)
    peak, bandwidth = float(roofline.operations_per_second), float(roofline.bytes_per_second)
    rate, reached = float(roofline.rate), float(roofline.bandwidth)
    if (peak, bandwidth) != (rate, reached):
        axes.plot(intensity, np.minimum(peak, bandwidth * intensity) / 1e12, color=GREY, label="published peaks")
    axes.plot(intensity, np.minimum(rate, reached * intensity) / 1e12, color=COLOURS[0], label="reached")
    axes.plot([ridge], [rate / 1e12], "o", color=COLOURS[0])
    axes.annotate(
        f"ridge: {ridge:.0f} a byte", (ridge, rate / 1e12), xytext=(0, -14), textcoords="offset points",
        ha="left", va="top", color=INK, fontsize=9,
    )  # fmt: skip
    decode = 2.0 / float(roofline.bytes_of("weight"))  # a multiply-accumulate for each weight that is read
    axes.axvline(decode, color=COLOURS[1], linestyle=(0, (5, 3)), label="one token at a time")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="operations a byte moved", ylabel="operations a second (10$^{12}$)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PLAIN)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _draw_split(axes: Axes, macro: DigitalMacro) -> None:
    """A whole array, one input vector."""
    rows = macro.rows * macro.row_groups
    ledger = matrix_cost(macro, rows, macro.outputs).by_component()
    energy = 1e15 * np.asarray(ledger.energy, np.float64) / (rows * macro.outputs)
    order = [i for i in np.argsort(-energy, kind="stable") if energy[i] > 0]
    at = np.arange(len(order))
    axes.barh(at, energy[order], color=COLOURS[0], height=0.7)
    axes.set_yticks(at, [ledger.components[i].replace("_", " ") for i in order])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("energy of a multiply-accumulate (fJ)")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_title(f"{energy.sum():.3g} fJ in all, at {float(macro.vdd):g} V", fontsize=9, loc="left", color=INK)


def _draw_bars(axes: Axes, figure: str, components: Sequence[str], values: np.ndarray, unit: str) -> None:
    """A bar for each component that takes something, the largest on top; the title says the sum and what is unknown."""
    product = " × ".join(map(str, SHAPE))
    unknown = [name for name, value in zip(components, values, strict=True) if np.isnan(value)]
    known = np.nan_to_num(values)
    order = [int(i) for i in np.argsort(-known, kind="stable") if known[i] != 0]
    if not order:
        axes.set_axis_off()
        text = f"the {figure} of a product\nis not known"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    scale, name = common_scale(values[order], unit)
    at, drawn = np.arange(len(order)), values[order] / scale
    axes.barh(at, drawn, color=COLOURS[0], height=0.7)
    for height, value, share in zip(at, drawn, drawn / drawn.sum(), strict=True):
        axes.annotate(
            f"{share:.1%}" if abs(share) >= 5e-4 else "< 0.1%", (max(value, 0.0), height), xytext=(3, 0),
            textcoords="offset points", va="center", color=INK, fontsize=8,
        )  # fmt: skip
    axes.set_yticks(at, [components[i].replace("_", " ") for i in order])
    axes.set_ylim(max(len(order), BARS) - 0.5, -0.5)
    axes.set_xlim(min(0.0, 1.05 * drawn.min()), 1.2 * drawn.max())
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{figure} ({name})")
    axes.xaxis.set_major_formatter(PLAIN)
    told = f"{product}: {quantity(known.sum(), unit)}{' and unknown: ' if unknown else ''}{', '.join(unknown)}"
    axes.set_title("\n".join(wrap(told, 48)), fontsize=9, loc="left", color=INK)


def _draw_rounding(axes: Axes, device: NearDram) -> None:
    """Relative error of a product against the length of its sums, and that of its operands alone."""
    arithmetic = device.arithmetic
    lines = {"this device": arithmetic}
    if isinstance(arithmetic, FloatArithmetic) and not arithmetic.plain:
        lines["the same operands, sums in FP32"] = FloatArithmetic(arithmetic.operand, result=arithmetic.result)
    errors = {name: [100 * relative_error(each, length) for length in LENGTHS] for name, each in lines.items()}
    for colour, (name, line) in zip(COLOURS, errors.items(), strict=False):
        axes.plot(LENGTHS, line, "o-", ms=4, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.12 * max(map(max, errors.values())))
    axes.set(xlabel="products in a sum", ylabel="relative error (%)")
    axes.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS])
    axes.yaxis.set_major_formatter(PLAIN)
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    legend(axes)


def _draw_errors(axes: Axes, table: BitErrorTable, vdd: float) -> None:
    axes.set(xlabel="supply (V)", ylabel="share of cells that fail")
    voltages = np.asarray(table.voltages, np.float64)
    axes.plot(voltages, np.asarray(table.rates), "o-", ms=4, color=COLOURS[0])
    axes.plot([vdd], [float(table.rate(jnp.asarray(vdd, jnp.float32)))], "o", color=COLOURS[1])
    axes.axvline(vdd, color=COLOURS[1], linestyle=(0, (5, 3)))
    axes.set_title(f"this device at {vdd:g} V", fontsize=9, loc="left", color=INK)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
