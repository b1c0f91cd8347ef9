"""Headline figures of chips in the units in which they are published: TOPS/W, TOPS/mm², fJ/MAC."""

import numpy as np

from pim.units import PREFIXES

_SCALED = {
    "rate": ((1e12, "TOPS"), (1e9, "GOPS"), (1e6, "MOPS")),
    "efficiency": ((1e12, "TOPS/W"), (1e9, "GOPS/W")),
    "density": ((1e18, "TOPS/mm²"), (1e15, "GOPS/mm²")),
    "area": ((1e-6, "mm²"), (1e-12, "µm²")),
}
_PREFIXED = {
    "energy": "J", "energy_per_mac": "J/MAC", "latency": "s", "interval": "s", "power": "W", "decode_latency": "s",
    "prefill_latency": "s", "energy_per_token": "J", "prefill_energy_per_token": "J",
}  # fmt: skip
_PLAIN = {"tokens_per_second": "token/s", "prefill_tokens_per_second": "token/s", "tokens_per_joule": "token/J"}


def headline_scale(figure: str, value: float) -> tuple[float, str]:
    """Scale and unit in which a figure of about that value is told; shares are told in percent.

    >>> headline_scale("efficiency", 3.5e13)
    (1e12, 'TOPS/W')
    """
    if figure.startswith("share."):
        return 0.01, "%"
    if figure in _PLAIN:
        return 1.0, _PLAIN[figure]
    if figure in _SCALED:
        scales = _SCALED[figure]
        smallest = 0.1 if figure != "area" else 1e-3
        return next((scale for scale in scales if abs(value) >= smallest * scale[0]), scales[-1])
    prefix = max((scale for scale in PREFIXES if scale <= abs(value)), default=1.0)
    return prefix, f"{PREFIXES[prefix]}{_PREFIXED[figure]}"


def for_people(figure: str, value: float) -> str:
    """A figure with its unit.

    >>> for_people("efficiency", 3.5e13)
    '35 TOPS/W'
    """
    if np.isnan(value):
        return f"{figure.replace('_', ' ')} unknown"
    scale, unit = headline_scale(figure, value)
    return f"{value / scale:.4g} {unit}"
