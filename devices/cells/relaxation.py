"""Relaxation: how a cell's conductance shifts at random from where it was programmed, with the time since then.

Each law maps the cell's latent path z(t) (see `path`) through its distribution at that time, so that two times of one
chip are correlated as measured. Where a law was fitted to readings against the target, the write error is in it.
"""

from dataclasses import replace
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from pim.devices.cells.path import LatentPath, bracket
from pim.devices.cells.state_law import StateLaw, at_knot
from pim.devices.cells.write_error import spread_at
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record


class Relaxation(Protocol):
    """The law of one technology, good from the first to the last of its times."""

    times: Float[Array, "knots"]

    def shift(self, g: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """Shift (S) by `time` (s) of cells programmed to `g` (S); the same key gives the same cells at every time."""
        ...

    def interpolation(self, time: float) -> str | None:
        """Between which measured times `time` (s) lies and by what rule; None at one of them, or for a law of time."""
        ...


def between(times: Float[Array, "knots"], time: float, what: str) -> str | None:
    """A sentence that names the measured times around `time` (s) and what is interpolated, unless it is one of them."""
    knots = np.asarray(times, np.float64)
    if np.isclose(knots, time, rtol=1e-4, atol=0.0).any() or not knots[0] < time < knots[-1]:
        return None
    k = int(np.searchsorted(knots, time))
    return f"{time:g} s lies between the measured {knots[k - 1]:g} s and {knots[k]:g} s: {what} linear in log time"


@record
class GaussianRelaxation:
    """Normal shift whose spread, and mean if it has one, depend on the state at each measured time.

    Between the times the variance runs linearly in log time, as relaxation data do (variance law of the
    RRAM-Relaxation data, three technologies), and so does the mean. The spread is that of the state which the mean has
    brought a cell to.
    """

    times: Float[Array, "knots"] = leaf("s", "times since programming at which the spread was measured", low=1e-9)
    spread: StateLaw = part("standard deviation against the state: lists, one entry a time")
    spread_unit: Float[Array, ""] = leaf("S", "what a spread of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the spread's argument is 1", low=1e-12)
    path: LatentPath = part("correlation between the times")
    mean: StateLaw | None = part(
        "mean shift against the state, in units of `spread_unit`: lists, one entry a time; absent: none", default=None
    )

    def sigma(self, g: Float[Array, "*cells"], time) -> Float[Array, "*cells"]:
        """Standard deviation (S) at `time` (s) of cells whose mean is `g` (S) then."""
        k, f = bracket(self.times, time)
        before, after = (spread_at(at_knot(self.spread, i), self.spread_unit, self.g_reference, g) for i in (k, k + 1))
        variance = (1 - f) * before**2 + f * after**2
        return jnp.sqrt(jnp.where(variance == 0, 1.0, variance)) * (variance != 0)

    def mean_shift(self, g: Float[Array, "*cells"], time) -> Float[Array, "*cells"]:
        """Mean shift (S) at `time` (s) of cells programmed to `g` (S)."""
        if self.mean is None:
            return jnp.zeros_like(g)
        k, f = bracket(self.times, time)
        before, after = (at_knot(self.mean, i)(g / self.g_reference) for i in (k, k + 1))
        return self.spread_unit * ((1 - f) * before + f * after)

    def shift(self, g: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """Shift (S) at `time` (s) of cells programmed to `g` (S)."""
        mean = self.mean_shift(g, time)
        return mean + self.sigma(g + mean, time) * self.path.at(key, g.shape, self.times, time)

    def interpolation(self, time: float) -> str | None:
        """The variance is interpolated, and the mean if there is one."""
        what = "variance" if self.mean is None else "mean and variance"
        return between(self.times, time, f"{what} of the relaxation")


@record
class LogTimeRelaxation:
    """Normal shift, the same in every state, with mean and spread linear in log time.

    shift = mean_slope ln(t / s) + (sigma_slope ln(t / s) + sigma_at_1s) z(t), as measured on CMO/HfOx (Falcone et al.,
    arXiv 2502.04524).
    """

    times: Float[Array, "knots"] = leaf("s", "first and last time at which the law holds", low=1e-9)
    mean_slope: Float[Array, ""] = leaf("S", "mean shift for each factor e of time")
    sigma_slope: Float[Array, ""] = leaf("S", "growth of the standard deviation for each factor e of time")
    sigma_at_1s: Float[Array, ""] = leaf("S", "standard deviation at 1 s", low=0)
    path: LatentPath = part("correlation between the times")

    def shift(self, g: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """Shift (S) at `time` (s) of cells programmed to `g` (S)."""
        e_folds = jnp.log(time)
        sigma = jnp.maximum(self.sigma_slope * e_folds + self.sigma_at_1s, 0.0)
        return self.mean_slope * e_folds + sigma * self.path.at(key, g.shape, self.times, time)

    def interpolation(self, time: float) -> str | None:
        """None: a law of time."""
        return None


@record
class StudentRelaxation:
    """Heavy-tailed shift: at each time and level a Student-t, truncated where conductance leaves its window.

    The shift of a cell programmed to G follows location + scale * t_nu, conditioned on 0 <= G + shift <= g_limit.
    Measured shifts have nu between 1.2 (10 ms) and 4 (1e5 s): below 2 only the truncation makes their variance finite.
    Between levels and times the quantiles are interpolated, linearly in conductance and in log time.
    """

    times: Float[Array, "knots"] = leaf("s", "times since programming at which the shift was measured", low=1e-9)
    levels: Float[Array, "levels"] = leaf("S", "conductances from which the shift was measured", low=0)
    location: Float[Array, "knots levels"] = leaf("S", "location of the truncated Student-t")
    scale: Float[Array, "knots levels"] = leaf("S", "scale of the truncated Student-t", low=0)
    nu: Float[Array, "knots levels"] = leaf("1", "tail index of the truncated Student-t", low=0.5)
    g_limit: Float[Array, ""] = leaf("S", "largest conductance that a cell can shift to", low=1e-12)
    path: LatentPath = part("correlation between the times")
    quantiles: Float[Array, "knots levels z"] | None = leaf(
        "S", "shift at each time and level over the grid of latent z: computed by `prepare`", default=None
    )

    def prepare(self) -> "StudentRelaxation":
        """The same law with its quantiles tabulated (outside jit: the Student-t has no closed quantile).

        Raises DeviceError where what they are made of is traced.
        """
        if any(isinstance(value, Tracer) for value in (self.levels, self.location, self.scale, self.nu, self.g_limit)):
            raise DeviceError(
                "a Student-t relaxation is tabulated outside jit, so that its levels, location, scale, nu and g_limit "
                "cannot be traced: take a GaussianRelaxation for gradients by them"
            )
        from scipy.special import ndtr
        from scipy.stats import t as student

        location, scale, nu = (np.asarray(v, np.float64)[..., None] for v in (self.location, self.scale, self.nu))
        levels = np.asarray(self.levels, np.float64)[None, :, None]
        low = student.cdf((-levels - location) / scale, nu)
        high = student.cdf((float(self.g_limit) - levels - location) / scale, nu)
        shift = location + scale * student.ppf(low + ndtr(Z_GRID) * (high - low), nu)
        return replace(self, quantiles=jnp.asarray(shift, jnp.float32))

    def shift(self, g: Float[Array, "*cells"], key: Key[Array, ""], time) -> Float[Array, "*cells"]:
        """Shift (S) at `time` (s) of cells programmed to `g` (S)."""
        assert self.quantiles is not None, "prepare() first"
        z = self.path.at(key, g.shape, self.times, time)
        k, f = bracket(self.times, time)
        table = (1 - f) * self.quantiles[k] + f * self.quantiles[k + 1]
        return _bilinear(table, self.levels, g, z)

    def interpolation(self, time: float) -> str | None:
        """The quantiles are interpolated."""
        return between(self.times, time, "quantiles of the relaxation")


Z_GRID = np.linspace(-4.8, 4.8, 97)  # beyond: less than 2 cells in a million, held at the last quantile


def _bilinear(
    table: Float[Array, "levels z"],
    levels: Float[Array, "levels"],
    g: Float[Array, "*cells"],
    z: Float[Array, "*cells"],
) -> Float[Array, "*cells"]:
    """The table at (g, z), linear in both, held constant outside."""
    row = jnp.interp(g, levels, jnp.arange(levels.shape[0], dtype=jnp.float32))
    column = jnp.clip((z - Z_GRID[0]) / (Z_GRID[1] - Z_GRID[0]), 0.0, len(Z_GRID) - 1.0)
    r = jnp.clip(jnp.floor(row), 0, table.shape[0] - 2).astype(jnp.int32)
    c = jnp.clip(jnp.floor(column), 0, table.shape[1] - 2).astype(jnp.int32)
    fr, fc = row - r, column - c
    flat, width = table.reshape(-1), table.shape[1]

    def corner(i: int, j: int):
        return flat[(r + i) * width + c + j]

    top = (1 - fc) * corner(0, 0) + fc * corner(0, 1)
    bottom = (1 - fc) * corner(1, 0) + fc * corner(1, 1)
    return (1 - fr) * top + fr * bottom
