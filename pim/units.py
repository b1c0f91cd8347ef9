"""Figures for people: one SI prefix for a whole column or axis, and as many digits as say something."""

from collections.abc import Sequence
from typing import Any

import numpy as np

PREFIXES = {1e-18: "a", 1e-15: "f", 1e-12: "p", 1e-9: "n", 1e-6: "µ", 1e-3: "m", 1.0: "", 1e3: "k", 1e6: "M", 1e9: "G"}


def common_scale(values: Sequence[float] | np.ndarray, unit: str) -> tuple[float, str]:
    """The scale and unit in which the largest of the values has one to three digits before the point.

    Areas come in mm², whatever their size.

    >>> common_scale([4.2e-7, 1.5e-6], "J")
    (1e-06, 'µJ')
    """
    if unit == "m^2":
        return 1e-6, "mm²"
    largest = _largest(values)
    scale = max((s for s in PREFIXES if s <= largest * (1 + 1e-9)), default=1.0)
    return scale, f"{PREFIXES[scale]}{unit}"


def column(values: Sequence[float] | np.ndarray, unit: str, digits: int = 4) -> tuple[str, list[str]]:
    """A column's unit and its figures, with the same decimals: the largest has that many digits.

    >>> column([4.2e-7, 1.5e-6], "J")
    ('µJ', ['0.420', '1.500'])
    """
    scale, name = common_scale(values, unit)
    scaled = np.asarray(values, np.float64) / scale
    largest = _largest(scaled)
    before = int(np.floor(np.log10(largest))) + 1 if largest > 0 else 1
    decimals = max(0, digits - max(before, 1))
    return name, ["unknown" if np.isnan(value) else f"{value:.{decimals}f}" for value in scaled]


def _largest(values: Sequence[float] | np.ndarray) -> float:
    """The largest magnitude of those that are known."""
    return float(np.nanmax(np.abs([0.0, *np.ravel(values)])))


def plain(values: np.ndarray | float) -> Any:
    """Figures as (nested lists of) plain numbers for JSON, what is unknown (NaN) as None."""
    figures = np.asarray(values, np.float64)
    numbers = figures.astype(object)
    numbers[np.isnan(figures)] = None
    return numbers.tolist()


def significant(value: float, digits: int = 4) -> str:
    """A number with that many digits, in plain notation where it is not too long.

    >>> significant(1234.5), significant(3.94682), significant(8.1e9)
    ('1234', '3.947', '8.1e+09')
    """
    if np.isnan(value):
        return "unknown"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    before = int(np.floor(np.log10(abs(value)))) + 1 if value else 1
    return f"{value:.{max(0, digits - max(before, 1))}f}"


def no_room(need: float, room: float, more: str) -> list[str]:
    """A note where so many bytes do not fit a memory of so many; of `more` it takes more.

    >>> no_room(8 * 2**30, 4 * 2**30, "devices")
    ['8 GiB do not fit its 4 GiB: more devices are needed']
    """
    return [f"{need / 2**30:.3g} GiB do not fit its {room / 2**30:.3g} GiB: more {more} are needed"] * (need > room)
