"""SAR converter from its parts: a binary array of capacitors, a comparator, and logic a bit cycle."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.constants import BOLTZMANN
from pim.devices.reach import Reach
from pim.devices.record import leaf, record, static

SWITCHING = {
    "conventional": "a guess that is too high is taken back: most charge is moved twice",
    "monotonic": "from the top down only, one capacitor a cycle (Liu et al., JSSC 45, 731, 2010)",
    "vcm": "around the common mode, with the first bit for free (Zhu et al., JSSC 45, 1111, 2010)",
}


@record
class SarADCCost:
    """Successive approximation, differential: capacitors over all codes alike, a comparator and logic each cycle.

        E = s(b) C_u vdd^2 + b (C_comparator + C_logic) vdd^2      t = (b + 1) / clock

    with the mean switching energies in C_u vdd^2 (1363.3, 255.5 and 170.2 at 10 bits)

        conventional    s = sum over i = 1..b of 2^(b+1-2i) (2^i - 1)    = 2^(b+1) (1 - 2^-b - (1 - 4^-b) / 3)
        monotonic       s = sum over i = 1..b-1 of 2^(b-2-i)             = 2^(b-2) - 1/2
        vcm             s = sum over i = 1..b-1 of 2^(b-2-2i) (2^i - 1)  = 2^(b-2) (1 - 2^(1-b) - (1 - 4^(1-b)) / 3)

    `clock` counts bit cycles; the rate of conversions is b + 1 times smaller. The array has 2^b C_u a side, half of
    that where the first bit is free (monotonic, vcm), and at least what holds the noise kT/C to that of the steps,
    12 kT 4^b / noise_vdd^2: from some resolution on energy goes as 4^b, whatever C_u.
    """

    VALID: ClassVar[Reach] = {"bits": (3, 12)}
    """Beyond, matching of a binary array takes calibration or a split array."""
    LIMITS: ClassVar[Reach] = {"bits": (2, 16)}

    unit_capacitance: Float[Array, ""] = leaf("F", "the smallest capacitor, C_u", low=0)
    comparator_capacitance: Float[Array, ""] = leaf("F", "capacitance that the comparator switches a decision", low=0)
    logic_capacitance: Float[Array, ""] = leaf("F", "capacitance that register and logic switch a bit cycle", low=0)
    clock: Float[Array, ""] = leaf("1/s", "bit cycles a second", low=1)
    capacitance_density: Float[Array, ""] = leaf("F/m^2", "capacitance an area of the array", low=1e-6)
    comparator_area: Float[Array, ""] = leaf("m^2", "area of the comparator", low=0)
    logic_area: Float[Array, ""] = leaf("m^2", "area of register and logic a bit", low=0)
    noise_vdd: Float[Array, ""] = leaf("V", "full scale for which the array is sized", low=0.1, high=5, default=0.9)
    temperature: Float[Array, ""] = leaf("K", "at which it is sized", low=1, default=300.0)
    switching: str = static(
        "how the capacitors are switched", choices=tuple(SWITCHING), meanings=SWITCHING, default="conventional"
    )

    def _units(self, bits) -> Float[Array, "..."]:
        """C_u on a side."""
        return jnp.exp2(jnp.asarray(bits, jnp.float32) - (0.0 if self.switching == "conventional" else 1.0))

    def _unit(self, bits) -> Float[Array, "..."]:
        """C_u (F) as matching or noise asks for it."""
        noise = 12.0 * BOLTZMANN * self.temperature * jnp.exp2(2.0 * bits) / self.noise_vdd**2
        return jnp.maximum(self.unit_capacitance, noise / self._units(bits))

    def switched_units(self, bits) -> Float[Array, "..."]:
        """Mean energy of the capacitors over all codes, in C_u vdd^2."""
        bits = jnp.asarray(bits, jnp.float32)
        if self.switching == "conventional":
            return jnp.exp2(bits + 1) * (1 - jnp.exp2(-bits) - (1 - jnp.exp2(-2 * bits)) / 3)
        if self.switching == "monotonic":
            return jnp.exp2(bits - 2) - 0.5
        return jnp.exp2(bits - 2) * (1 - jnp.exp2(1 - bits) - (1 - jnp.exp2(2 - 2 * bits)) / 3)

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion."""
        cycles = bits * (self.comparator_capacitance + self.logic_capacitance)
        return (self.switched_units(bits) * self._unit(bits) + cycles) * vdd**2

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion: a cycle to sample and one a bit."""
        return (bits + 1) / self.clock

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter, with both sides of the array."""
        capacitors = 2 * self._units(bits) * self._unit(bits) / self.capacitance_density
        return capacitors + self.comparator_area + bits * self.logic_area
