"""Logic gates by the count: capacitance, area and delay of a NAND2, and of what is built of it.

Counts are those of ZigZag-IMC (Houshmand et al., arXiv 2305.18335; its `imc_unit.py`): a full adder is 3 NAND2 and
2 XOR2, a one-bit multiplier is a NAND2 or NOR2 of which one input stands still.
"""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Gates:
    """A process by its NAND2; other gates are multiples of it. Switching costs C vdd^2."""

    capacitance: Float[Array, ""] = leaf("F", "input capacitance of a NAND2, both inputs", low=0)
    area: Float[Array, ""] = leaf("m^2", "area of a NAND2", low=0)
    delay: Float[Array, ""] = leaf("s", "delay of a NAND2 at the supply of these figures", low=0)
    xor_capacitance: Float[Array, ""] = leaf("1", "capacitance of an XOR2, in NAND2", low=0)
    xor_area: Float[Array, ""] = leaf("1", "area of an XOR2, in NAND2", low=0)
    xor_delay: Float[Array, ""] = leaf("1", "delay of an XOR2, in NAND2", low=0)
    flip_flop_capacitance: Float[Array, ""] = leaf("1", "capacitance of a flip-flop, in NAND2", low=0)
    flip_flop_area: Float[Array, ""] = leaf("1", "area of a flip-flop, in NAND2", low=0)
    leakage_density: Float[Array, ""] = leaf("W/m^2", "static power an area of logic", low=0)

    def adder_capacitance(self) -> Float[Array, ""]:
        """Capacitance (F) of a full adder."""
        return (3 + 2 * self.xor_capacitance) * self.capacitance

    def adder_area(self) -> Float[Array, ""]:
        """Area (m^2) of a full adder."""
        return (3 + 2 * self.xor_area) * self.area

    def multiplier_capacitance(self) -> Float[Array, ""]:
        """Capacitance (F) that a one-bit multiplier switches: the input's half, as the weight stands still."""
        return self.capacitance / 2

    def register_capacitance(self) -> Float[Array, ""]:
        """Capacitance (F) of a flip-flop."""
        return self.flip_flop_capacitance * self.capacitance

    def register_area(self) -> Float[Array, ""]:
        """Area (m^2) of a flip-flop."""
        return self.flip_flop_area * self.area

    def to_sum(self) -> Float[Array, ""]:
        """Delay (s) of a full adder from its inputs to its sum."""
        return 2 * self.xor_delay * self.delay

    def to_carry(self) -> Float[Array, ""]:
        """Delay (s) from its inputs to its carry."""
        return (self.xor_delay + 2) * self.delay

    def ripple(self) -> Float[Array, ""]:
        """Delay (s) from carry to carry."""
        return 2 * self.delay
