"""SRAM buffers at any node: power laws fitted to CACTI 7."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record


@record
class CactiBuffer:
    """SRAM of `bytes` in equal banks, with a 256-bit port each, at a node L.

        E = 0.523 pJ/B B^0.553 (L/um)^1.68        A = 0.00366 mm^2 B^0.916 (L/um)^1.88
        t = 0.252 ns B^0.362 (L/um)^0.98          P = 0.192 mW B^0.952 (L/um)^1.84

    of a bank with B bytes. Fitted to runs of CACTI 7 from 2 KB to 1 MB at 22, 32 and 65 nm (ITRS high performance,
    300 K); energies scatter around it by 0.18 in ln. The leakage is that of high-performance transistors; low-power
    ones leak 50 to 1000 times less, which `leakage_factor` says.
    """

    VALID: ClassVar[Reach] = {"bank_bytes": (2048, 1048576), "node": (22e-9, 65e-9)}
    LIMITS: ClassVar[Reach] = {"node": (7e-9, 180e-9)}

    bytes: Float[Array, ""] = leaf("1", "bytes it holds", low=1)
    banks: Float[Array, ""] = leaf("1", "banks that share the bytes", low=1)
    node: Float[Array, ""] = leaf("m", "technology node", low=1e-9, high=1e-6)
    leakage_factor: Float[Array, ""] = leaf(
        "1", "leakage over that of high-performance transistors", low=0, high=1, default=1.0
    )

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """Bytes of a bank, for which the fit was made."""
        return {"bank_bytes": self.bytes / self.banks}

    def _law(self, scale: float, exponent: float, node_exponent: float) -> Float[Array, "..."]:
        return scale * (self.bytes / self.banks) ** exponent * (self.node * 1e6) ** node_exponent

    def energy_per_byte(self) -> Float[Array, "..."]:
        """Energy (J) of reading or writing one byte."""
        return self._law(0.523e-12, 0.553, 1.68)

    def latency(self) -> Float[Array, "..."]:
        """Time (s) of an access."""
        return self._law(0.252e-9, 0.362, 0.98)

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        return self.banks * self._law(0.00366e-6, 0.916, 1.88)

    def leakage(self) -> Float[Array, "..."]:
        """Static power (W)."""
        return self.banks * self.leakage_factor * self._law(0.192e-3, 0.952, 1.84)
