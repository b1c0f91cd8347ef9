"""What converters of a resolution were built for: the 10th percentile and the median of Murmann's survey."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach, effective_bits
from pim.devices.record import leaf, record, static

CLASSES = (33e-9, 66e-9)
"""Nodes (m) at which the next coarser class begins: to 32 nm, 33 to 65 nm, and all converters for what is coarser."""
BINS = (5, 6, 7, 8, 9, 10, 11, 12)
"""Effective bits: a bin holds what rounds to it."""
ENERGIES = {
    "p10": (
        (1.543538, 1.466667, 1.440833, 5.1625, 11.3, 3.661538, 9.3, 6.584615),
        (1.116364, 4.63975, 2.301429, 7.473303, 0.88, 8.356629, 8.21, 10.05),
        (1.26, 1.496, 1.66275, 5.316923, 1.7, 4.596667, 10.5, 7.02),
    ),
    "median": (
        (2.285714, 2.55, 3.25, 10.48333, 44.16667, 10.75, 15.3, 7.2),
        (7.9, 8.2325, 3.636364, 23.75, 14.0, 42.16667, 20.0, 24.41667),
        (7.9, 6.647619, 5.675, 35.0, 110.0, 19.5, 84.33333, 419.375),
    ),
}
"""pJ a conversion, by class of nodes and bin; 5 to 21 designs each, in the last class 14 to 81."""
AREAS = {
    "p10": (
        (17960, 1500, 4000, 7800, 37900, 5480, 16000, 14200),
        (21000, 18480, 3310, 41800, 26860, 18000, 23280, 40100),
        (20200, 3200, 4180, 12880, 33500, 8540, 19870, 18000),
    ),
    "median": (
        (78000, 4500, 18000, 167000, 240000, 27000, 39600, 18000),
        (90000, 83500, 7000, 225000, 89812.5, 76000, 60000, 131500),
        (120000, 87000, 67500, 225000, 270000, 95000, 290000, 1980000),
    ),
}
"""um^2, in the same order."""


@record
class SurveyADCCost:
    """Energy and area of published Nyquist converters by effective bits and node, without a curve through them.

    Energies of one bin scatter over more than a decade, so that a regression's mean says little (R^2 = 0.52 over all,
    0.24 over SAR converters); a percentile is named instead: "p10", what the better ones take, or "median". In between
    bins the logarithm is interpolated. The table is not monotone: so few designs are in a bin. Below 5 effective bits
    the lowest bin holds (energy is flat there), above 12 the last grows fourfold a bit, as noise asks for.

    Source: B. Murmann, ADC Performance Survey, revision 2025-06-09 (BSD-3), 405 Nyquist converters.
    """

    VALID: ClassVar[Reach] = {"enob": (5, 12), "node": (5e-9, 65e-9)}
    LIMITS: ClassVar[Reach] = {"enob": (1, 16)}

    node: Float[Array, ""] = leaf("m", "technology node; only its class counts", low=1e-9, high=1e-6)
    rate: Float[Array, ""] = leaf("1/s", "conversions a second", low=1)
    enob_loss: Float[Array, ""] = leaf("1", "bits less the effective number of bits", low=0, high=8)
    percentile: str = static("of the survey's designs", choices=("p10", "median"), default="p10")

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """The effective bits."""
        return effective_bits(around, self.enob_loss)

    def _looked_up(self, table: dict[str, tuple], enob, decades_per_bit: float) -> Float[Array, "..."]:
        at = jnp.asarray(BINS, jnp.float32)
        enob = jnp.asarray(enob, jnp.float32)
        rows = [jnp.interp(enob, at, jnp.log10(jnp.asarray(row, jnp.float32))) for row in table[self.percentile]]
        fine, coarse = CLASSES
        of_class = jnp.where(self.node < fine, rows[0], jnp.where(self.node < coarse, rows[1], rows[2]))
        return 10.0 ** (of_class + decades_per_bit * jnp.maximum(enob - BINS[-1], 0.0))

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion, at whatever supply the designs had."""
        return self._looked_up(ENERGIES, bits - self.enob_loss, 2 * 0.30103) * 1e-12

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion: one period of the rate."""
        return 1.0 / self.rate

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self._looked_up(AREAS, bits - self.enob_loss, 0.0) * 1e-12
