"""The successive-approximation converter (SAR)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.capacitors import MAGNITUDE_BITS, binary_weights
from pim.devices.record import leaf, record


@record
class SAR:
    """Weighs the magnitude of the signal against binary-weighted capacitors, the largest first; sign apart.

    Capacitors with mismatch, drawn for each converter, give non-linearity that is worst where the largest one switches:
    sigma_unit sqrt(2^(bits-1)) / 2 LSB. A converter that counts from zero has one capacitor more and no sign. Sources:
    textbook (the binomial walk of the code); sigma_unit = 0.664 % at 1 fF, falling as 1 / sqrt(C), in 28 nm (arXiv
    2507.09776).
    """

    numbers: ClassVar[int] = MAGNITUDE_BITS
    max_bits: ClassVar[int] = MAGNITUDE_BITS

    sigma_unit: Float[Array, ""] = leaf("1", "standard deviation of a unit capacitor, relative", low=0, high=0.2)

    def code(
        self, level: Float[Array, "*n"], low: Float[Array, ""], high: Float[Array, ""], frozen: Float[Array, "16 *m"]
    ) -> Float[Array, "*n"]:
        """Codes of a signal in LSB; `frozen` are the standard normal numbers of the converters."""
        place, weights = binary_weights(self.sigma_unit, high, frozen)

        def weigh(state, bit):
            rest, code = state
            nominal, weight = bit
            heavier = (nominal > 0) & (rest >= weight)
            return (jnp.where(heavier, rest - weight, rest), jnp.where(heavier, code + nominal, code)), None

        start = jnp.abs(level) + 0.5, jnp.zeros_like(level)  # half a step makes it round rather than cut off
        (_, code), _ = jax.lax.scan(weigh, start, (place, weights), reverse=True)
        return jnp.clip(jnp.sign(level) * code, low, high)
