"""Near-DRAM processing: arithmetic units at the banks of a DRAM, their number format, and what drives them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.activation_table import ActivationTable
from pim.devices.arithmetic import Arithmetic, arithmetic_part, operand_bits
from pim.devices.cells.cell_facts import CellFacts
from pim.devices.dram.append import append
from pim.devices.dram.banks import Banks
from pim.devices.dram.energy import LEVELS, CommandEnergy
from pim.devices.dram.fill import fill
from pim.devices.dram.fit import check_fit
from pim.devices.dram.kernel import Kernel, Memory
from pim.devices.dram.kernels.heads import HeadsKernel
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.timing import DramTiming
from pim.devices.dram.work import APPENDS, Commands, Work, whole
from pim.devices.holder import KeyFor
from pim.devices.record import leaf, part, record, static, told
from pim.devices.retention_errors import RetentionErrors


@record
class NearDram:
    """Units at the banks that multiply what the rows hold by inputs that they are given.

    Example:
        >>> device = pim.preset("dram-hbm-pim")
        >>> commands = device.model.commands(Work("gemv", 4096, 4096))
        >>> commands.cycles.total, commands.activations
    """

    banks: Banks = part("channels, banks, rows and columns")
    timing: DramTiming = part("intervals between commands")
    kernel: Kernel = part("how products with a matrix are run")
    arithmetic: Arithmetic = arithmetic_part()
    level: str = static("where the arithmetic units sit", choices=LEVELS, default="bank")
    vectors_at_once: int = static(
        "vectors that a unit multiplies a column by, each with multipliers, registers and wires of its own", low=1,
        default=1,
    )  # fmt: skip
    attention: Kernel | None = part("how attention is run; absent: as products with a matrix", default=None)
    refresh: Refresh | None = part("refresh of the rows; absent: none", default=None)
    energy: CommandEnergy | None = part("energy of the commands; absent: unknown", default=None)
    area: Float[Array, ""] | None = leaf(
        "m^2", "area of all dies, memory and units; absent: unknown", low=0, default=None
    )
    activation: ActivationTable | None = part(
        "table through which activation functions go, at the banks that hold the matrix before; absent: none do",
        default=None,
    )
    retention: RetentionErrors | None = part("cells that lose their bit between refreshes; absent: none", default=None)
    cell_area: Float[Array, ""] | None = leaf("m^2", "area of one DRAM cell; absent: unknown", low=0, default=None)
    facts: CellFacts | None = told("what the field's survey tables list of its cell; absent: unknown", default=None)

    @property
    def levels(self) -> float:
        """States of a cell: a bit."""
        return 2.0

    def prepare(self) -> "NearDram":
        """The device itself, if its parts fit one another; else DeviceError. Traced parts are not looked at."""
        if not any(isinstance(value, Tracer) for value in jax.tree.leaves(self)):
            check_fit(self.memory, self.kernel, self.attention, self.refresh)
        return self

    @property
    def hides_softmax(self) -> bool:
        """Whether softmaxes of attention at the banks are taken behind their back, head by head."""
        return isinstance(self.attention, HeadsKernel) or self.banks.row_buffers == "two"

    @property
    def memory(self) -> Memory:
        """What a kernel needs to know."""
        return Memory(self.banks, self.timing, self.level, operand_bits(self.arithmetic), self.kernel)

    def commands(self, work: Work, *, alone: bool = True) -> Commands:
        """The commands of work, over the whole device, and the cycles of its busiest channel.

        Whole refreshes are in it; their average, if the work is not `alone` but one of many.
        """
        if work.operation in APPENDS:
            commands = append(self.memory, work)
        else:
            together = self._turns(work)
            commands = self.kernel_of(work).commands(self.memory, together)
            if self.vectors_at_once > 1:
                commands = commands.for_vectors(work.vectors / together.vectors)
        return commands.refreshed(self.refresh, self.banks.channels, alone=alone)

    def filling(self, values: Any) -> Commands:
        """The commands of writing so many weights into the rows, refreshes among them."""
        return fill(self.memory, values).refreshed(self.refresh, self.banks.channels)

    def schedule(self, work: Work) -> Schedule:
        """The commands of one product, one by one, in the busiest channel, whole refreshes among them.

        Raises:
            DeviceError: a size is no plain number, there are too many commands, or the device has no schedules.

        Example:
            >>> schedule = pim.preset("dram-aim").model.schedule(Work("gemv", 4096, 4096))
            >>> schedule.end, schedule.counts()
        """
        return self.kernel_of(work).schedule(self.memory, self._turns(work), self.refresh)

    def _turns(self, work: Work) -> Work:
        """The work with as many vectors as units take turns; a mean of tokens may be a little more than full."""
        if self.vectors_at_once == 1:
            return work
        return work._replace(vectors=whole(jnp.asarray(work.vectors) / self.vectors_at_once - FRINGE))

    def kernel_of(self, work: Work) -> Any:
        """What runs work on this device."""
        return self.kernel if work.operation == "gemv" or self.attention is None else self.attention

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


FRINGE = 0.01
"""Share of a turn beyond which another is taken."""
