"""Near-DRAM processing: arithmetic units at the banks of a DRAM, in the number format that they compute in."""

from typing import Any

from jaxtyping import Array, Float

from pim.devices.arithmetic import Arithmetic, arithmetic_part
from pim.devices.cells.cell_facts import CellFacts
from pim.devices.holder import KeyFor
from pim.devices.record import leaf, part, record, told
from pim.devices.retention_errors import RetentionErrors


@record
class NearDram:
    """Units at the banks that multiply what the rows hold by inputs that they are given.

    What they compute is known here, what that costs is not: the timing and the energy of their commands are parts of
    their own.
    """

    arithmetic: Arithmetic = arithmetic_part()
    retention: RetentionErrors | None = part("cells that lose their bit between refreshes; absent: none", default=None)
    cell_area: Float[Array, ""] | None = leaf("m^2", "area of one DRAM cell; absent: unknown", low=0, default=None)
    facts: CellFacts | None = told("what the field's survey tables list of its cell; absent: unknown", default=None)

    @property
    def levels(self) -> float:
        """States of a cell: a bit."""
        return 2.0

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Any:
        """The matrix in the operands' format, in the order in which the units go through it.

        With a chip's key and a law of retention, some of its bits are wrong for good; else a DRAM makes no errors.
        """
        law = self.retention
        if law is None or key_for is None:
            return self.arithmetic.hold(weights)
        key = key_for("retention")
        return self.arithmetic.hold(weights, lambda words, name: law.flip(words, name, key))

    def multiply(self, held: Any, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product in the units' arithmetic."""
        return self.arithmetic.multiply(held, x)
