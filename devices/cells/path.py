"""The latent path of a cell: one standard normal number a cell at every time, correlated between times.

Ageing is a path of the same chip, not a new draw at each time. A law of relaxation therefore asks for the cell's latent
z(t) and maps it through its own distribution at that time (a Gaussian copula in time). The correlation of z between two
knots s decades apart is `slow_share * exp(-s / slow_decades)`: a slow part (diffusion in log time) and, for the rest,
a part that is independent from knot to knot (random telegraph noise and the noise of the measurement itself).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import mixed_normal
from pim.devices.record import leaf, record


@record
class LatentPath:
    """Correlation of a cell's latent state between the times at which its law is tabulated."""

    slow_share: Float[Array, ""] = leaf(
        "1", "share of the slow part in the variance of the latent state", low=0, high=1
    )
    slow_decades: Float[Array, ""] = leaf(
        "1", "decades of time over which the slow part loses 1/e of its correlation", low=1e-3
    )

    def correlation(self, times: Float[Array, "knots"]) -> Float[Array, "knots knots"]:
        """Correlation of the latent state between the knots (s)."""
        decades = jnp.log10(times)
        apart = jnp.abs(decades[:, None] - decades[None, :])
        slow = self.slow_share * jnp.exp(-apart / self.slow_decades)
        return jnp.where(apart == 0, 1.0, slow)

    def at(
        self, key: Key[Array, ""], shape: tuple[int, ...], times: Float[Array, "knots"], time
    ) -> Float[Array, "..."]:
        """Latent z (unit variance) at `time` (s) of cells in an array of that shape: a draw each for every knot, mixed.

        Between knots the two neighbours are mixed linearly in log time and rescaled, which keeps the variance one.
        """
        k, f = bracket(times, time)
        factor = jnp.linalg.cholesky(self.correlation(times))
        row = (1 - f) * factor[k] + f * factor[k + 1]
        return mixed_normal(key, shape, row / jnp.sqrt(row @ row))


def bracket(times: Float[Array, "knots"], time) -> tuple[Array, Float[Array, ""]]:
    """Index k of the knot before `time` and the fraction of the way to the next, in log time.

    Outside the knots the fraction is NaN: a law is not extrapolated. Callers with a concrete time raise before.
    """
    s, knots = jnp.log10(jnp.asarray(time, jnp.float32)), jnp.log10(times)
    k = jnp.clip(jnp.searchsorted(knots, s, side="right") - 1, 0, times.shape[0] - 2)
    f = (s - knots[k]) / (knots[k + 1] - knots[k])
    slack = 1e-4  # times are float32: 172800.0 must count as inside [1, 172800]
    return k, jnp.where((f >= -slack) & (f <= 1 + slack), jnp.clip(f, 0.0, 1.0), jnp.nan)
