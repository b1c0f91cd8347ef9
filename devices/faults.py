"""Stuck cells: named by the state they are stuck in, since SA0 and SA1 mean opposite things in different tools."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import uniform
from pim.devices.record import leaf, record


@record
class StuckFaults:
    """Cells that ignore programming, independent from cell to cell and the same over the life of a chip."""

    stuck_lrs: Float[Array, ""] = leaf("1", "share of cells stuck in the low-resistance state (g_max)", low=0, high=1)
    stuck_hrs: Float[Array, ""] = leaf("1", "share of cells stuck in the high-resistance state (g_min)", low=0, high=1)

    def apply(self, g: Float[Array, "*cells"], g_min, g_max, key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Conductances (S) with the stuck cells at `g_max` and `g_min`."""
        u = uniform(key, g.shape)
        return jnp.where(u < self.stuck_lrs, g_max, jnp.where(u < self.stuck_lrs + self.stuck_hrs, g_min, g))
