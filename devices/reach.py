"""How far a law reaches: the range in which its source has data, and that beyond which it means nothing.

A record may declare `VALID` and `LIMITS`, ranges by name. A name is that of a field of its own, of the nearest record
around it (`bits` of the ADC around a cost law, `vdd` of the macro), or of a figure that its method `derived` works out
of these. Outside VALID a result is an extrapolation, and notes say so; outside LIMITS it is an error.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jax.core import Tracer

from pim.devices.errors import DeviceError
from pim.devices.record import fields_of

Reach = Mapping[str, tuple[float, float]]
"""Lowest and highest value by name."""


def extrapolations(model: Any) -> tuple[str, ...]:
    """A note for each value of a device's model that lies outside what the law that uses it was made for.

    Raises DeviceError for a value outside the range in which the law means anything. What is traced is not looked at.

    >>> extrapolations(pim.replace(device, {"adc.bits": 14}).model)
    ('adc.cost: bits = 14 is outside 3 to 9, for which ZigzagADCCost was made: extrapolated',)
    """
    return tuple(_notes(model, "", {}))


def effective_bits(around: Mapping[str, Any], loss: Any) -> dict[str, Any]:
    """What `derived` gives for a converter: the bits of the record around it less a loss; {} with none around."""
    return {"enob": around["bits"] - loss} if "bits" in around else {}


def _notes(node: Any, path: str, around: Mapping[str, Any]) -> Iterator[str]:
    fields = fields_of(node)
    known = {**around, **{n: getattr(node, n) for n, f in fields.items() if f.metadata["kind"] != "part"}}
    limits, valid = getattr(node, "LIMITS", {}), getattr(node, "VALID", {})
    if (limits or valid) and hasattr(node, "derived"):
        known = {**known, **node.derived(known)}
    name = type(node).__name__
    units = {n: f.metadata["unit"] for n, f in fields.items() if f.metadata["kind"] == "leaf"}
    for key, (low, high) in limits.items():
        for value in _outside(known.get(key), low, high):
            raise DeviceError(f"{path or name}: {_said(key, value, low, high, units)}: {name} means nothing there")
    for key, (low, high) in valid.items():
        for value in _outside(known.get(key), low, high):
            said = _said(key, value, low, high, units)
            yield f"{path or name}: {said}, for which {name} was made: extrapolated"
    for part, field in fields.items():
        if field.metadata["kind"] == "part" and getattr(node, part) is not None:
            yield from _notes(getattr(node, part), f"{path}.{part}" if path else part, known)


def _outside(value: Any, low: float, high: float) -> Iterator[float]:
    """The value that is farthest outside, if one is."""
    if value is None or isinstance(value, Tracer) or isinstance(value, str):
        return
    values = np.asarray(value, np.float64)
    slack = 1e-6
    if values.size and values.min() < low * (1 - slack):
        yield float(values.min())
    elif values.size and values.max() > high * (1 + slack):
        yield float(values.max())


def _said(key: str, value: float, low: float, high: float, units: Mapping[str, str]) -> str:
    if key == "node":
        return f"node = {value * 1e9:.4g} nm is outside {low * 1e9:.4g} to {high * 1e9:.4g} nm"
    unit = "" if units.get(key, "1") == "1" else f" {units[key]}"
    return f"{key} = {value:.7g}{unit} is outside {low:.7g} to {high:.7g}{unit}"
