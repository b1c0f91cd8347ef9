"""NeuroSim's fit to SAR converters behind a resistive column."""

from typing import ClassVar

from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record


@record
class NeurosimSarADCCost:
    """A SAR converter together with the current of the column that it reads.

        E = (a b + c + k / R) t      t = (b + 1) cycle

    The term k / R is the current of the column of resistance R during the conversion: the energy of the cells is in
    here, and a macro that prices its cells as well counts them twice. Published at 22 nm, low power: a = 0.538 uW, c =
    4.375 uW, k = 0.0723 W Ohm, a cycle of 1 ns. NeuroSim writes 10^-log10(R) as exp(-2.303 log10 R).

    Source: NeuroSim V1.4 (X. Peng et al.), SarADC.
    """

    VALID: ClassVar[Reach] = {"bits": (3, 10), "column_resistance": (1e3, 1e6)}
    LIMITS: ClassVar[Reach] = {"bits": (1, 16)}

    power_per_bit: Float[Array, ""] = leaf("W", "power a that each bit adds", low=0)
    base_power: Float[Array, ""] = leaf("W", "power c that bits do not change", low=0)
    column_power: Float[Array, ""] = leaf("W Ohm", "k: power of the column's current times its resistance", low=0)
    column_resistance: Float[Array, ""] = leaf("Ohm", "of all cells of the column in parallel, R", low=1)
    cycle: Float[Array, ""] = leaf("s", "time of a bit cycle", low=0)
    converter_area: Float[Array, ""] = leaf("m^2", "area of a converter", low=0)

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion, the column's current included; fitted at one supply."""
        power = self.power_per_bit * bits + self.base_power + self.column_power / self.column_resistance
        return power * self.latency(bits, 0.0)

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion."""
        return (bits + 1) * self.cycle

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self.converter_area
