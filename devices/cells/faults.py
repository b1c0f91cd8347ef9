"""Stuck cells: named by the state they are stuck in, since SA0 and SA1 mean opposite things in different tools."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import fold, uniform
from pim.devices.record import leaf, record


def _share(state: str, of: str):
    return leaf("1", f"share of {of} stuck in the {state}", low=0, high=1, default=0.0)


LRS, HRS = "low-resistance state (g_max)", "high-resistance state (g_min)"


@record
class StuckFaults:
    """Cells that ignore programming, the same over the life of a chip: single ones, and whole rows and columns.

    A row that is stuck is so in all columns of its array, a column in all rows; where patterns cross, the
    low-resistance state wins.
    """

    stuck_lrs: Float[Array, ""] = leaf("1", f"share of cells stuck in the {LRS}", low=0, high=1)
    stuck_hrs: Float[Array, ""] = leaf("1", f"share of cells stuck in the {HRS}", low=0, high=1)
    rows_stuck_lrs: Float[Array, ""] = _share(LRS, "rows")
    rows_stuck_hrs: Float[Array, ""] = _share(HRS, "rows")
    columns_stuck_lrs: Float[Array, ""] = _share(LRS, "columns")
    columns_stuck_hrs: Float[Array, ""] = _share(HRS, "columns")

    def apply(
        self, g: Float[Array, "*lead rows columns"], g_min, g_max, key: Key[Array, ""]
    ) -> Float[Array, "*lead rows columns"]:
        """Conductances (S) with the stuck cells at `g_max` and `g_min`."""
        rows, columns = g.shape[-2:]
        cells = uniform(key, g.shape)
        lines = uniform(fold(key, 0), (rows, 1)), uniform(fold(key, 1), (*g.shape[:-2], 1, columns))
        draws = (
            (cells, self.stuck_lrs, self.stuck_hrs),
            (lines[0], self.rows_stuck_lrs, self.rows_stuck_hrs),
            (lines[1], self.columns_stuck_lrs, self.columns_stuck_hrs),
        )
        for u, lrs, hrs in draws:
            g = jnp.where((u >= lrs) & (u < lrs + hrs), g_min, g)
        for u, lrs, _ in draws:
            g = jnp.where(u < lrs, g_max, g)
        return g
