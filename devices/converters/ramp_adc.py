"""The ramp converter, and the oscillator that counts."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Ramp:
    """Counts the time that a ramp needs to pass the signal, or the cycles of an oscillator that it drives (CCO).

    Neither is quite straight: half way to full scale the count is off by `bow`, on either side of zero,

        level + sign(level) 4 bow |u| (1 - |u|),   u = level / full scale,

    which is exact at zero, where the converter begins to count, and at full scale. The bow differs from converter to
    converter by `sigma_bow`.
    """

    numbers: ClassVar[int] = 1
    max_bits: ClassVar[int] = 16

    bow: Float[Array, ""] = leaf("1", "what half of full scale reads too high, in LSB", default=0.0)
    sigma_bow: Float[Array, ""] = leaf("1", "its standard deviation between converters, in LSB", low=0, default=0.0)

    def code(
        self, level: Float[Array, "*n"], low: Float[Array, ""], high: Float[Array, ""], frozen: Float[Array, "1 *m"]
    ) -> Float[Array, "*n"]:
        """Codes of a signal in LSB; `frozen` are the standard normal numbers of the converters."""
        u = jnp.clip(level / high, -1.0, 1.0)
        bow = self.bow + self.sigma_bow * frozen[0]
        return jnp.clip(jnp.round(level + 4.0 * bow * u * (1.0 - jnp.abs(u))), low, high)
