"""Write-verify: pulses and verifying reads in turn, until a cell reads within its window or the pulses run out.

A law of write error that also knows what writing costs. What one pulse does is a part of its own: a try that is
independent of those before (pulses of a fixed shape that set and reset the cell anew), which any law of write error can
be, or a step from where the cell is (incremental step pulses, ISPP).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from pim.devices.cells.redraws import tries
from pim.devices.cells.state_law import StateLaw
from pim.devices.cells.write_error import Invertible, WriteError, spread_at
from pim.devices.random import fold, normal
from pim.devices.record import leaf, part, record, static


class Written(NamedTuple):
    """What became of cells that were written."""

    error: Float[Array, "*cells"]
    """S, conductance beyond the target."""
    pulses: Float[Array, "*cells"]
    success: Bool[Array, "*cells"]
    """Whether the last verifying read was within the window."""


@record
class PulseSteps:
    """Each pulse moves the cell a step, more or less, towards its target: from `start`, and back where it overshot."""

    start: Float[Array, ""] = leaf("S", "conductance before the first pulse", low=0)
    step_up: Float[Array, ""] = leaf("S", "mean step of a pulse that raises the conductance", low=0)
    step_down: Float[Array, ""] = leaf("S", "mean step of a pulse that lowers it", low=0)
    spread: Float[Array, ""] = leaf(
        "1", "standard deviation of a step from pulse to pulse, over its mean", low=0, high=10
    )

    def step(self, raises: Bool[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Change (S) of cells that are to be raised or lowered."""
        return jnp.where(raises, self.step_up, -self.step_down) * (1.0 + self.spread * normal(key, raises.shape))


@record
class WriteVerify:
    """Pulses until a verifying read lies within target +- window, or until they run out: then the last one stays.

    Where a state is accepted on one side without limit (an outermost level), give it a window there beyond all that
    tries come to: `window_above` may be another than `window`, which then holds below the target alone.
    """

    attempt: WriteError | PulseSteps = part("what one pulse leaves: a write error, drawn anew each time, or steps")
    window: StateLaw = part("how far from its target a cell is accepted, against the target")
    window_unit: Float[Array, ""] = leaf("S", "what a window of 1 is", low=0)
    g_reference: Float[Array, ""] = leaf("S", "conductance at which the argument of window and aim is 1", low=1e-12)
    max_pulses: int = static("pulses after which a cell is given up", low=1)
    window_above: StateLaw | None = part("width of the window above the target; absent: as below it", default=None)
    aim: StateLaw | None = part("where tries are centred, over the target, against it; absent: at it", default=None)
    verify_noise: Float[Array, ""] | None = leaf(
        "S", "standard deviation of a verifying read; absent: none", low=0, default=None
    )
    pulse_width: Float[Array, ""] | None = leaf("s", "time of a pulse; absent: unknown", low=0, default=None)
    pulse_energy: Float[Array, ""] | None = leaf(
        "J", "energy of a pulse in one cell; absent: unknown", low=0, default=None
    )
    verify_time: Float[Array, ""] | None = leaf("s", "time of a verifying read; absent: unknown", low=0, default=None)
    verify_energy: Float[Array, ""] | None = leaf(
        "J", "energy of a verifying read of one cell; absent: unknown", low=0, default=None
    )

    def sample(self, g: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Errors (S) of cells with target `g` (S)."""
        return self.write(g, key).error

    def write(
        self,
        target: Float[Array, "*cells"],
        key: Key[Array, ""],
        *,
        reach: Float[Array, "*cells"] | None = None,
        factor: Float[Array, "*cells"] | None = None,
    ) -> Written:
        """Error, pulses and success of cells that are written to `target` (S).

        Args:
            target: around which a cell is accepted.
            key: of the writing.
            reach: state that a worn cell can be told to take instead; by default the target.
            factor: of each cell, on what a try leaves or a step moves (its variation); the verify takes it out.

        The slope with respect to the device is that of the distribution for tries that are normal or lognormal and
        verified without noise; else that of the pulses that happened to be accepted.
        """
        reach = target if reach is None else reach
        factor = jnp.ones_like(target) if factor is None else factor
        low, high = self.accepted(target)
        if self.verify_noise is None and isinstance(self.attempt, Invertible):
            return self._at_once(self.attempt, target, low, high, reach, factor, key)
        return self._pulse_by_pulse(target, low, high, reach, factor, key)

    def accepted(self, target: Float[Array, "*cells"]) -> tuple[Float[Array, "*cells"], Float[Array, "*cells"]]:
        """Lowest and highest reading (S) at which cells with a target (S) are left alone."""
        below = spread_at(self.window, self.window_unit, self.g_reference, target)
        above = below
        if self.window_above is not None:
            above = spread_at(self.window_above, self.window_unit, self.g_reference, target)
        return target - below, target + above

    def _aim(self, target: Float[Array, "*cells"], reach: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        return reach if self.aim is None else reach * self.aim(target / self.g_reference)

    def _at_once(self, attempt: Invertible, target, low, high, reach, factor, key) -> Written:
        aim = self._aim(target, reach)
        a = jnp.where(low <= 0, -40.0, attempt.latent(aim, low / factor))  # no conductance is below zero
        found = tries(a, attempt.latent(aim, high / factor), self.max_pulses, key)
        landed = jnp.maximum(attempt.landing(aim, found.z) * factor, 0.0)
        return Written(landed - target, found.pulses, found.success)

    def _pulse_by_pulse(self, target, low, high, reach, factor, key) -> Written:
        @jax.checkpoint
        def pulse(state, number):
            g, read, pulses, done = state
            now = fold(key, number)
            new = jnp.maximum(self._next(target, reach, factor, g, read, fold(now, 0)), 0.0)
            seen = new if self.verify_noise is None else new + self.verify_noise * normal(fold(now, 1), g.shape)
            g, read = jnp.where(done, g, new), jnp.where(done, read, seen)
            return (g, read, pulses + ~done, done | ((low <= read) & (read <= high))), None

        attempt = self.attempt
        start = jnp.broadcast_to(attempt.start, target.shape) if isinstance(attempt, PulseSteps) else target
        state = (start, start, jnp.zeros_like(target), jnp.zeros(target.shape, bool))
        (g, _, pulses, done), _ = jax.lax.scan(pulse, state, jnp.arange(self.max_pulses))
        return Written(g - target, pulses, done)

    def _next(self, target, reach, factor, g, read, key) -> Float[Array, "*cells"]:
        """Conductance (S) after one more pulse on cells that have `g` and were read as `read`."""
        if not isinstance(self.attempt, PulseSteps):
            aim = self._aim(target, reach)
            return (aim + self.attempt.sample(aim, key)) * factor
        moved = g + self.attempt.step(read < target, key) * factor
        moved = jnp.where(reach < target, jnp.minimum(moved, reach), moved)  # a worn cell gets no further
        return jnp.where(reach > target, jnp.maximum(moved, reach), moved)
