"""Write drivers: what a programming pulse takes beyond what the cell itself dissipates."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class WriteDriver:
    """A driver of a bit line that gives pulses of a voltage and width, out of a supply that loses some of it.

        E = (C_line V^2 + V^2 G t) / efficiency

    The cell's part V^2 G t is that of a resistive cell of conductance G; for cells that take charge only, G is 0. How
    many pulses a cell takes is a law of the cell (write-verify).
    """

    voltage: Float[Array, ""] = leaf("V", "of a pulse", low=0, high=20)
    pulse_width: Float[Array, ""] = leaf("s", "of a pulse", low=0)
    line_capacitance: Float[Array, ""] = leaf("F", "of the line that it charges", low=0)
    efficiency: Float[Array, ""] = leaf("1", "energy of the pulses over that from the supply", low=1e-3, high=1)
    driver_area: Float[Array, ""] = leaf("m^2", "area of a driver", low=0)

    def energy(self, conductance) -> Float[Array, "..."]:
        """Energy (J) of one pulse on a cell of some conductance (S)."""
        line = self.line_capacitance * self.voltage**2
        return (line + self.voltage**2 * conductance * self.pulse_width) / self.efficiency

    def latency(self, pulses=1.0) -> Float[Array, "..."]:
        """Time (s) of so many pulses."""
        return pulses * self.pulse_width

    def area(self) -> Float[Array, "..."]:
        """Area (m^2) of a driver."""
        return self.driver_area
