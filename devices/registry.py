"""The records that a device file may name as the `type` of a part."""

import dataclasses
from types import ModuleType

from pim.devices import (
    adc,
    adc_cost,
    buffer,
    cell,
    cell_facts,
    conduction,
    dac,
    digital_unit,
    drift,
    faults,
    flash_adc,
    inl,
    macro,
    mismatch,
    path,
    periphery,
    ramp_adc,
    read_noise,
    relaxation,
    sar_adc,
    slow_noise,
    state_law,
    temperature,
    variation,
    write_error,
)


def _records(module: ModuleType) -> dict[str, type]:
    """The records that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__ == module.__name__
    }


TYPES: dict[str, type] = {
    name: cls
    for module in (
        adc, adc_cost, buffer, cell, cell_facts, conduction, dac, digital_unit, drift, faults, flash_adc, inl, macro,
        mismatch, path, periphery, ramp_adc, read_noise, relaxation, sar_adc, slow_noise, state_law, temperature,
        variation, write_error,
    )
    for name, cls in _records(module).items()
}  # fmt: skip
