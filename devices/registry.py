"""The records that a device file may name as the `type` of a part: all that are defined in this wing."""

import dataclasses
import pkgutil
from importlib import import_module
from types import ModuleType

from pim.devices import (
    activation_table,
    arithmetic,
    array_wires,
    bit_errors,
    bit_line,
    buffer,
    cells,
    components,
    converters,
    cost_factors,
    digital_macro,
    digital_unit,
    digital_wiring,
    dram,
    environment,
    gain_attention,
    gates,
    hierarchy,
    kv_store,
    macro,
    near_dram,
    near_flash,
    page_errors,
    periphery,
    remapping,
    retention_errors,
    roofline,
    supply,
    systolic,
)
from pim.devices.dram import kernels


def _records(module: ModuleType) -> dict[str, type]:
    """The records that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__ == module.__name__
    }


def _modules(package: ModuleType) -> list[ModuleType]:
    """The modules of a folder of laws."""
    return [import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


FOLDERS = (cells, components, converters, dram, kernels)
BESIDE = (
    activation_table, arithmetic, array_wires, bit_errors, bit_line, buffer, cost_factors, digital_macro, digital_unit,
    digital_wiring, environment, gain_attention, gates, hierarchy, kv_store, macro, near_dram, near_flash, page_errors,
    periphery, remapping, retention_errors, roofline, supply, systolic,
)  # fmt: skip
"""Modules beside the folders of laws that define records."""

TYPES: dict[str, type] = {
    name: cls
    for module in (*(module for folder in FOLDERS for module in _modules(folder)), *BESIDE)
    for name, cls in _records(module).items()
}
