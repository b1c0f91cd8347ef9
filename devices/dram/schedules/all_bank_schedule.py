"""The commands of a product in banks that all take one command at once, one by one: AiM, Newton, and their like.

The vector comes into the buffer (WRGB), registers are preset (WRMAC), rows opened (ACT) and their columns multiplied
(MAC), results read (RDMAC), in this order, for each piece of the vector and each group of results. Intervals are those
of the DRAM, and these of the kernel:

- from a column of the vector to the next command, `n_buffer`; between two presets, `n_preset`;
- from a result to the next, `n_read`, as the host waits for what it reads; to what it writes, or to the end, `n_turn`,
  which turns the bus around; reading takes a slot among the columns;
- a switch of mode (TMOD) goes out when the command that needs it would be ready, and takes `n_mode`.

Units at the banks open a row of all of them and close it before the next. Units with several banks, at a group of
banks or on the buffer die, open rows ahead, over a bus of their own, in banks that are not being read.

These rules are the timing table and the controller of AiM's simulator (aim_simulator, part of CENT, ASPLOS 2025), with
its registers, buffer and modes taken away where a device has none.
"""

from typing import Any

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.command_bus import CommandBus
from pim.devices.dram.schedules.concrete import interval, refuse_above_most
from pim.devices.dram.schedules.open_rows import OpenRows
from pim.devices.dram.schedules.placement import placement
from pim.devices.dram.schedules.schedule import Kind, Schedule, stalled
from pim.devices.dram.work import Work


def all_bank_schedule(
    memory: Memory,
    work: Work,
    refresh: Refresh | None,
    *,
    buffer_bytes: Any,
    registers: Any,
    n_buffer: Any,
    n_turn: Any,
    n_read: Any,
    n_preset: Any,
    n_mode: Any,
    early_row: str,
) -> Schedule:
    """The schedule of work in its busiest channel; the intervals are the fields of `AllBankKernel`.

    Raises:
        DeviceError: a size or a field is no plain number, the matrix does not fit, or there are too many commands.
    """
    at = placement(memory, work, buffer_bytes=buffer_bytes, registers=registers)
    turns = at.rounds * at.vectors
    refuse_above_most(turns * sum(columns * (1 + at.per) + 6 * at.per for columns in at.pieces))
    read = max(interval(n_read, "kernel.n_read"), 1)
    turn = max(interval(n_turn, "kernel.n_turn"), 1)
    buffer, preset = interval(n_buffer, "kernel.n_buffer"), interval(n_preset, "kernel.n_preset")
    mode = interval(n_mode, "kernel.n_mode")
    rows = OpenRows(memory, height=at.height, copies=at.rounds, vectors=at.vectors)
    mac, result, bias = rows.mac, f"RDMAC{at.units}", f"WRMAC{at.units}"
    told = () if rows.ahead else (rows.act, rows.pre)  # commands for rows that the host tells in their turn
    bus = CommandBus(
        [
            Kind("WRGB", "write", "registers"),
            Kind(bias, "write", "registers"),
            Kind(result, "read", "registers"),
            *rows.kinds,
        ],
        {
            **{("WRGB", after): buffer for after in ("WRGB", bias, mac, *told)},
            (bias, bias): preset,
            (mac, result): rows.n_ccd,
            (result, mac): rows.n_ccd,
            (result, result): read,
            **{(result, after): turn for after in ("WRGB", bias)},
            **rows.gaps,
        },
        switch=Kind("TMOD"),
        n_switch=mode,
        inside=("WRGB", bias, result),
    )
    begun = mode + at.pieces[0] * buffer + (at.held - 1) * preset + (preset > 0)  # the vector and the presets are in
    rows.begin(bus, early=early_row == "yes" and not mode, not_before=begun)
    for turn_number in range(turns):
        copy, vector = divmod(turn_number, at.vectors)
        for piece, columns in enumerate(at.pieces):
            bus.issue("WRGB", columns, column=0)
            for group in at.groups():
                if preset:
                    bus.issue(bias, len(group), column=0)
                for visit in (visit for output in group for visit in at.visits(piece, output)):
                    rows.multiply(bus, copy * at.height + visit.place, vector, visit.column, visit.columns)
                bus.issue(result, len(group), column=0)
    return stalled(bus.schedule(bus.last(result) + turn), refresh)
