"""A picture of a device; of a cell its spread against its state, its course with time, its errors and its current."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pim.devices.cells.cell import Cell
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.random import root_key, site_key
from pim.devices.roofline import Roofline
from pim.family_plots import digital_macro_figure, near_dram_figure, roofline_figure
from pim.figure_style import COLOURS, GREY, INK, PLAIN, blank_figure, legend

CELLS = 4000
STATES = 24
LONGEST = 3.15576e8
"""Ten years: where a law that knows no end is drawn to, in s."""
GONE = 1e-3
"""Share of the conductance below which a course is no longer drawn."""
NOISELESS = 1e-6
"""Spread over the largest conductance that float32 leaves where there is none."""


def device_figure(device: Device) -> Figure:
    """A picture of a device, after its kind; see `family_plots` for those without analog cells.

    Of an analog macro's cell four panels: standard deviation against the state, course with time, normal QQ plot,
    current against voltage. Raises DeviceError for a device of which there is nothing to draw.

    >>> device_figure(pim.preset("rram-techC")).savefig("techC.pdf")
    """
    model = device.model
    if isinstance(model, AnalogMacro):
        figure = _cell_figure(model)
    elif isinstance(model, DigitalMacro):
        figure = digital_macro_figure(model)
    elif isinstance(model, NearDram):
        figure = near_dram_figure(model)
    elif isinstance(model, Roofline):
        figure = roofline_figure(model)
    else:
        raise DeviceError(f"{device.name} has no analog cells, no number format and no roofline to draw")
    lines = wrap(f"{device.name}: {device.summary}", int(12.5 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left", color=INK)
    return figure


def _cell_figure(macro: AnalogMacro) -> Figure:
    cell = macro.cell
    figure, (spread, course, normal, current) = blank_figure(13.5, 3.4, panels=4)
    times = _times(cell)
    _draw_spread(spread, cell, times)
    _draw_course(course, cell)
    _draw_normal(normal, cell, times)
    _draw_current(current, cell, float(macro.v_read))
    return figure


def save_device_figure(device: Device, file: Path) -> Path:
    """The picture in a file; its ending says the format (png, svg, pdf)."""
    figure = device_figure(device)
    known = figure.canvas.get_supported_filetypes()
    if file.suffix[1:] not in known:
        raise DeviceError(f"{file.name}: a picture ends in .png, .svg or .pdf")
    figure.savefig(file, dpi=150)
    return file


def _times(cell: Cell) -> Sequence[float | None]:
    """The times that are drawn as lines: the first and last that were measured and one between, or none."""
    if not cell.ages:
        return [None]
    if cell.relaxation is not None:
        known = np.asarray(cell.relaxation.times, np.float64)
        return [float(known[i]) for i in sorted({0, len(known) // 2, len(known) - 1})]
    last = _end(cell)
    return [1.0, 86400.0, 3.15576e7] if last == LONGEST else [1.0, last]


def _end(cell: Cell) -> float:
    """When a course without measured times ends (s): after ten years, or when nothing is left of the highest state."""
    top = jnp.broadcast_to(cell.g_max, (1,))
    times = np.geomspace(1.0, LONGEST, 100)
    left = [float(np.median(np.asarray(_sample(cell, top, time)))) for time in times[::11]]
    gone = np.flatnonzero(np.array(left) < GONE * float(cell.g_max))
    return float(times[::11][gone[0]]) if gone.size else LONGEST


def _states(cell: Cell) -> Float[Array, "states"]:
    """States that the cell can be told to take."""
    if cell.levels is not None and float(cell.levels) <= STATES:
        return cell.targets(jnp.linspace(0.0, 1.0, int(cell.levels)))
    return cell.targets(jnp.linspace(0.0, 1.0, STATES))


@jax.jit
def _sample(cell: Cell, states: Float[Array, "states"], time) -> Float[Array, "cells states"]:
    """Conductances of many cells in each state, one read each left out."""
    targets = jnp.broadcast_to(states, (1, CELLS, states.shape[0]))
    return cell.program(targets, lambda use: site_key(root_key(0), use=use), time)[0]


def _draw_spread(axes: Axes, cell: Cell, times: Sequence[float | None]) -> None:
    states = _states(cell)
    sigmas = [np.asarray(_sample(cell, states, time), np.float64).std(axis=0) for time in times]
    if max(sigma.max() for sigma in sigmas) < NOISELESS * float(cell.g_max):
        _say(axes, "no spread known")
        return
    for colour, time, sigma in zip(COLOURS, times, sigmas, strict=False):
        axes.plot(1e6 * states, 1e6 * sigma, "o-", ms=3, color=colour, label=_named(time))
    axes.set_xlabel("target (µS)")
    axes.set_ylabel("standard deviation (µS)")
    axes.set_ylim(0, (1.4e6 if len(times) > 2 else 1.15e6) * max(sigma.max() for sigma in sigmas))
    legend(axes)


def _draw_course(axes: Axes, cell: Cell) -> None:
    if not cell.ages:
        _say(axes, "does not age")
        return
    axes.set_xlabel("time since programming (s)")
    axes.set_ylabel("conductance (µS)")
    first, last = 1.0, _end(cell)
    if cell.relaxation is not None:
        first, last = float(cell.relaxation.times[0]), float(cell.relaxation.times[-1])
    times = np.clip(np.geomspace(first, last, 25), first, last)
    states = cell.targets(jnp.array([0.25, 0.5, 1.0]))
    g = 1e6 * np.stack([np.asarray(_sample(cell, states, time)) for time in times])
    low, middle, high = np.quantile(g, [0.05, 0.5, 0.95], axis=1)
    for i, colour in enumerate(COLOURS[:3]):
        axes.fill_between(times, low[:, i], high[:, i], color=colour, alpha=0.2, linewidth=0)
        axes.plot(times, middle[:, i], color=colour)
    axes.set_xscale("log")
    axes.set_title("median and 90 % of the cells", fontsize=9, loc="left", color=INK)


def _draw_normal(axes: Axes, cell: Cell, times: Sequence[float | None]) -> None:
    from scipy.special import ndtri

    state = cell.targets(jnp.array([1.0 if _binary(cell) else 0.5]))
    scores = ndtri((np.arange(CELLS) + 0.5) / CELLS)
    drawn = False
    for colour, time in zip(COLOURS, times, strict=False):
        error = np.sort(np.asarray(_sample(cell, state, time))[:, 0] - float(state[0]))
        error = error - np.median(error)
        robust = 1.4826 * np.median(abs(error))
        if robust > NOISELESS * float(cell.g_max):
            axes.plot(scores, error / robust, ".", ms=2, color=colour, label=_named(time))
            drawn = True
    if not drawn:
        _say(axes, "most cells take their target" if cell.faults else "every cell takes its target")
        return
    axes.set_xlabel("normal score")
    axes.set_ylabel("error over its robust spread")
    axes.plot([-4, 4], [-4, 4], color=GREY, linewidth=1)
    axes.set_title(f"cells in the {'highest' if _binary(cell) else 'middle'} state", fontsize=9, loc="left", color=INK)


def _draw_current(axes: Axes, cell: Cell, v_read: float) -> None:
    v = jnp.linspace(-v_read, v_read, 41)
    drives = [v] if cell.conduction is None else cell.conduction.drives(v)
    for colour, share in zip(COLOURS, (0.0, 1.0) if _binary(cell) else (0.25, 0.5, 1.0), strict=False):
        strengths = cell.strengths(cell.targets(jnp.asarray(share)))
        current = sum(a * b for a, b in zip(strengths, drives, strict=True))
        axes.plot(v, 1e6 * np.asarray(current), color=colour, label=f"{100 * share:g} % of the window")
    axes.set_xlabel("word-line voltage (V)")
    axes.set_ylabel("current (µA)")
    axes.xaxis.set_major_formatter(PLAIN)
    legend(axes)


def _binary(cell: Cell) -> bool:
    return cell.levels is not None and float(cell.levels) == 2


def _named(time: float | None) -> str:
    if time is None:
        return "as written"
    for name, seconds in (("year", 3.15576e7), ("day", 86400.0)):
        if time >= seconds:
            count = f"{time / seconds:.3g}"
            return f"{count} {name}{'' if count == '1' else 's'}"
    return f"{time:.3g} s"


def _say(axes: Axes, text: str) -> None:
    """A panel with nothing to draw says why."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
