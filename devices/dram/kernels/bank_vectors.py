"""Work element by element on what lies in the rows: products of two banks, looking up a function, copies.

GDDR6-AiM multiplies, in each group of banks, a row of the first by a row of the second into a row of the third. It
takes an activation function from a table that lies in a row, and copies columns from bank to bank through the channel's
buffer. Intervals are those of the command-level simulator of AiM (aim_simulator, part of CENT, ASPLOS 2025).
"""

from jaxtyping import Array, Float

from pim.devices.dram.kernels.all_bank import AllBankKernel
from pim.devices.dram.timing import DramTiming
from pim.devices.record import leaf, record


@record
class BankVectors:
    """Commands that take all banks of a channel through a vector, and how long they wait for a row."""

    group_banks: Float[Array, ""] = leaf("1", "banks of a group, which multiplies two rows into a third", low=3)
    n_rcd_product: Float[Array, ""] = leaf("1", "cycles from an activation to the first product of two banks", low=0)
    n_rcd_table: Float[Array, ""] = leaf("1", "cycles from an activation to the first look-up in a table", low=0)
    n_rcd_copy: Float[Array, ""] = leaf("1", "cycles from an activation to the first column copied into it", low=0)

    def row(self, timing: DramTiming) -> Float[Array, ""]:
        """Cycles beyond its slot from a product of two banks to the next, in another row: products are written."""
        written = timing.write_latency + timing.n_wr
        return written + timing.n_rp + self.n_rcd_product - timing.n_ccd_l

    def copy(self, timing: DramTiming) -> Float[Array, ""]:
        """Cycles for opening the row that columns are copied into."""
        return timing.n_rp + self.n_rcd_copy

    def look_up(self, timing: DramTiming, kernel: AllBankKernel) -> Float[Array, ""]:
        """Cycles of a look-up of each bank and of reading what it gave: two changes of mode, and a burst."""
        return 2 * (kernel.n_mode + 1) + timing.n_bl

    def open_table(self, timing: DramTiming, kernel: AllBankKernel) -> Float[Array, ""]:
        """Cycles that a run of look-ups takes beside them, between the last column of a matrix and reading its sums.

        The table's row is opened. The last look-up leaves the mode as reading the sums needs it: neither it changes
        back nor they wait for a change.
        """
        opening = timing.n_rtp + timing.n_rp + self.n_rcd_table
        return opening - 2 * kernel.n_mode - timing.n_ccd_l
