"""Wires between cells: what a stretch of metal resists, by technology node.

Resistance of copper lines from resistivity, aspect ratio and width of NeuroSim V1.4's table (Param.cpp), computed anew.
Two things go wrong there and are set right here: a factor for the barrier, 1.18 to 1.50, is lost to a mix of nm and m,
and the temperature coefficient is applied to |T - 300 K|, so that cold wires resist more too.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record


@record
class Wire:
    """A word or bit line; its resistance between two cells is `resistance(pitch)`."""

    width: Float[Array, ""] = leaf("m", "width of the line, the F that pitches are given in", low=1e-10)
    resistance_per_length: Float[Array, ""] = leaf("Ohm/m", "of copper alone, at the reference temperature", low=0)
    barrier_factor: Float[Array, ""] = leaf("1", "how much more the line resists for its barrier", low=1)
    tcr: Float[Array, ""] = leaf("1/K", "relative change of the resistance for each kelvin", default=0.00451)
    reference_temperature: Float[Array, ""] = leaf("K", "at which the resistance was given", low=1, default=300.0)

    def resistance(self, length, temperature=None):
        """Resistance (Ohm) of a stretch of `length` (m) at `temperature` (K; None: the reference temperature)."""
        warm = 1.0 if temperature is None else 1.0 + self.tcr * (temperature - self.reference_temperature)
        return length * self.resistance_per_length * self.barrier_factor * warm


NODES = {
    # node in nm: (width in nm, Ohm/um, factor of the barrier where it was worked out)
    130: (175, 0.41, None),
    65: (105, 1.18, None),
    45: (80, 2.18, None),
    32: (56, 4.66, None),
    22: (40, 9.8, 1.18),
    14: (32, 15.9, 1.24),
    10: (22, 40.8, None),
    7: (20, 52.0, 1.33),
    5: (15, 111.0, 1.50),
    3: (12, 201.0, None),
}
"""Widths as NeuroSim uses them for its column resistance; with F = node the resistance a cell shrinks with it."""


def wire(node: int, *, barrier_factor: float | None = None) -> Wire:
    """The wire of a node.

    Args:
        node: 130, 65, 45, 32, 22, 14, 10, 7, 5 or 3 (nm).
        barrier_factor: where none is known for the node it must be given; 1 leaves the barrier away.

    Raises DeviceError for another node, or an unknown barrier.

    >>> wire(22).resistance(4 * 40e-9)  # a pitch of 4 F
    """
    if node not in NODES:
        raise DeviceError(f"no wire of {node} nm; the nodes are {', '.join(map(str, NODES))}")
    width, per_um, known = NODES[node]
    factor = known if barrier_factor is None else barrier_factor
    if factor is None:
        raise DeviceError(f"no barrier factor is known at {node} nm: give one (1.18 at 22 nm, 1.50 at 5 nm), or 1")
    return Wire(*(jnp.float32(value) for value in (width * 1e-9, per_um * 1e6, factor)))
