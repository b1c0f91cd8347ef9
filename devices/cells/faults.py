"""Stuck cells: named by the state they are stuck in, since SA0 and SA1 mean opposite things in different tools."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Key

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

    def states(
        self, key: Key[Array, ""], shape: tuple[int, ...], spares: int = 0
    ) -> Int8[Array, "*lead rows all_columns"]:
        """What a test of the chip finds: 1 for a cell stuck in the low-resistance state, -1 in the other, 0 for others.

        Args:
            key: of the array's faults.
            shape: of its cells, [..., rows, columns].
            spares: columns beyond those, which stand behind them; more of them change no other cell.
        """
        *lead, rows, columns = shape
        row = uniform(fold(key, 0), (rows, 1))
        parts = [(uniform(key, shape), uniform(fold(key, 1), (*lead, 1, columns)))]
        if spares:
            parts.append((uniform(fold(key, 2), (*lead, rows, spares)), uniform(fold(key, 3), (*lead, 1, spares))))
        return jnp.concatenate([self._states(cells, row, column) for cells, column in parts], axis=-1)

    def _states(self, cells: Array, row: Array, column: Array) -> Int8[Array, "*lead rows columns"]:
        draws = (
            (cells, self.stuck_lrs, self.stuck_hrs),
            (row, self.rows_stuck_lrs, self.rows_stuck_hrs),
            (column, self.columns_stuck_lrs, self.columns_stuck_hrs),
        )
        state = jnp.zeros(cells.shape, jnp.int8)
        for u, lrs, hrs in draws:
            state = jnp.where((u >= lrs) & (u < lrs + hrs), jnp.int8(-1), state)
        for u, lrs, _ in draws:
            state = jnp.where(u < lrs, jnp.int8(1), state)
        return state

    def apply(
        self, g: Float[Array, "*lead rows columns"], g_min, g_max, key: Key[Array, ""], states: Array | None = None
    ) -> Float[Array, "*lead rows columns"]:
        """Conductances (S) with the stuck cells at `g_max` and `g_min`; `states` if rows or columns were moved."""
        states = self.states(key, g.shape) if states is None else states
        return jnp.where(states > 0, g_max, jnp.where(states < 0, g_min, g))
