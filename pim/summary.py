"""What a result says, as plain numbers and short names: the ground of table, figures, report and JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pim.costs.ledger import Ledger
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.result import Point, Result, combinations


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last two parts of each path, or the whole where that would say two things.

    >>> short_names(["weights.adc.bits"])
    {'weights.adc.bits': 'adc.bits'}
    """
    short = [".".join(path.split(".")[-2:]) for path in paths]
    return dict(zip(paths, short if len(set(short)) == len(short) else paths, strict=True))


def shown(value: Any) -> str:
    """A swept value in a few characters."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def label(changes: Mapping[str, Any]) -> str:
    """The changes of a point in words.

    >>> label({"weights.adc.bits": 8})
    'adc.bits = 8'
    """
    names = short_names(list(changes))
    return ", ".join(f"{names[path]} = {shown(value)}" for path, value in changes.items())


def shipped_point(result: Result) -> int | None:
    """Index of the point at which every swept field has the value that the plan's own devices have, if there is one."""
    own = {path: _own_value(result, path) for path in result.axes}
    matches = (i for i, changes in enumerate(combinations(result.axes)) if all(_same(changes[p], own[p]) for p in own))
    return next(matches, None)


def point_to_show(result: Result) -> tuple[int, str]:
    """The point whose split is shown, and what to call it: the devices as they are, else the last of the sweep."""
    shipped, points = shipped_point(result), combinations(result.axes)
    i = len(points) - 1 if shipped is None else shipped
    if not points[i]:
        return i, "on the system as given"
    return i, f"at {label(points[i])}" + ("" if shipped is None else ", the device's own setting")


def _own_value(result: Result, path: str) -> Any:
    name, _, field = path.partition(".")
    return result.plan.system.devices[name].paths().get(field)


def _same(value: Any, own: Any) -> bool:
    if value is None or own is None or isinstance(value, str) or isinstance(own, str):
        return value is own or value == own
    return bool(np.array_equal(np.float32(value), np.float32(own)))


def deviation(values: np.ndarray) -> float | None:
    """Standard deviation over chips; None for a single chip, which has none."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def split(point: Point, by: str) -> list[dict[str, Any]]:
    """What a written token costs by "component" or by "operator", largest energy first.

    Rows hold name, energy (J), latency (s), both of one token, and area (m^2).
    """
    ledger: Ledger = point.cost.decode.ledger
    grouped = ledger.by_component() if by == "component" else ledger.by_operator()
    names = grouped.components if by == "component" else grouped.operators
    energy = np.asarray(grouped.energy, np.float64) / point.cost.decode_tokens
    latency = np.asarray(grouped.latency, np.float64) / point.cost.generate
    area = np.asarray(grouped.area, np.float64)
    rows = [
        {"name": name, "energy": float(energy[i]), "latency": float(latency[i]), "area": float(area[i])}
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -np.nan_to_num(row["energy"], nan=np.inf))


def array_energy(result: Result, point: Point) -> float:
    """Energy (J) of a written token in arrays, with their converters or adders; the rest is the digital units'."""
    devices, kinds = result.plan.system.devices, AnalogMacro | DigitalMacro
    arrays = {name for name, device in devices.items() if isinstance(device.model, kinds)}
    ledger: Ledger = point.cost.decode.ledger
    mine = np.array([result.plan.assignment.get(operator) in arrays for operator in ledger.operators], bool)
    return float(np.asarray(ledger.energy, np.float64)[mine].sum()) / point.cost.decode_tokens


def summary(result: Result) -> dict[str, Any]:
    """The result as plain values, ready for JSON: protocol, points with their splits, sources.

    SI units; `std` is None for a single chip, and so is what nobody knows.
    """
    return _known({
        "protocol": dict(result.protocol),
        "digital_perplexity": result.digital_perplexity,
        "axes": {path: [_plain(value) for value in values] for path, values in result.axes.items()},
        "points": [_point(result, point) for point in result.points],
        "notes": notes(result),
        "sources": {
            name: {"citation": source.citation, "url": source.url} for name, source in result.citations().items()
        },
    })  # fmt: skip


def _known(value: Any) -> Any:
    """The same with None for figures that are unknown: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _known(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _point(result: Result, point: Point) -> dict[str, Any]:
    return {
        "changes": {path: _plain(value) for path, value in point.changes.items()},
        "perplexity": {
            "mean": float(point.perplexity.mean()),
            "std": deviation(point.perplexity),
            "chips": point.perplexity.tolist(),
        },
        "worst_chip": point.worst_chip,
        "loss_difference": {
            "mean": point.difference.mean, "low": point.difference.low, "high": point.difference.high
        },
        "kl": point.kl,
        "top1_agreement": point.agreement,
        "energy_per_token": point.cost.energy_per_token,
        "array_energy_per_token": array_energy(result, point),
        "prefill_latency": point.cost.prefill_latency,
        "decode_latency": point.cost.decode_latency,
        "area": point.cost.area,
        "per_token_by_component": split(point, "component"),
        "per_token_by_operator": split(point, "operator"),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def notes(result: Result) -> list[str]:
    """What was assumed or left out, which times were interpolated, and which figures are only recalled."""
    told = dict.fromkeys(result.protocol.get("notes", ()))
    told |= dict.fromkeys(note for cost in result.costs for note in cost.notes)
    for name, device in result.plan.system.devices.items():
        recalled = [path for path, provenance in device.provenance.items() if provenance.grade == "recalled"]
        if recalled:
            told[f"{name}: recalled, unverified figures: {', '.join(recalled)}"] = None
    return list(told)
