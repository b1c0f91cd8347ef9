"""Sample-and-hold: a capacitor that keeps a column's sum until it is converted."""

from jaxtyping import Array, Float

from pim.devices.constants import BOLTZMANN
from pim.devices.record import leaf, record


@record
class SampleHold:
    """A capacitor that is charged to the sum, with a buffer amplifier behind it.

    The noise kT/C of the capacitor is what the sum's resolution has to live with.
    """

    capacitance: Float[Array, ""] = leaf("F", "of the capacitor", low=0)
    power: Float[Array, ""] = leaf("W", "of the amplifier, while it holds", low=0)
    area: Float[Array, ""] = leaf("m^2", "of both", low=0)

    def energy(self, swing, time) -> Float[Array, "..."]:
        """Energy (J) of a sum with a swing (V) that is held for a time (s)."""
        return self.capacitance * swing**2 + self.power * time

    def noise(self, temperature=300.0) -> Float[Array, "..."]:
        """Standard deviation (V) of what is held: sqrt(kT / C)."""
        return (BOLTZMANN * temperature / self.capacitance) ** 0.5
