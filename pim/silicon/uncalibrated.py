"""Generic macros against published ones: what node, cell, array, bits and supply alone say of an efficiency."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from pim.costs.array_peak import peak
from pim.costs.operands import Operands, uniform_operands
from pim.devices.device import replace as replaced
from pim.devices.generic import generic
from pim.devices.generic_digital import digital_macro
from pim.devices.macro import AnalogMacro
from pim.devices.silicon import SiliconMacro, silicon

FACTOR = 2.0
"""By how much an energy may be off."""


@dataclass(frozen=True)
class UncalibratedRow:
    """A published macro and the generic one of its description.

    Attributes:
        macro: the published one.
        efficiency: of the generic one, op/J.
    """

    macro: SiliconMacro
    efficiency: float

    @property
    def energy_ratio(self) -> float:
        """Energy of an operation, ours over the published one."""
        return self.macro.efficiency / self.efficiency

    @property
    def within(self) -> bool:
        """Whether that is within a factor of two."""
        return 1.0 / FACTOR <= self.energy_ratio <= FACTOR


def uncalibrated() -> tuple[UncalibratedRow, ...]:
    """Every published macro of `pim.devices.silicon` beside its generic one; nothing is fitted to any of them.

    >>> [(row.macro.id, row.energy_ratio) for row in uncalibrated()]
    """
    return tuple(UncalibratedRow(macro, _efficiency(macro)) for macro in silicon())


def _efficiency(macro: SiliconMacro) -> float:
    model, operands = _generic(macro)
    return float(peak(model, operands=operands).efficiency)


def _generic(macro: SiliconMacro) -> tuple[Any, Operands | None]:
    """The device, and the statistics of its operands: uniform, and of one-bit inputs -1 and 1 alike."""
    names = ("node", "rows", "input_bits", "weight_bits", "vdd")
    asked: dict[str, Any] = {name: getattr(macro, name) for name in names}
    if macro.adc_bits is None:
        return digital_macro(**asked, outputs=macro.columns, **macro.structure), None
    device = replaced(generic(macro.kind, **asked, columns=macro.columns, adc_bits=macro.adc_bits), macro.structure)
    assert isinstance(device.model, AnalogMacro)
    if macro.input_bits > 1:
        return device, None
    one = jnp.float32(1.0)
    return device, replace(uniform_operands(device.model), u2=one, active=one, source="inputs of -1 and 1")
