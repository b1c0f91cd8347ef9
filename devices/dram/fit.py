"""Whether the parts of a DRAM fit one another: a column a row, an operand a column, units the banks."""

from typing import Any

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.errors import DeviceError

WHOLE = ("channels", "banks", "row_bytes", "column_bytes", "rows")


def check_fit(memory: Memory, kernel: Any, attention: Any, refresh: Refresh | None) -> None:
    """Raise DeviceError for the first thing that does not fit, with what would."""
    banks, operand = memory.banks, memory.bits / 8
    for name in WHOLE:
        _whole(f"banks.{name}", getattr(banks, name))
    for name, part in (("kernel", kernel), ("attention", attention)):
        for field in ("registers", "input_registers", "units_across"):
            if hasattr(part, field):
                _whole(f"{name}.{field}", getattr(part, field))
    _at_least("banks.row_bytes", banks.row_bytes, "banks.column_bytes", banks.column_bytes)
    _at_least("banks.column_bytes", banks.column_bytes, "the bytes of an operand", operand)
    _at_least("banks.banks", banks.banks, "banks.banks_per_unit", banks.banks_per_unit)
    if hasattr(kernel, "buffer_bytes"):
        _at_least("kernel.buffer_bytes", kernel.buffer_bytes, "the bytes of an operand", operand)
    if hasattr(attention, "units_across"):
        units = banks.banks / banks.banks_per_unit
        _at_least("banks.banks / banks.banks_per_unit", units, "attention.units_across", attention.units_across)
    if refresh is not None and float(refresh.stall) >= float(refresh.n_refi):
        raise DeviceError(
            f"refresh.n_rfc + refresh.n_reopen = {float(refresh.stall):g} cycles leave nothing of refresh.n_refi = "
            f"{float(refresh.n_refi):g}: they must be fewer"
        )


def _whole(name: str, value: Any) -> None:
    if float(value) % 1:
        raise DeviceError(f"{name} = {float(value):g} is no whole number; give one")


def _at_least(name: str, value: Any, other: str, least: Any) -> None:
    if float(value) < float(least):
        raise DeviceError(f"{name} = {float(value):g} is less than {other}, {float(least):g}: raise it")
