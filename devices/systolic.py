"""Systolic arrays: what a product takes there that does not fill them.

An array multiplies blocks of so many inputs by so many outputs, and each block for so many vectors at a time; what is
less takes as long as a whole one. Filling and draining is hidden behind the next block, as ONNXim and the simulator of
NeuPIMs have it, where a block of 128 x 128 x 128 takes 16 cycles of eight arrays of 128 x 128 whatever is in it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class SystolicArrays:
    """The block that arrays multiply at a time.

    Example:
        >>> float(SystolicArrays(128, 128, 128).padded(128.0, 100.0, 1.0)) == 128.0**3
        True
    """

    inputs: Float[Array, ""] = leaf("1", "inputs of a block", low=1)
    outputs: Float[Array, ""] = leaf("1", "outputs of a block", low=1)
    vectors: Float[Array, ""] = leaf("1", "vectors that a block is multiplied by at a time", low=1)

    def padded(self, n_in, n_out, vectors) -> Float[Array, "..."]:
        """Multiply-accumulates of a product with all its blocks filled up; 0 where there is no product."""
        sides = ((n_in, self.inputs), (n_out, self.outputs), (vectors, self.vectors))
        whole = [jnp.ceil(size / block) * block for size, block in sides]
        return whole[0] * whole[1] * whole[2]
