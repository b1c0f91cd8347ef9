"""Units beside a DRAM for what its banks do not do: exponentials, roots, sums, positions.

CENT has them on the controller of each CXL device: vector units that take turns at one shared buffer, and small
processors for single numbers. Cycles are those that its artifact counts (cent_power_calculator.py); they are its own
account of what stands outside of the cycles of its memory, and not overlapped with it.
"""

from typing import Any

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Accelerators:
    """Vector units behind a shared buffer, and processors."""

    clock: Float[Array, ""] = leaf("1/s", "cycles a second", low=1)
    units: Float[Array, ""] = leaf("1", "vector units, which the buffer serves one after another", low=1)
    lanes: Float[Array, ""] = leaf("1", "numbers that a vector unit takes at once", low=1)
    exponential: Float[Array, ""] = leaf("1", "cycles of an exponential", low=0)
    summed: Float[Array, ""] = leaf("1", "squares that the banks have summed to one number of a norm", low=1)
    root: Float[Array, ""] = leaf("1", "cycles of a norm's root and its inverse on a processor", low=0)
    inverse: Float[Array, ""] = leaf("1", "cycles of a head's inverse sum on a processor, its sending included", low=0)
    rotation: Float[Array, ""] = leaf("1", "cycles of a number's position, over all processors", low=0)

    def softmax_time(self, scores: Any, heads: Any) -> Float[Array, "..."]:
        """Time (s) of the exponentials of so many scores, of their sums, and of the inverse of each head's."""
        once = (self.units + self.exponential + 1) + self._added()
        return (scores / (self.lanes * self.units) * once + heads * (1 + self.inverse)) / self.clock

    def norm_time(self, width: Any) -> Float[Array, "..."]:
        """Time (s) of a norm of so many numbers: the sum of what the banks have squared, and its root."""
        return (width / (self.summed * self.lanes * self.units) * self._added() + 3 + self.root) / self.clock

    def rotary_time(self, numbers: Any) -> Float[Array, "..."]:
        """Time (s) of the positions of so many numbers."""
        return numbers * self.rotation / self.clock

    def _added(self) -> Float[Array, ""]:
        """Cycles in which all units add: two operands each come from the buffer, one after another."""
        return 2 * self.units + 2
