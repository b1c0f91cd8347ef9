"""Fit of Andrulis et al. to a survey of published converters."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach, effective_bits
from pim.devices.record import leaf, record


@record
class AndrulisADCCost:
    """Fit to a survey of published converters, for an effective resolution, a rate f and a node L.

        FoM_S = min(fom_rate - fom_decay ln f, fom_base + fom_per_bit ceil(enob))                        dB
        E = 1 / (2 10^((FoM_S - 6.02 enob - 1.76) / 10)) exp(e_0 + e_node ln(L / nm) - e_enob ln enob)   pJ
        A = exp(a_0 + a_node ln(L / nm) + a_rate ln f + a_energy ln(E / pJ))                             um^2

    The energy is fitted to the best designs of the survey; others lie up to a decade above. `enob` lies below
    the bits by `enob_loss` (the 8-bit converter that ISAAC cites has 6.2 effective ones). The law knows no
    supply, and extrapolates below 16 nm.

    Source: Andrulis et al., arXiv 2404.06553, as in hwcomponents-adc. Published values: fom 213.78, 2.872,
    128.31, 3.2205; energy 24.58, 1.880, 2.829; area 1.346, 0.993, 0.181, 0.299.
    """

    VALID: ClassVar[Reach] = {"node": (16e-9, 180e-9), "enob": (4, 12)}
    LIMITS: ClassVar[Reach] = {"enob": (1, 16)}

    node: Float[Array, ""] = leaf("m", "technology node", low=1e-9, high=1e-6)
    rate: Float[Array, ""] = leaf("1/s", "conversions a second", low=1)
    enob_loss: Float[Array, ""] = leaf("1", "bits less the effective number of bits", low=0, high=8)
    fom_rate: Float[Array, ""] = leaf("1", "figure of merit (dB) of fast converters at 1 Hz")
    fom_decay: Float[Array, ""] = leaf("1", "its loss (dB) with ln of the rate")
    fom_base: Float[Array, ""] = leaf("1", "figure of merit (dB) of slow converters at zero bits")
    fom_per_bit: Float[Array, ""] = leaf("1", "its gain (dB) a bit")
    energy_log: Float[Array, ""] = leaf("1", "ln of the correction at 1 nm and one bit, energies in pJ")
    energy_node: Float[Array, ""] = leaf("1", "exponent of the node in the energy")
    energy_enob: Float[Array, ""] = leaf("1", "exponent of 1 / enob in the energy")
    area_log: Float[Array, ""] = leaf("1", "ln of the area in um^2 at 1 nm, 1 Hz, 1 pJ")
    area_node: Float[Array, ""] = leaf("1", "exponent of the node in the area")
    area_rate: Float[Array, ""] = leaf("1", "exponent of the rate in the area")
    area_energy: Float[Array, ""] = leaf("1", "exponent of the energy in the area")

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """The effective bits, for which the fit was made."""
        return effective_bits(around, self.enob_loss)

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion, at whatever supply the surveyed design had."""
        enob = bits - self.enob_loss
        merit = jnp.minimum(
            self.fom_rate - self.fom_decay * jnp.log(self.rate),
            self.fom_base + self.fom_per_bit * jnp.ceil(enob),
        )
        exponent = (6.02 * enob + 1.76 - merit) / 10.0
        correction = self.energy_log + self.energy_node * jnp.log(self.node * 1e9) - self.energy_enob * jnp.log(enob)
        return jnp.exp(exponent * jnp.log(10.0) + correction) / 2.0 * 1e-12

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion: one period of the rate."""
        return 1.0 / self.rate

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        logarithm = (
            self.area_log
            + self.area_node * jnp.log(self.node * 1e9)
            + self.area_rate * jnp.log(self.rate)
            + self.area_energy * jnp.log(self.energy(bits, 0.0, 0.5) * 1e12)
        )
        return jnp.exp(logarithm) * 1e-12
