"""What joins the gates of a digital macro: wires, drivers of input lines, the clock's tree, control.

The counts of `pim.devices.adders` are of gates alone. A driver is a horn of inverters, each a quarter of the next, so
that it switches a third of its load besides (I. Sutherland, B. Sproull, D. Harris, Logical Effort, 1999).
"""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record

HORN = 1 / 3
"""What a driver switches besides its load, in loads: 1/4 + 1/16 + ..."""

CLOCK_PATH = 0.7124
"""Length of a path through N points spread over an area A, over the root of N A (Beardwood et al., 1959)."""


@record
class DigitalWiring:
    """Wires by their length, which the area of the array gives, and what hangs at them.

    An array counts as a square; a weight with its share of adders is a square in it. A tree of adders lies as an H-tree
    over its inputs: the shortest wires, twice as long every other level.
    """

    capacitance: Float[Array, ""] = leaf("F/m", "capacitance of a wire", low=0)
    line_load: Float[Array, ""] = leaf(
        "1",
        "load of an input line at each bit of weights and sums besides its multiplier, in NAND2",
        low=0,
        default=0.0,
    )
    clock_pin: Float[Array, ""] = leaf("1", "load of a flip-flop on the clock, in NAND2", low=0, default=0.5)
    control_gates: Float[Array, ""] = leaf(
        "1", "NAND2 of an array's control and decoder that switch in a cycle", low=0, default=0.0
    )
