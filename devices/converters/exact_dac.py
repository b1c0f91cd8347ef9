"""An input converter without steps: the word lines take exactly what they are told."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.dac import DAC
from pim.devices.converters.word_line import full_pulse
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record


@record
class ExactDAC(DAC):
    """Inputs of any value, clipped to the range and not rounded: one array read an input vector.

    What other tools call an ideal DAC or an input of infinite resolution, to see the errors of all else alone.
    """

    code: ClassVar[str] = "none"
    noise: ClassVar[None] = None

    percentile: Float[Array, ""] = leaf(
        "1",
        "share (%) of calibration inputs that a static range must hold; the rest clips",
        low=50,
        high=100,
        default=100.0,
    )
    energy_per_input: Float[Array, ""] = leaf("J", "energy of applying one input", low=0, default=0.0)
    area: Float[Array, ""] = leaf("m^2", "area of one converter", low=0, default=0.0)

    @property
    def bipolar(self) -> bool:
        """Levels of either sign."""
        return True

    @property
    def steps(self) -> int:
        """One."""
        return 1

    @property
    def numbers(self) -> int:
        """None of them: all are alike."""
        return 0

    @property
    def largest_level(self) -> Float[Array, ""]:
        """There is none: DeviceError."""
        raise DeviceError("dac is an ExactDAC, whose inputs are no whole numbers of a step: take a DAC of some bits")

    @property
    def top(self) -> Float[Array, ""]:
        """There is none: DeviceError."""
        return self.largest_level

    def codes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "1 *n"], Float[Array, "1"]]:
        """There are none: DeviceError."""
        return self.largest_level, self.largest_level

    def planes(self, x: Float[Array, "*n"]) -> tuple[Float[Array, "1 *n"], Float[Array, "1"]]:
        """The input, clipped."""
        return jnp.clip(x, -1.0, 1.0)[None], jnp.ones(1)

    def pulse(self, levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, ""]]:
        """A voltage, for the whole read."""
        return full_pulse(levels)

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """The levels."""
        return levels

    def energy(self, vdd, active) -> Float[Array, "..."]:
        """Energy (J) of applying one input to one word line, of any but zero."""
        return self.energy_per_input * active
