"""Slow noise: 1/f noise and random telegraph noise, which stand still while a product is computed.

All steps and slices of a product, and all products of a session, see the same deviation; reads at other times since
programming see another. What is faster than `session` belongs to the white noise of each read instead: the laws say
both parts, so that nothing is counted twice.
"""

from typing import Protocol

import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Key

from pim.devices.cells.state_law import StateLaw
from pim.devices.random import fold, normal, uniform
from pim.devices.record import leaf, part, record


class SlowNoise(Protocol):
    """The law of one technology."""

    @property
    def has_white(self) -> bool:
        """Whether part of it changes from read to read."""
        ...

    def sample(
        self, programmed: Float[Array, "*cells"], g: Float[Array, "*cells"], key: Key[Array, ""], time
    ) -> Float[Array, "*cells"]:
        """Deviation (S) at `time` (s) of cells that were programmed to `programmed` (S) and now have `g` (S)."""
        ...

    def white_variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) from read to read of cells with conductance `g` (S)."""
        ...


def decades_path(key: Key[Array, ""], shape: tuple[int, ...], time) -> Float[Array, "..."]:
    """Standard normal numbers that change with log time and have forgotten themselves after two decades.

    Two reads of a 1/f process share its slow part only as far as they are close on the scale of its age: independent
    numbers at each decade, mixed linearly in between and rescaled to unit variance.
    """
    decade = jnp.log10(jnp.maximum(jnp.asarray(time, jnp.float32), 1e-12)) + 12.0
    k = jnp.floor(decade)
    f = decade - k
    before, after = (normal(fold(key, (k + i).astype(jnp.uint32)), shape) for i in (0, 1))
    return ((1 - f) * before + f * after) / jnp.sqrt((1 - f) ** 2 + f**2)


def slow_root(time, t_read, session) -> Float[Array, ""]:
    """sqrt(ln((T + t_read) / (2 t_read))), the integrated 1/f spectrum at age T; with a session only its slow part."""
    shortest = 2.0 * t_read if session is None else session + t_read
    band = jnp.log(jnp.maximum((time + t_read) / shortest, 1.0))
    return jnp.where(band > 0, jnp.sqrt(jnp.where(band > 0, band, 1.0)), 0.0)


def white_band(t_read, session) -> Float[Array, ""]:
    """ln((session + t_read) / (2 t_read)), the part of the spectrum that changes from read to read."""
    return jnp.log(jnp.maximum((session + t_read) / (2.0 * t_read), 1.0))


@record
class RelativeFlicker:
    """1/f noise in proportion to the conductance: sigma = G Q(G_programmed) sqrt(ln((T + t_read) / (2 t_read))).

    T = t + t_0 is the age of the cell; Q falls with the state that was programmed (S. R. Nandakumar et al., ICECS 2019,
    for phase-change cells).
    """

    amplitude: StateLaw = part("Q against the programmed state")
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the amplitude's argument is 1", low=1e-12)
    t_read: Float[Array, ""] = leaf("s", "time of a read: the upper end of the band", low=1e-15)
    t_0: Float[Array, ""] = leaf("s", "age of the cell at t = 0", low=0)
    session: Float[Array, ""] | None = leaf(
        "s", "reads closer than this see the same slow noise; absent: all noise is slow", low=1e-12, default=None
    )

    @property
    def has_white(self) -> bool:
        """Whether part of it changes from read to read."""
        return self.session is not None

    def sample(
        self, programmed: Float[Array, "*cells"], g: Float[Array, "*cells"], key: Key[Array, ""], time
    ) -> Float[Array, "*cells"]:
        """Deviation (S) at `time` (s) of cells that were programmed to `programmed` (S) and now have `g` (S)."""
        sigma = g * self.amplitude(programmed / self.g_reference)
        age = time + self.t_0
        return sigma * slow_root(age, self.t_read, self.session) * decades_path(key, g.shape, age)

    def white_variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) from read to read, as if `g` (S) had been programmed."""
        assert self.session is not None
        return (g * self.amplitude(g / self.g_reference)) ** 2 * white_band(self.t_read, self.session)


@record
class Flicker:
    """1/f noise of an amplitude in S: sigma = amplitude(G) sqrt(ln((T + t_read) / (2 t_read))), T the time.

    The form of CMO/HfOx cells (D. Falcone et al., arXiv 2502.04524).
    """

    amplitude: StateLaw = part("amplitude against the state")
    amplitude_unit: Float[Array, ""] = leaf("S", "what an amplitude of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the amplitude's argument is 1", low=1e-12)
    t_read: Float[Array, ""] = leaf("s", "time of a read: the upper end of the band", low=1e-15)
    session: Float[Array, ""] | None = leaf(
        "s", "reads closer than this see the same slow noise; absent: all noise is slow", low=1e-12, default=None
    )

    @property
    def has_white(self) -> bool:
        """Whether part of it changes from read to read."""
        return self.session is not None

    def sample(
        self, programmed: Float[Array, "*cells"], g: Float[Array, "*cells"], key: Key[Array, ""], time
    ) -> Float[Array, "*cells"]:
        """Deviation (S) at `time` (s) of cells that were programmed to `programmed` (S) and now have `g` (S)."""
        sigma = self.amplitude_unit * self.amplitude(g / self.g_reference)
        return sigma * slow_root(time, self.t_read, self.session) * decades_path(key, g.shape, time)

    def white_variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Variance (S^2) from read to read."""
        assert self.session is not None
        sigma = self.amplitude_unit * self.amplitude(g / self.g_reference)
        return sigma**2 * white_band(self.t_read, self.session)


@record
class Telegraph:
    """Random telegraph noise: some cells have a trap, which takes a share of their conductance while it is filled.

    The trap of a cell is filled or empty for a session (see `decades_path` for how it changes with time).
    """

    share: Float[Array, ""] = leaf("1", "share of the cells that have a trap", low=0, high=1)
    step: Float[Array, ""] = leaf("1", "conductance lost while the trap is filled, over the conductance", low=0, high=1)
    filled: Float[Array, ""] = leaf("1", "share of the time for which a trap is filled", low=0, high=1)

    @property
    def has_white(self) -> bool:
        """A trap keeps still for a session."""
        return False

    def sample(
        self, programmed: Float[Array, "*cells"], g: Float[Array, "*cells"], key: Key[Array, ""], time
    ) -> Float[Array, "*cells"]:
        """Deviation (S) at `time` (s) of cells that were programmed to `programmed` (S) and now have `g` (S)."""
        has_trap = uniform(fold(key, 0), g.shape) < self.share
        state = ndtr(decades_path(fold(key, 1), g.shape, time))
        return jnp.where(has_trap & (state < self.filled), -self.step * g, 0.0)

    def white_variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Zero."""
        return jnp.zeros_like(g)
