"""Refresh: whole stalls of a channel, as many as fall into a product."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Refresh:
    """All banks of a channel stop every `n_refi` cycles; a row's turn comes with every 8192nd of them in most memories.

    How long cells must hold their charge meanwhile is the `refresh_interval` of `RetentionErrors`: to refresh less
    often, change both.

    Of work that starts by itself whole refreshes are counted: the average is 10 % too long for products that end before
    the first. Of one product among many nobody knows how many fall into it: there the average holds.
    """

    n_refi: Float[Array, ""] = leaf("1", "cycles from one refresh to the next", low=1)
    n_rfc: Float[Array, ""] = leaf("1", "cycles that a refresh of all banks takes", low=0)
    n_reopen: Float[Array, ""] = leaf(
        "1", "cycles lost beside them: closing the rows and opening them again", low=0, default=0.0
    )
    n_first: Float[Array, ""] | None = leaf(
        "1", "cycles from the start of work to the first refresh; absent: a whole interval", low=0, default=None
    )

    @property
    def stall(self) -> Float[Array, ""]:
        """Cycles that a refresh costs."""
        return self.n_rfc + self.n_reopen

    def average(self, cycles: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Refreshes that fall into so many cycles out of a long course of work, on average: no whole number."""
        return cycles / jnp.maximum(self.n_refi - self.stall, 1.0)

    def count(self, cycles: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Refreshes that fall into so many cycles of work: between two there are n_refi - stall of it."""
        first = self.n_refi if self.n_first is None else self.n_first
        between = jnp.maximum(self.n_refi - self.stall, 1.0)
        return jnp.maximum(jnp.floor((cycles - first) / between) + 1.0, 0.0)
