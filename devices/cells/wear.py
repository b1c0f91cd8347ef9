"""Wear: what the writes that a cell has seen take from it: its window narrows, and in the end it is stuck.

The window closes by a power law of the number of writes, log10 G = log10 G_fresh - slope (log10 N - log10 N_onset)
above the onset: the form of MemTorch (C. Lammie et al., 2021: log10 R = log10 R_0 + p_3 (p_1 size + p_2 T)
(log10 x - log10 x_th)), with its p_3 (p_1 size + p_2 T) as the slope of the state and its x_th as the onset. Lives are
Weibull, as those of dielectrics and filaments that fail at their weakest place.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from pim.devices.random import fold, uniform
from pim.devices.record import leaf, record


@record
class Wear:
    """A window that narrows with the writes, and cells that die at a number of writes of their own.

    A cell that is told to take a state beyond its worn window takes the nearest state in it, write error and all. Which
    cells are dead follows from one number a cell: what is dead after N writes is dead after any more.
    """

    cycles: Float[Array, ""] = leaf("1", "writes that the cells had seen before the chip was programmed", low=0)
    onset: Float[Array, ""] = leaf("1", "writes up to which the window is the fresh one", low=1, default=1.0)
    top_loss: Float[Array, ""] = leaf(
        "1", "decades of g_max lost for each decade of writes beyond the onset", low=0, high=3, default=0.0
    )
    bottom_loss: Float[Array, ""] = leaf(
        "1", "decades gained by g_min for each decade of writes beyond the onset", low=0, high=3, default=0.0
    )
    life: Float[Array, ""] | None = leaf(
        "1", "writes after which 63 % of the cells are dead; absent: none dies", low=1, default=None
    )
    shape: Float[Array, ""] = leaf("1", "Weibull shape of the lives; above 1 they lie close", low=0.05, default=1.0)
    dead_lrs: Float[Array, ""] = leaf(
        "1",
        "share of the dead cells that is stuck in the low-resistance state (g_max), the others in g_min",
        low=0,
        high=1,
        default=0.5,
    )

    def writes(self, cycle=None) -> Float[Array, ""]:
        """Writes seen by cells that have been written `cycle` times again since the chip was programmed."""
        return jnp.asarray(self.cycles + (0.0 if cycle is None else jnp.asarray(cycle, jnp.float32)))

    def window(self, g_min, g_max, cycle=None) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Lowest and highest state (S) that the worn cells take; they meet where nothing is left of the window."""
        decades = jnp.log10(jnp.maximum(self.writes(cycle) / self.onset, 1.0))
        low, high = g_min * 10.0 ** (self.bottom_loss * decades), g_max * 10.0 ** (-self.top_loss * decades)
        # where the window has closed: the geometric mean of the two, as both edges move by decades
        middle = jnp.sqrt(jnp.maximum(low * high, 1e-30))
        closed = low > high
        return jnp.where(closed, middle, low), jnp.where(closed, middle, high)

    def reach(self, target: Float[Array, "*cells"], g_min, g_max, cycle=None) -> Float[Array, "*cells"]:
        """The state (S) that worn cells can take of `target` (S)."""
        low, high = self.window(g_min, g_max, cycle)
        return jnp.clip(target, low, high)

    def dead_share(self, cycle=None) -> Float[Array, ""]:
        """Share of the cells that are dead: 1 - exp(-(N / life)^shape)."""
        if self.life is None:
            return jnp.zeros(())
        used = self.writes(cycle) / self.life
        power = jnp.where(used > 0, jnp.where(used > 0, used, 1.0) ** self.shape, 0.0)  # the slope at 0 may be infinite
        return -jnp.expm1(-power)

    def writes_until(self, share: float) -> Float[Array, ""] | None:
        """Writes, those before the chip was programmed among them, by which a share of the cells is dead.

        That is life (-ln(1 - share))^(1/shape); None if none dies.

        >>> wear.writes_until(0.01)
        """
        if self.life is None:
            return None
        return self.life * (-jnp.log1p(-jnp.asarray(share, jnp.float32))) ** (1.0 / self.shape)

    def bury(self, g: Float[Array, "*cells"], g_min, g_max, key: Key[Array, ""], cycle=None) -> Float[Array, "*cells"]:
        """Conductances (S) with the dead cells where they are stuck."""
        if self.life is None:
            return g
        stuck = jnp.where(uniform(fold(key, 1), g.shape) < self.dead_lrs, g_max, g_min)
        return jnp.where(self.dead(g.shape, key, cycle), stuck, g)

    def dead(self, shape: tuple[int, ...], key: Key[Array, ""], cycle=None) -> Bool[Array, "..."]:
        """Which cells are dead."""
        return uniform(fold(key, 0), shape) < self.dead_share(cycle)
