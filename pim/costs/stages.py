"""Rows of a cost whose works follow one another, as a pipeline of stages that work at the same time."""

from typing import Any

import jax.numpy as jnp

from pim.devices.cost_factors import CostFactors

Row = tuple[str, Any, Any, Any]
"""A component, its energy (J), its latency (s), its area (m^2)."""

STAGES = ({"cells", "lines", "dac"}, {"amplifiers", "sample_hold", "adc"}, {"shift_add"})
"""Reading, converting and adding up: each stage works on another sum (ISAAC, section IV)."""


def overlapped(rows: list[Row], passes: Any) -> list[Row]:
    """Rows in series as a pipeline: all stages once for the first of `passes` sums, then the longest for each further.

    >>> overlapped([("cells", 0, 10.0, 0), ("adc", 0, 20.0, 0), ("shift_add", 0, 2.0, 0)], 10)  # 3.2 + 9 x 2
    """
    times = [[row[2] for row in rows if row[0] in stage] for stage in STAGES]
    stages = jnp.stack(jnp.broadcast_arrays(*(sum(found, jnp.zeros(jnp.shape(passes))) for found in times)))
    slowest = jnp.argmax(stages, axis=0)
    stage_of = {name: k for k, stage in enumerate(STAGES) for name in stage}
    again = lambda name, time: jnp.where(slowest == stage_of.get(name, -1), time * (passes - 1.0), 0.0)
    return [(name, energy, (time + again(name, time)) / passes, area) for name, energy, time, area in rows]


def factored(rows: list[Row], factors: CostFactors | None) -> list[Row]:
    """The rows with a device's factors on each."""
    if factors is None:
        return rows
    return [(name, e * factors.energy, t * factors.latency, area * factors.area) for name, e, t, area in rows]


def factors_note(factors: CostFactors | None) -> tuple[str, ...]:
    """Words on a device's factors; none where it has none."""
    if factors is None:
        return ()
    told = (f"{name} x {float(getattr(factors, name)):.4g}" for name in ("energy", "latency", "area"))
    return (f"cost factors on every row: {', '.join(told)}",)
