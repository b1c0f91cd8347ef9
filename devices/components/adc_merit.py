"""Converters by a figure of merit: Walden's energy a step, or Schreier's dB of noise-limited ones."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach, effective_bits
from pim.devices.record import leaf, record


@record
class WaldenADCCost:
    """E = merit 2^enob: twice as much a bit, as matching asks for (R. H. Walden, IEEE JSAC 17, 539, 1999).

    Of 405 Nyquist converters the best has 0.35 fJ; the median at 32 nm and finer is 78 fJ at 5 effective bits and 11 fJ
    at 10, so that one figure serves for few bits around its own.
    """

    LIMITS: ClassVar[Reach] = {"enob": (1, 16)}

    merit: Float[Array, ""] = leaf("J", "energy a conversion step", low=0)
    enob_loss: Float[Array, ""] = leaf("1", "bits less the effective number of bits", low=0, high=8)
    rate: Float[Array, ""] = leaf("1/s", "conversions a second", low=1)
    converter_area: Float[Array, ""] = leaf("m^2", "area of a converter", low=0)

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """The effective bits."""
        return effective_bits(around, self.enob_loss)

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion, at the supply of the designs that have this merit."""
        return self.merit * jnp.exp2(bits - self.enob_loss)

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion: one period of the rate."""
        return 1.0 / self.rate

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self.converter_area


@record
class SchreierADCCost:
    """E = 1 / (2 10^((merit - SNDR) / 10)), SNDR = 6.02 enob + 1.76 dB: four times as much a bit, as noise asks for.

    The best Nyquist converter below 100 MS/s has 186.8 dB, one in ten 176.7 or more (Murmann's survey, 2025). Below
    about 8 effective bits nothing built comes near it: what charges wires and gates does not shrink with the bits.
    """

    VALID: ClassVar[Reach] = {"enob": (8, 16)}
    LIMITS: ClassVar[Reach] = {"enob": (1, 20)}

    merit: Float[Array, ""] = leaf("1", "figure of merit in dB, that is of Hz/W", low=100, high=220)
    enob_loss: Float[Array, ""] = leaf("1", "bits less the effective number of bits", low=0, high=8)
    rate: Float[Array, ""] = leaf("1/s", "conversions a second", low=1)
    converter_area: Float[Array, ""] = leaf("m^2", "area of a converter", low=0)

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """The effective bits."""
        return effective_bits(around, self.enob_loss)

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion, at the supply of the designs that have this merit."""
        ratio = 6.02 * (bits - self.enob_loss) + 1.76
        return jnp.exp(jnp.log(10.0) * (ratio - self.merit) / 10.0) / 2.0

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion: one period of the rate."""
        return 1.0 / self.rate

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self.converter_area
