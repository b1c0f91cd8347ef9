"""A capacitor ladder in a cell: bits that are stored side by side and weighed by C-2C sections.

The bits of a weight drive unit capacitors C, which sections of 2C join into a ladder: from one node to the next the
voltage halves, whatever the number of bits, so that the capacitors stay small where binary-weighted ones double. What
comes out is a fraction of the supply, code / 2^bits with ideal capacitors; mismatch and parasitic capacitance at the
inner nodes make every bit count for something else.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import fold, normal
from pim.devices.record import leaf, record, static


@dataclass(frozen=True)
class Ladder:
    """Capacitances of ladders, in units of C; the least significant bit first."""

    bits: Float[Array, "bits *cells"]
    sections: Float[Array, "bits *cells"]
    """From the node of each bit to that of the next; the last is not used."""
    end: Float[Array, "*cells"]
    """To ground, at the least significant node."""
    parasitic: Float[Array, ""]
    """To ground, at every node."""

    def output(self, code: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """Output voltage over supply for whole codes, by Thevenin's theorem from node to node.

        A node sees its bit's capacitor, the parasitic one, and what is below it as one source behind one capacitor.
        """
        whole = jnp.round(code).astype(jnp.int32)
        below, voltage = self.end, jnp.zeros_like(code)
        for k in range(self.bits.shape[0]):
            bit = ((whole >> k) & 1).astype(jnp.float32)
            total = self.bits[k] + below + self.parasitic
            voltage = (bit * self.bits[k] + voltage * below) / total
            below = self.sections[k] * total / (self.sections[k] + total)
        return voltage


@record
class C2CLadder:
    """A ladder of `bits` sections in each cell, its capacitors off by `sigma_unit` for a unit, frozen in the chip.

    A section of 2C is two units: its relative error is sigma_unit / sqrt(2). The most significant bit alone is off by
    about as much as a unit is, so that mismatch weighs more than in an array of binary-weighted capacitors.
    """

    bits: int = static("bits of the ladder: the cell has 2^bits levels", low=1)
    sigma_unit: Float[Array, ""] = leaf("1", "standard deviation of a unit capacitor, relative", low=0, high=0.2)
    parasitic: Float[Array, ""] = leaf(
        "1", "capacitance to ground of an inner node, over a unit capacitor", low=0, high=1, default=0.0
    )

    def drawn(self, shape: tuple[int, ...], key: Key[Array, ""]) -> Ladder:
        """The ladders of an array of cells."""
        unit = 1.0 + self.sigma_unit * normal(fold(key, 0), (self.bits, *shape))
        section = 2.0 + jnp.sqrt(2.0) * self.sigma_unit * normal(fold(key, 1), (self.bits, *shape))
        end = 1.0 + self.sigma_unit * normal(fold(key, 2), shape)
        return Ladder(unit, section, end, jnp.asarray(self.parasitic, jnp.float32))

    def realised(self, fraction: Float[Array, "*cells"], key: Key[Array, ""]) -> Float[Array, "*cells"]:
        """Fractions of the window that cells have when told to take `fraction`, which is 1 with all bits set."""
        code = jnp.round(fraction * (2.0**self.bits - 1.0))
        full = (2.0**self.bits - 1.0) / 2.0**self.bits
        return self.drawn(fraction.shape, key).output(code) / full
