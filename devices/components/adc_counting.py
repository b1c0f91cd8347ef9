"""Converters that count: oscillators driven by a column's current, ramps, and charge taken away packet by packet."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record, static


@record
class CountingADCCost:
    """As many counts as the code says, and what runs all the time that a conversion takes.

        E = 2^b code count_energy + static_power t      t = 2^b / frequency

    A current-controlled oscillator (HERMES) runs as fast as its column's current: the time is fixed, and the counts are
    the code. A ramp, or packets of charge that are taken from an integrator (NeuRRAM), goes on until the comparator
    trips: counts are the code too, and with `stops = "early"` so is the time, on average. Energy then hangs on what was
    computed: small sums are cheap.
    """

    LIMITS: ClassVar[Reach] = {"bits": (1, 16)}
    VALID: ClassVar[Reach] = {"bits": (3, 12)}
    """Beyond, 4096 counts and more of a GHz clock take longer than any read."""

    count_energy: Float[Array, ""] = leaf("J", "energy of a count at `rated_vdd`", low=0)
    static_power: Float[Array, ""] = leaf("W", "power while it converts", low=0)
    frequency: Float[Array, ""] = leaf("1/s", "counts a second, at most", low=1)
    converter_area: Float[Array, ""] = leaf("m^2", "area of a converter", low=0)
    counter_area: Float[Array, ""] = leaf("m^2", "area of the counter, a bit", low=0, default=0.0)
    rated_vdd: Float[Array, ""] | None = leaf(
        "V", "supply of these figures, whose square a count goes with; absent: it ignores the supply", low=0.1, high=5,
        default=None,
    )  # fmt: skip
    stops: str = static("when a conversion ends", choices=("full", "early"), default="full")

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion; `code` is the mean magnitude of the codes over the largest."""
        square = 1.0 if self.rated_vdd is None else (vdd / self.rated_vdd) ** 2
        time = self.latency(bits, 0.0) * (code if self.stops == "early" else 1.0)
        return jnp.exp2(bits) * code * self.count_energy * square + self.static_power * time

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of the longest conversion: columns side by side wait for it."""
        return jnp.exp2(bits) / self.frequency

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self.converter_area + bits * self.counter_area
