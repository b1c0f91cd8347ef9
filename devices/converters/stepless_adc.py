"""An output converter without steps: the digital side gets exactly what arrives at it."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import record


@record
class Stepless:
    """Codes of any value, neither rounded nor clipped: noise, gain, offset and INL of the converter are left.

    For seeing the errors of all else alone: `adc.bits` then only says what an LSB is.
    """

    numbers: ClassVar[int] = 0
    max_bits: ClassVar[int] = 16

    def code(
        self,
        level: Float[Array, "*n"],
        low: Float[Array, ""],
        high: Float[Array, ""],
        frozen: Float[Array, "numbers *m"],
    ) -> Float[Array, "*n"]:
        """The level itself."""
        return jnp.asarray(level)
