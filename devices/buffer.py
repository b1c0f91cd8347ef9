"""SRAM buffers: energy, area and leakage as power laws of their size."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record


@runtime_checkable
class Memory(Protocol):
    """A buffer as costs see it: what a byte takes, area and static power."""

    bytes: Float[Array, ""]

    def energy_per_byte(self) -> Float[Array, "..."]:
        """Energy (J) of reading or writing one byte."""
        ...

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        ...

    def leakage(self) -> Float[Array, "..."]:
        """Static power (W)."""
        ...


@record
class Buffer:
    """A buffer of `bytes` in equal banks, each scaled from a reference size by a fitted exponent for each figure.

        r = bytes / (banks reference_bytes)      E = reference_energy r^e      A = banks reference_area r^a
        P = banks reference_leakage r^l

    An access goes to one bank, and costs no way to another: what uses a bank stands beside it.

    A fit to CACTI 7 (ITRS-HP, 256-bit port, 22 to 65 nm, 2 KB to 1 MB; its energy scatters by 0.18 in ln) has
    the exponents 0.553 (energy a byte), 0.916 (area) and 0.952 (leakage). At other sizes it is an extrapolation.
    """

    VALID: ClassVar[Reach] = {"bank_bytes": (2048, 1048576)}

    bytes: Float[Array, ""] = leaf("1", "bytes it holds", low=1)
    banks: Float[Array, ""] = leaf("1", "banks that share the bytes", low=1)
    reference_bytes: Float[Array, ""] = leaf("1", "size for which the figures are given, in bytes", low=1)
    reference_energy: Float[Array, ""] = leaf("J", "energy of reading or writing a byte at that size", low=0)
    reference_area: Float[Array, ""] = leaf("m^2", "area at that size", low=0)
    reference_leakage: Float[Array, ""] = leaf("W", "static power at that size", low=0)
    energy_exponent: Float[Array, ""] = leaf("1", "exponent of the size in the energy a byte", low=0, high=2)
    area_exponent: Float[Array, ""] = leaf("1", "exponent of the size in the area", low=0, high=2)
    leakage_exponent: Float[Array, ""] = leaf("1", "exponent of the size in the static power", low=0, high=2)

    def derived(self, around: Mapping[str, Any]) -> dict[str, Any]:
        """Bytes of a bank, for which the fit was made."""
        return {"bank_bytes": self.bytes / self.banks}

    def _relative(self) -> Float[Array, "..."]:
        return self.bytes / (self.banks * self.reference_bytes)

    def energy_per_byte(self) -> Float[Array, "..."]:
        """Energy (J) of reading or writing one byte."""
        return self.reference_energy * self._relative() ** self.energy_exponent

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        return self.banks * self.reference_area * self._relative() ** self.area_exponent

    def leakage(self) -> Float[Array, "..."]:
        """Static power (W)."""
        return self.banks * self.reference_leakage * self._relative() ** self.leakage_exponent
