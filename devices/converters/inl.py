"""Integral non-linearity (INL): how far a converter's transfer curve leaves the straight line.

Part of every converter of a design alike. Any `StateLaw` will do, as a function of u = signal / full scale in [-1, 1],
its value in LSB: `Polynomial` for a fit, `TabulatedINL` for a measured curve. What differs from one converter to the
next is mismatch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class TabulatedINL:
    """A measured curve: values at equally spaced signals from -full scale to +full scale, linear in between.

    Example:
        >>> TabulatedINL([0.0, -0.4, 0.0, 0.4, 0.0])   # bows outwards by 0.4 LSB half way on either side
    """

    values: Float[Array, "points"] = leaf("1", "what the converter reads too high, in LSB, from -1 to 1 of full scale")

    def __call__(self, u: Float[Array, "*signals"]) -> Float[Array, "*signals"]:
        """The deviation (LSB) at signals `u` in [-1, 1]."""
        last = self.values.shape[0] - 1
        place = (jnp.clip(u, -1.0, 1.0) + 1.0) * (0.5 * last)
        left = jnp.clip(jnp.floor(place), 0, max(last - 1, 0)).astype(jnp.int32)
        low, high = self.values[left], self.values[jnp.minimum(left + 1, last)]
        return low + (place - left) * (high - low)
