"""The commands of attention with a head to each channel, one by one: AttAcc.

A channel goes through one head after another, through its rows, through their columns. Vectors and results move on the
buffer die meanwhile, and are no commands of the banks. Units at the banks open a row of all of them (ACT), multiply
(MAC) and close it (PREA); units elsewhere open rows ahead, in banks that are not being read.
"""

from typing import Any

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.command_bus import CommandBus
from pim.devices.dram.schedules.concrete import interval, refuse_above_most, sizes
from pim.devices.dram.schedules.open_rows import OpenRows
from pim.devices.dram.schedules.schedule import Schedule, stalled
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError


def heads_schedule(memory: Memory, work: Work, refresh: Refresh | None, *, units_across: Any) -> Schedule:
    """The schedule of scores or contexts in the busiest channel; see `HeadsKernel`.

    Raises:
        DeviceError: a size or a field is no plain number, the heads do not fit, or there are too many commands.
    """
    n_in, n_out, vectors, copies = sizes(work)
    banks = memory.banks
    lanes = interval(banks.column_bytes, "banks.column_bytes") * 8 // memory.bits
    across = interval(units_across, "attention.units_across")
    per_unit = interval(banks.banks_per_unit, "banks.banks_per_unit")
    units = -(-interval(banks.banks, "banks.banks") // per_unit)
    dim, tokens = (n_in, n_out) if work.operation == "score" else (n_out, n_in)
    columns = -(-tokens // (units // across)) * -(-dim // (across * lanes))
    heads = -(-copies * vectors // interval(banks.channels, "banks.channels"))
    in_row = interval(banks.columns, "banks.row_bytes / banks.column_bytes")
    in_row *= per_unit if memory.level == "bank" else 1  # banks of a unit open together, or not
    height = -(-columns // in_row)
    refuse_above_most(heads * (columns + 2 * height))
    rows = OpenRows(memory, height=height, copies=heads, vectors=1)
    if -(-heads * height // rows.deep) > interval(banks.rows, "banks.rows"):
        raise DeviceError(
            f"it does not fit: {heads} heads of {height} rows in each unit are more than banks.rows = {banks.rows:g}: "
            "take fewer heads or tokens, or more channels (banks.channels)"
        )
    bus = CommandBus(rows.kinds, rows.gaps)
    rows.begin(bus, early=True)
    for head in range(heads):
        for row in range(height):
            rows.multiply(bus, head * height + row, 0, 0, min(in_row, columns - row * in_row))
    end = bus.last(rows.mac) + rows.n_ccd if rows.ahead else rows.close(bus) + rows.n_rp
    return stalled(bus.schedule(end), refresh)
