"""How many bits a plan has for a weight, an activation and a cached key: what systems must share to be compared."""

import math
from typing import Any, NamedTuple

from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.gain_attention import GainAttention
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.devices.roofline import Roofline
from pim.mapping.plan import Plan


class Widths(NamedTuple):
    """Bits of numbers; None for what has no codes: analog cells, exact converters, the ideal device."""

    weight: int | None
    activation: int | None
    key: int | None

    def agrees(self, other: "Widths") -> bool:
        """Whether no number has other bits, as far as it has any."""
        return all(one is None or another in (None, one) for one, another in zip(self, other, strict=True))

    def __str__(self) -> str:
        return "".join(
            f"{letter}{'~' if bits is None else bits}" for letter, bits in zip(("W", "A", "KV"), self, strict=True)
        )


def widths(plan: Plan) -> Widths:
    """The bits of a plan's layers, by the devices of its first: of weights, of what they multiply, of keys and values.

    Scales that groups of weights share are not counted: a weight of 4 bits in groups of 128 has 4.

    >>> str(widths(pim.place("llama-2-7b", pim.load_system("sram-digital"))))
    'W8A8KV8'
    """
    weights, keys = (plan.model_of(f"layers.0.attention.{operator}") for operator in ("q", "qk"))
    found = (_bits(weights, "weight"), _bits(weights, "activation"), _bits(keys, "key"))
    return Widths(*(None if bits is None else math.floor(float(bits)) for bits in found))


def _bits(model: Any, kind: str) -> Any:
    """Bits of a "weight", an "activation" or a "key" in a device."""
    if isinstance(model, Roofline):
        return 8 * model.bytes_of(kind)
    if isinstance(model, NearDram):
        return model.memory.bits
    if isinstance(model, DigitalUnit):
        return 8 * model.bytes_per_operand
    if isinstance(model, GainAttention):
        return math.log2(model.cell.levels) if kind == "key" else math.log2(model.query_levels)
    if isinstance(model, AnalogMacro | DigitalMacro):
        return _bits_of_array(model, kind)
    return None


def _bits_of_array(macro: AnalogMacro | DigitalMacro, kind: str) -> Any:
    """Keys are written into arrays as weights are."""
    if kind != "activation":
        return macro.weight_bits
    return macro.input_bits if isinstance(macro, DigitalMacro) else getattr(macro.dac, "bits", None)
