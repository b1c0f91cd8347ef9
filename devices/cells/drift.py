"""Drift: how a cell's conductance moves with time by a law of its own, each cell at its own pace.

Where relaxation is a random shift, drift is a course: once a cell's pace is drawn, its conductance at every time is
known. The pace is frozen in the chip.
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.cells.state_law import StateLaw
from pim.devices.random import normal
from pim.devices.record import leaf, part, record


class Drift(Protocol):
    """The law of one technology."""

    def factor(self, target: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """What is left at `time` (s) of the conductance of cells that were to take `target` (S)."""
        ...


@record
class PowerLawDrift:
    """Structural relaxation of a phase-change cell: G(t) = G_programmed ((t + t_0) / t_0)^(-nu).

    t_0 is the time between the programming pulse and the reading that is called t = 0. The exponent of a cell is
    |mean + spread * xi|, xi standard normal, both by the state that the cell was to take (M. Le Gallo et al., Adv.
    Electron. Mater. 4, 1700627, 2018, for the law; the fits are those of the preset's source).
    """

    t_0: Float[Array, ""] = leaf("s", "time from the programming pulse to t = 0", low=1e-9)
    mean: StateLaw = part("mean exponent against the state")
    spread: StateLaw = part("standard deviation of the exponent over cells, against the state")
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the laws' argument is 1", low=1e-12)

    def exponent(self, target: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """The exponent of each cell."""
        u = target / self.g_reference
        return jnp.abs(self.mean(u) + self.spread(u) * normal(key, target.shape))

    def factor(self, target: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """((t + t_0) / t_0)^(-nu) of each cell."""
        return jnp.exp(-self.exponent(target, key) * jnp.log1p(time / self.t_0))


@record
class ExponentialDecay:
    """Leaking charge: G(t) = G_programmed exp(-t / tau), tau lognormal over cells."""

    time_constant: Float[Array, ""] = leaf("s", "tau, median over cells", low=1e-12)
    sigma_log: Float[Array, ""] = leaf("1", "standard deviation of ln tau over cells", low=0)

    def factor(self, target: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """exp(-t / tau) of each cell."""
        tau = self.time_constant * jnp.exp(self.sigma_log * normal(key, target.shape))
        return jnp.exp(-time / tau)


@record
class TokenDecay:
    """Charge that leaks while a language model writes: G(t) = G_programmed exp(-k t / token_time), all cells alike.

    k is what published models of gain cells state, the share lost from one token to the next; time is still counted in
    seconds, of which a token takes `token_time`.
    """

    per_token: Float[Array, ""] = leaf("1", "k, share lost a token", low=0, high=1)
    token_time: Float[Array, ""] = leaf("s", "time from token to token", low=1e-9)

    def factor(self, target: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """exp(-k t / token_time), for every cell."""
        return jnp.broadcast_to(jnp.exp(-self.per_token * time / self.token_time), target.shape)
