"""Flash converter: a comparator for each step, all of which decide at once."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record


@record
class FlashADCCost:
    """2^bits - 1 comparators, each charged once a conversion, and the ladder of their references.

        E = (2^b - 1) C vdd^2 + ladder_power t      t = decision_time      A = (2^b - 1) comparator_area

    What encodes the comparators' outputs belongs to C and comparator_area.
    """

    VALID: ClassVar[Reach] = {"bits": (1, 7)}
    """Beyond, input capacitance and offsets of 127 comparators and more make designers fold or interpolate."""
    LIMITS: ClassVar[Reach] = {"bits": (1, 12)}

    comparator_capacitance: Float[Array, ""] = leaf("F", "capacitance that a comparator switches a decision", low=0)
    comparator_area: Float[Array, ""] = leaf("m^2", "area of a comparator with its share of the encoder", low=0)
    decision_time: Float[Array, ""] = leaf("s", "time of a conversion", low=0)
    ladder_power: Float[Array, ""] = leaf("W", "power of the references", low=0, default=0.0)

    def _comparators(self, bits) -> Float[Array, "..."]:
        return jnp.exp2(bits) - 1.0

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion: all comparators fire, whatever the code."""
        switched = self._comparators(bits) * self.comparator_capacitance * vdd**2
        return switched + self.ladder_power * self.decision_time

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion."""
        return self.decision_time * jnp.ones(jnp.shape(bits))

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self._comparators(bits) * self.comparator_area
