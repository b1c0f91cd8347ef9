"""A resistive cell: what conductance it takes when told to take one."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.faults import StuckFaults
from pim.devices.read_noise import ReadNoise
from pim.devices.record import leaf, part, record
from pim.devices.relaxation import Relaxation
from pim.devices.write_error import WriteError


@record
class Cell:
    """A programmable conductance; each effect is a part, absent where it is None.

    A cell programmed to a target takes the nearest of its levels, misses it by the write error, relaxes from there,
    cannot go below zero, and is replaced by a stuck state where it is faulty. All of this is frozen in a chip; only the
    read noise is drawn at each read.
    """

    g_min: Float[Array, ""] = leaf("S", "conductance of the lowest programmed state", low=0)
    g_max: Float[Array, ""] = leaf("S", "conductance of the highest programmed state", low=1e-12)
    area: Float[Array, ""] = leaf("m^2", "area of one cell with its selector", low=0)
    levels: Float[Array, ""] | None = leaf(
        "1", "number of equally spaced states from g_min to g_max; absent: continuous", low=2, default=None
    )
    write_error: WriteError | None = part("error right after programming", default=None)
    relaxation: Relaxation | None = part("shift with time since programming", default=None)
    read_noise: ReadNoise | None = part("noise of each read", default=None)
    faults: StuckFaults | None = part("stuck cells", default=None)

    def targets(self, fraction: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Target conductances (S) for states given as fractions of the window, 0 at g_min and 1 at g_max."""
        if self.levels is not None:
            fraction = jnp.round(fraction * (self.levels - 1)) / (self.levels - 1)
        return self.g_min + fraction * (self.g_max - self.g_min)

    def program(
        self, g: Float[Array, "*cells"], key_for: Callable[[str], Key[Array, ""]], time
    ) -> Float[Array, "*cells"]:
        """Conductances (S) that cells with targets `g` (S) have at `time` (s) since they were programmed.

        `key_for(use)` gives the key of the site for each use; the same keys give the same cells at every time.
        """
        settled = g
        if self.write_error is not None:
            settled = settled + self.write_error.sample(g, key_for("write"))
        if self.relaxation is not None:
            settled = settled + self.relaxation.shift(g, key_for("relax"), time)
        settled = jnp.maximum(settled, 0.0)
        if self.faults is not None:
            settled = self.faults.apply(settled, self.g_min, self.g_max, key_for("fault"))
        return settled
