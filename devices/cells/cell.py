"""A resistive cell: what conductance it takes when told to take one, and what becomes of it."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from pim.devices.cells.cell_facts import CellFacts
from pim.devices.cells.conduction import Conduction
from pim.devices.cells.drift import Drift
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.ladder import C2CLadder
from pim.devices.cells.read_noise import AdditiveReadNoise, ReadNoise, Shifting
from pim.devices.cells.relaxation import Relaxation
from pim.devices.cells.slow_noise import SlowNoise
from pim.devices.cells.temperature import Temperature
from pim.devices.cells.variation import Variation
from pim.devices.cells.wear import Wear
from pim.devices.cells.write_error import WriteError
from pim.devices.cells.write_verify import WriteVerify, Written
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record, told


@record
class Cell:
    """A programmable conductance; each effect is a part, absent where it is None.

    A cell programmed to a target takes the nearest of its levels and misses it by the write error. With time it
    relaxes and drifts from there, and slow noise moves it; it cannot leave [g_floor, g_ceiling]. A faulty one is stuck.
    All of this is frozen in a chip; only the read noise is drawn at each read. When a chip is written again, its
    variation, drift, wear and faults stay; write error, relaxation and slow noise are new ones.
    """

    g_min: Float[Array, ""] = leaf("S", "conductance of the lowest programmed state", low=0)
    g_max: Float[Array, ""] = leaf("S", "conductance of the highest programmed state", low=1e-12)
    area: Float[Array, ""] | None = leaf(
        "m^2", "area of one cell with its selector; absent: unknown", low=0, default=None
    )
    levels: Float[Array, ""] | None = leaf(
        "1", "number of equally spaced states from g_min to g_max; absent: continuous", low=2, default=None
    )
    g_floor: Float[Array, ""] = leaf("S", "smallest conductance that a cell can come to", low=0, default=0.0)
    g_ceiling: Float[Array, ""] | None = leaf(
        "S", "largest conductance that a cell can come to; absent: none", low=1e-12, default=None
    )
    reference_time: Float[Array, ""] | None = leaf(
        "s", "time at which a chip is read where no time is given; absent: the cell does not age", low=0, default=None
    )
    write_error: WriteError | None = part("error right after programming", default=None)
    ladder: C2CLadder | None = part("capacitor ladder that weighs the bits of the cell", default=None)
    variation: Variation | None = part(
        "differences between cells: in their conductances where they are written blind, else in their pulses",
        default=None,
    )
    relaxation: Relaxation | None = part("random shift with time since programming", default=None)
    drift: Drift | None = part("course with time since programming", default=None)
    slow_noise: SlowNoise | None = part("noise that stands still during a product", default=None)
    temperature: Temperature | None = part("what another temperature does", default=None)
    conduction: Conduction | None = part("current against voltage; absent: a straight line", default=None)
    read_noise: ReadNoise | None = part("noise of each read", default=None)
    faults: StuckFaults | None = part("stuck cells", default=None)
    wear: Wear | None = part("what the writes that it has seen take from it", default=None)
    facts: CellFacts | None = told("what the field's survey tables list; absent: unknown", default=None)

    @property
    def ages(self) -> bool:
        """Whether a chip of such cells is another one at another time."""
        return any(law is not None for law in (self.relaxation, self.drift, self.slow_noise))

    def prepare(self) -> "Cell":
        """Itself, once it is known to make sense.

        Raises DeviceError for a ladder of other bits than the cell has levels, or one whose state is verified.
        """
        if self.ladder is None:
            return self
        if isinstance(self.write_error, WriteVerify):
            raise DeviceError("the bits of cell.ladder are written as they are: leave write-verify away")
        if isinstance(self.levels, Tracer):
            return self
        if self.levels is None or float(self.levels) != 2.0**self.ladder.bits:
            raise DeviceError(
                f"cell.ladder has {self.ladder.bits} bits: set cell.levels = {2**self.ladder.bits}, one for each code"
            )
        return self

    def age(self, time, temperature=None):
        """Time (s) at the temperature of the measurement that ages the cell as `time` does at `temperature` (K)."""
        if self.temperature is None or temperature is None or time is None:
            return time
        return time * self.temperature.ageing(temperature)

    def check_time(self, time: float, temperature=None) -> None:
        """Raise DeviceError if a (concrete) time since programming, in s, is outside what the laws know."""
        if not time >= 0:
            raise DeviceError(f"time = {time:g} s is before programming; give 0 s or more")
        if self.relaxation is None:
            return
        age = float(self.age(time, temperature))
        as_measured = "" if age == time else f", as {age:.3g} s at the temperature of the measurement,"
        first, last = float(self.relaxation.times[0]), float(self.relaxation.times[-1])
        if not first * (1 - 1e-6) <= age <= last * (1 + 1e-6):
            raise DeviceError(
                f"time = {time:g} s{as_measured} lies outside the measured range of this device's relaxation; "
                f"choose {first:g} s to {last:g} s, or a device with another law"
            )

    def interpolation(self, time, temperature=None) -> str | None:
        """Between which measured times a (concrete) time in s lies, and what is interpolated; None: nothing is."""
        if self.relaxation is None or time is None:
            return None
        return self.relaxation.interpolation(float(self.age(time, temperature)))

    def targets(self, fraction: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Target conductances (S) for states given as fractions of the window, 0 at g_min and 1 at g_max."""
        if self.levels is not None:
            fraction = jnp.round(fraction * (self.levels - 1)) / (self.levels - 1)
        return self.g_min + fraction * (self.g_max - self.g_min)

    def program(
        self,
        target: Float[Array, "*cells"],
        key_for: Callable[[str], Key[Array, ""]],
        time,
        temperature=None,
        cycle=None,
        stuck: Array | None = None,
    ) -> Float[Array, "*cells"]:
        """Conductances (S) that cells with a target (S) have at `time` (s) since they were programmed.

        `key_for(use)` gives the key of the site for each use; the same keys give the same cells at every time and
        temperature (K; None: the one at which the laws were measured). `cycle` counts how often the chip was written
        again, for its wear. `stuck` are the states of stuck cells where rows or columns were moved (see
        `StuckFaults.states`).
        """
        programmed = self._write(target, key_for, cycle)
        target = self._reach(target, cycle)
        g = programmed = self._clip(programmed)
        time = self.age(time, temperature)
        if self.relaxation is not None:
            g = self._clip(g + self.relaxation.shift(programmed, key_for("relax"), time))
        if self.drift is not None:
            g = g * self.drift.factor(target, key_for("drift"), time)
        if self.slow_noise is not None:
            g = self._clip(g + self.slow_noise.sample(programmed, g, key_for("slow"), time))
        g = self._stuck(g, key_for, cycle, stuck)
        if self.temperature is not None and temperature is not None:
            g = g * self.temperature.conduction(temperature)
        return g

    def written(
        self, target: Float[Array, "*cells"], key_for: Callable[[str], Key[Array, ""]], cycle=None
    ) -> Float[Array, "*cells"]:
        """Conductances (S) that a readout right after writing finds, stuck cells included: see `program`."""
        return self._stuck(self._clip(self._write(target, key_for, cycle)), key_for, cycle)

    def tries(
        self, target: Float[Array, "*cells"], key_for: Callable[[str], Key[Array, ""]], cycle=None
    ) -> Written | None:
        """Error, pulses and success of writing cells to a target (S); None for a cell that is written blind."""
        if not isinstance(self.write_error, WriteVerify):
            return None
        factor = None if self.variation is None else self.variation.factor(target, key_for)
        return self.write_error.write(target, key_for("write"), reach=self._reach(target, cycle), factor=factor)

    def _write(self, target: Float[Array, "*cells"], key_for, cycle) -> Float[Array, "*cells"]:
        """Conductances (S) right after writing, before any limit."""
        verified = self.tries(target, key_for, cycle)
        if verified is not None:
            return target + verified.error
        programmed = reach = self._reach(target, cycle)
        if self.ladder is not None:
            window = self.g_max - self.g_min
            programmed = self.g_min + window * self.ladder.realised((reach - self.g_min) / window, key_for("ladder"))
        if self.write_error is not None:
            programmed = programmed + self.write_error.sample(reach, key_for("write"))
        if self.variation is not None:
            programmed = programmed * self.variation.factor(reach, key_for)
        return programmed

    def _stuck(self, g: Float[Array, "*cells"], key_for, cycle, states=None) -> Float[Array, "*cells"]:
        if self.wear is not None:
            g = self.wear.bury(g, self.g_min, self.g_max, key_for("wear"), cycle)
        if self.faults is not None:
            g = self.faults.apply(g, self.g_min, self.g_max, key_for("fault"), states)
        return g

    def _reach(self, target: Float[Array, "*cells"], cycle) -> Float[Array, "*cells"]:
        return target if self.wear is None else self.wear.reach(target, self.g_min, self.g_max, cycle)

    def strengths(self, g: Float[Array, "*cells"]) -> list[Float[Array, "*cells"]]:
        """What the word-line voltage is multiplied by: the conductance (S), or the terms of the law of conduction."""
        return [g] if self.conduction is None else self.conduction.strengths(g)

    def read_mean(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Mean over reads (S) of cells with conductance `g` (S)."""
        return g + self.read_noise.mean_shift(g) if isinstance(self.read_noise, Shifting) else g

    @property
    def reads_alike(self) -> bool:
        """Whether the variance from read to read is the same for every conductance."""
        quiet = self.slow_noise is None or not self.slow_noise.has_white
        return quiet and isinstance(self.read_noise, AdditiveReadNoise)

    def read_variance(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"] | None:
        """Variance (S^2) from read to read of cells with conductance `g` (S); None: every read is the same."""
        parts = [law.variance(g) for law in (self.read_noise,) if law is not None]
        if self.slow_noise is not None and self.slow_noise.has_white:
            parts.append(self.slow_noise.white_variance(g))
        return sum(parts) if parts else None  # type: ignore[return-value]

    def _clip(self, g: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        g = jnp.maximum(g, self.g_floor)
        return g if self.g_ceiling is None else jnp.minimum(g, self.g_ceiling)
