"""SAR converter of ZigZag-IMC: a closed form calibrated at 28 nm."""

from typing import ClassVar

from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record


@record
class ZigzagADCCost:
    """SAR converter behind a column of `rows` cells, closed form of ZigZag-IMC, calibrated at 28 nm.

        E = (c_bit b + c_exp 4^b) vdd^2      t = b (t_bit + t_row rows)      A = area_scale 10^(d b) 2^b

    The term in 4^b is the noise-limited capacitor; up to nine bits the linear one is the larger. Published
    values: c_bit = 100 fF, c_exp = 1 aF, t_bit = 0.640 ns, t_row = 6.53 ps, area_scale = 10^1.206 um^2,
    d = -0.0369.

    Source: KULeuven-MICAS/zigzag-imc; Houshmand et al., arXiv 2305.18335.

    Example:
        >>> float(law.energy(8.0, 0.9, 0.5))     # 0.701 pJ
        7.01e-13
    """

    VALID: ClassVar[Reach] = {"bits": (3, 9)}
    """Resolutions of the converters that ZigZag-IMC was calibrated on are 3 to 8; up to 9 the linear term rules."""

    capacitance_per_bit: Float[Array, ""] = leaf("F", "capacitance c_bit switched a bit", low=0)
    capacitance_exponential: Float[Array, ""] = leaf("F", "capacitance c_exp that grows as 4^bits", low=0)
    latency_per_bit: Float[Array, ""] = leaf("s", "time t_bit a bit", low=0)
    latency_per_bit_row: Float[Array, ""] = leaf("s", "time t_row a bit and row of the column", low=0)
    area_scale: Float[Array, ""] = leaf("m^2", "area at zero bits", low=0)
    area_decades_per_bit: Float[Array, ""] = leaf("1", "decades d by which the area departs from 2^bits a bit")

    def energy(self, bits, vdd, code) -> Float[Array, "..."]:
        """Energy (J) of a conversion."""
        return (self.capacitance_per_bit * bits + self.capacitance_exponential * 4.0**bits) * vdd**2

    def latency(self, bits, rows) -> Float[Array, "..."]:
        """Time (s) of a conversion."""
        return bits * (self.latency_per_bit + self.latency_per_bit_row * rows)

    def area(self, bits) -> Float[Array, "..."]:
        """Area (m^2) of a converter."""
        return self.area_scale * 10.0 ** (self.area_decades_per_bit * bits) * 2.0**bits
