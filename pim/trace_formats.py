"""Text of traces that other simulators read: instructions of GDDR6-AiM, accesses for Ramulator 2.

Formats are those that the programs' readers accept (aim_trace.cpp of aim_simulator, the front end of CENT, ASPLOS 2025;
ReadWriteTrace of Ramulator 2): one request a line, single blanks, a newline at the end, no header.
"""

from collections.abc import Iterator

import numpy as np

from pim.devices.dram.kernels.all_bank import AllBankKernel
from pim.devices.dram.schedules.concrete import MOST, interval
from pim.devices.dram.schedules.lockstep_program import GROUP
from pim.devices.dram.schedules.placement import Placement, placement
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Work
from pim.devices.near_dram import NearDram
from pim.errors import StudyError

AIM = {"banks.banks": 16, "banks.banks_per_unit": 1, "banks.row_bytes": 2048, "banks.column_bytes": 32}
"""The organisation of a channel that AiM's simulator has built in."""
AIM_CHANNELS = 32
AIM_COLUMNS = 64
"""Columns of its global buffer, and so of one instruction."""


def aim_isr(device: NearDram, work: Work) -> str:
    """The instructions of one product for all channels, in the trace format of AiM's simulator.

    Of each piece of the inputs: `WR_GB columns 0 mask`, for each copy of the matrix by itself, as each has a vector of
    its own; then for each group of results `WR_BIAS 0 mask`, `MAC_ABK columns mask row` for each row of each output,
    and `RD_MAC 0 mask`; `EOC` in the end. A mask has bit 31 for channel 0. Channels without an output are not in it,
    and the last one only as long as it has more. General registers are 0 throughout, as CENT writes them: the trace
    holds no data. There is no field for the first column: keys that lie side by side in a row all begin at column 0, as
    in CENT's own traces; cycles are the same.

    Raises:
        StudyError: the device does not compute as GDDR6-AiM does.
    """
    kernel = device.kernel_of(work)
    if not isinstance(kernel, AllBankKernel) or device.level != "bank":
        raise StudyError(
            f"instructions of AiM are one command to all banks, and a {type(kernel).__name__} at the {device.level} "
            'has none: take pim.preset("dram-aim"), or format="ramulator"'
        )
    for field, needed in AIM.items():
        found = interval(getattr(device.banks, field.removeprefix("banks.")), field)
        if found != needed:
            raise StudyError(f'AiM has {field} = {needed}, not {found}: take that, or format="ramulator"')
    at = placement(device.memory, work, buffer_bytes=kernel.buffer_bytes, registers=kernel.registers)
    if at.channels > AIM_CHANNELS or max(at.pieces) > AIM_COLUMNS:
        raise StudyError(
            f"AiM's simulator has {AIM_CHANNELS} channels, with a buffer of {AIM_COLUMNS} columns, not {at.channels} "
            f'with {max(at.pieces)}: take banks.channels <= 32 and kernel.buffer_bytes <= 2048, or format="ramulator"'
        )
    return "".join(f"AiM {line}\n" for line in (*_instructions(at, preset=float(kernel.n_preset) > 0), "EOC"))


def _instructions(at: Placement, *, preset: bool) -> Iterator[str]:
    for turn in range(at.rounds):
        here = range(min(at.channels, at.copies - turn * at.channels))  # copies that are gone through at a time
        for _ in range(at.vectors):
            for piece, columns in enumerate(at.pieces):
                for copy in here:
                    yield f"WR_GB {columns} 0 {_mask(at, [copy], 0)}"
                for group in at.groups():
                    masks = {output: _mask(at, here, output) for output in group}
                    if preset:
                        yield from (f"WR_BIAS 0 {masks[output]}" for output in group)
                    for output in group:
                        for visit in at.visits(piece, output):
                            yield f"MAC_ABK {visit.columns} {masks[output]} {turn * at.height + visit.place}"
                    yield from (f"RD_MAC 0 {masks[output]}" for output in group)


def _mask(at: Placement, copies: range | list[int], output: int) -> str:
    """Channels of some copies, the last of each only if a unit of it has that output."""
    used = at.used if output < at.last else at.used - 1
    channels = (copy * at.share + channel for copy in copies for channel in range(used))
    return f"{sum(1 << (AIM_CHANNELS - 1 - channel) for channel in channels):#010x}"


def ramulator(device: NearDram, schedule: Schedule) -> str:
    """The accesses of a schedule as address vectors, in the format of Ramulator 2's ReadWriteTrace.

    A line is `R` or `W` and channel, bank group, bank, row, column; the channel is always 0, that of the schedule. A
    command that several banks take at once is a line for each of them, one after another. Bank groups have four banks;
    where a channel of ours holds pseudo-channels or ranks (AttAcc), their banks are counted on. A column is an access,
    of `column_bytes`. Registers and buffers of the units have no address: what is written to and read from them goes to
    the row that the schedule says, or else to the last row of bank 0. Openings, closings, modes and refreshes are not
    listed: Ramulator makes its own. Its banks take one command each: what it finds is the time of the same accesses
    over the pins of a plain memory, not that of the device.

    Raises:
        StudyError: there are too many lines.
    """
    units = interval(device.banks.banks / device.banks.banks_per_unit, "banks.banks / banks.banks_per_unit")
    banks = interval(device.banks.banks, "banks.banks")
    last_row = interval(device.banks.rows, "banks.rows") - 1
    reach = np.array([units if kind.banks == "units" else 1 for kind in schedule.kinds])
    listed = np.array([kind.access != "" for kind in schedule.kinds])[schedule.command]
    lines = int(reach[schedule.command[listed]].sum())
    if lines > MOST:
        raise StudyError(
            f"a trace of {lines:.3g} accesses is too long, {MOST:.0e} is the most: take fewer outputs or vectors"
        )
    where = {i: f",{i // GROUP},{i % GROUP}," for i in range(banks)}
    found: list[str] = []
    columns = (schedule.command, schedule.bank, schedule.row, schedule.column)
    for command, bank, row, column in zip(*(values[listed].tolist() for values in columns), strict=True):
        kind = schedule.kinds[command]
        letter, place = "R 0" if kind.access == "read" else "W 0", f"{last_row if row < 0 else row},{max(column, 0)}\n"
        reached = range(bank, banks, banks // units) if kind.banks == "units" else [max(bank, 0)]
        found += [f"{letter}{where[one]}{place}" for one in reached]
    return "".join(found)
