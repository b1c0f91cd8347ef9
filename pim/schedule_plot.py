"""A picture of a schedule: which sub-batch is on which device when, and how busy each device is."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pim.costs.ledger import quantity
from pim.figure_style import COLOURS, INK, PLAIN, blank_figure
from pim.mapping.schedule import Slot
from pim.units import common_scale

LAYERS_SHOWN = 3
"""Rounds of the busiest device in the picture: the others repeat them."""


def schedule_figure(slots: Sequence[Slot], names: Sequence[str]) -> Figure:
    """A bar a turn, a row a device, a colour a sub-batch; the first few rounds, and shares of the whole time.

    Args:
        slots: of a single point.
        names: devices in the order of the rows, from above.
    """
    ends = np.array([float(slot.end) for slot in slots])
    whole = ends.max()
    rounds = max(sum(slot.turn.device == name and slot.sub_batch == 0 for slot in slots) for name in names)
    shown = whole * min(1.0, LAYERS_SHOWN / rounds)
    scale, unit = common_scale([shown], "s")
    used = [name for name in names if any(slot.turn.device == name for slot in slots)]
    figure, (axes,) = blank_figure(7.0, 0.9 + 0.45 * len(used))
    for row, name in enumerate(used):
        mine = [slot for slot in slots if slot.turn.device == name]
        for slot in mine:
            begin, end = float(slot.begin) / scale, min(float(slot.end), shown) / scale
            if begin * scale < shown:
                colour = COLOURS[slot.sub_batch % len(COLOURS)]
                axes.barh(row, end - begin, left=begin, height=0.7, color=colour, edgecolor="white", linewidth=0.4)
        busy = sum(float(slot.end) - float(slot.begin) for slot in mine) / whole
        axes.text(
            1.01, row, f"{busy:.0%} busy", transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK
        )
    axes.set_yticks(range(len(used)), used)
    axes.invert_yaxis()
    axes.set_xlim(0, shown / scale)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlabel(f"time ({unit})" if shown == whole else f"time ({unit}), of {quantity(whole, 's')} in all")
    return figure
