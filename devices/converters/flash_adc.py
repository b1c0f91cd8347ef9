"""The flash converter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record, static


@record
class Flash:
    """A comparator for each step between two codes; the code is the number of those that the signal exceeds.

    Each comparator has an offset of its own. As the number counts, the order of thresholds that cross does not matter
    (a thermometer code with bubbles put right).
    """

    sigma_comparator: Float[Array, ""] = leaf("1", "standard deviation of a comparator's offset, in LSB", low=0)
    max_bits: int = static("largest resolution: 2^max_bits - 1 offsets are kept for each converter", low=2, default=6)

    @property
    def numbers(self) -> int:
        """Standard normal numbers that a converter takes."""
        return 2**self.max_bits - 1

    def code(
        self,
        level: Float[Array, "*n"],
        low: Float[Array, ""],
        high: Float[Array, ""],
        frozen: Float[Array, "numbers *m"],
    ) -> Float[Array, "*n"]:
        """Codes of a signal in LSB; `frozen` are the standard normal numbers of the converters."""

        def compare(code, comparator):
            k, number = comparator
            exceeded = (k < high - low) & (level > k + low + 0.5 + self.sigma_comparator * number)
            return code + exceeded, None

        comparators = jnp.arange(self.numbers, dtype=jnp.float32), frozen
        code, _ = jax.lax.scan(compare, jnp.zeros_like(level) + low, comparators)
        return code
