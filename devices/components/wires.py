"""Signal wires: what bits cost on their way over a length of metal, and over a tree that reaches all arrays."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, part, record


@record
class SignalWire:
    """A wire that carries bits at full swing.

    A transition takes C vdd^2 / 2 on average: a full cycle, up and down, takes C vdd^2 from the supply. A bit of random
    data makes half a transition. At 0.2 pF/mm and 0.7 V that is 0.098 pJ a bit and mm for a full cycle, 0.049 for a
    transition, 0.025 for random data: accounts of wires often differ by just these factors.
    """

    capacitance_per_length: Float[Array, ""] = leaf("F/m", "of the wire with its repeaters", low=0)
    transitions: Float[Array, ""] = leaf("1", "transitions a bit: 0.5 random data, 2 a full cycle", low=0, high=2)

    def energy_per_bit(self, length, vdd) -> Float[Array, "..."]:
        """Energy (J) of a bit over a length (m) at a supply (V)."""
        return self.transitions * self.capacitance_per_length * length * vdd**2 / 2.0


@record
class HTree:
    """Wires from the middle of a square to `leaves` arrays in it: an H in each square, and one in each of its quarters.

    With 4^k leaves in a square of side S, a path has k halvings, S/2 + S/4 + ... = S (1 - 1/sqrt(leaves)), and all
    wires of one bit together are 3/2 S (sqrt(leaves) - 1) long; other numbers of leaves are interpolated by that.
    """

    wire: SignalWire = part("the wires")
    leaves: Float[Array, ""] = leaf("1", "arrays that it reaches", low=1)
    side: Float[Array, ""] = leaf("m", "side of the square", low=0)

    def path(self) -> Float[Array, "..."]:
        """Length (m) from the root to a leaf."""
        return self.side * (1.0 - self.leaves**-0.5)

    def length(self) -> Float[Array, "..."]:
        """Length (m) of the wires of one bit."""
        return 1.5 * self.side * (jnp.sqrt(self.leaves) - 1.0)

    def broadcast_per_bit(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of a bit that goes to all leaves."""
        return self.wire.energy_per_bit(self.length(), vdd)

    def energy_per_bit(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of a bit to or from one leaf, where branches that lead elsewhere stand still."""
        return self.wire.energy_per_bit(self.path(), vdd)
