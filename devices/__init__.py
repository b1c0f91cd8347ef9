"""What can hold a matrix and multiply by it: cells, converters, macros; their noise, precision and energy.

`pim.devices.fit` makes a device of measurements (`pim.fit` does the same and draws a report).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pim.devices.fitting.cell_fit import fit_cells as fit

__all__ = ["fit"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        from pim.devices.fitting.cell_fit import fit_cells

        return fit_cells
    raise AttributeError(f"module 'pim.devices' has no attribute {name!r}")
