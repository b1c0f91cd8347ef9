"""How a DRAM is organised: channels, the banks that work together in each, their rows and columns."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record, static


@record
class Banks:
    """Channels that work in parallel, each with banks that take the same command at once.

    A column is what a bank gives in one access; a unit multiplies all of its operands at a time.
    """

    channels: Float[Array, ""] = leaf("1", "channels (or pseudo-channels, or processors) that work in parallel", low=1)
    banks: Float[Array, ""] = leaf("1", "banks of a channel that take one command together", low=1)
    row_bytes: Float[Array, ""] = leaf("1", "bytes of a row of one bank", low=1)
    column_bytes: Float[Array, ""] = leaf("1", "bytes of a column: one access to one bank", low=1)
    rows: Float[Array, ""] = leaf("1", "rows of a bank", low=1)
    buses: Float[Array, ""] = leaf(
        "1",
        "buses of a channel with pins of their own: its pseudo-channels, if they work together; below one where "
        "channels share pins",
        low=1e-4,
        default=1.0,
    )
    banks_per_unit: Float[Array, ""] = leaf("1", "banks that share an arithmetic unit", low=1, default=1.0)
    row_buffers: str = static(
        "row buffers of a bank",
        choices=("one", "two"),
        meanings={
            "one": "it computes, or it is read and written",
            "two": "it is read and written while it computes (Heo et al., NeuPIMs, ASPLOS 2024, section 5): whoever "
            "takes softmaxes is on one head while the banks are on the next",
        },
        default="one",
    )

    @property
    def columns(self) -> Float[Array, ""]:
        """Columns of a row."""
        return self.row_bytes / self.column_bytes

    @property
    def capacity(self) -> Float[Array, ""]:
        """Bytes of the whole device."""
        return self.channels * self.banks * self.rows * self.row_bytes
