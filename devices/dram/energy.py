"""Energy of a DRAM's commands, and the ladder that data climbs from the cells to the pins.

What is absent is unknown: an energy that needs it is unknown too. Rungs and registers that a device file does not name
count as nothing: their energy is then within that of the cells or the pins, or left out.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record

LEVELS = ("bank", "bank_group", "buffer")
"""Where arithmetic units sit: at each bank, at each group of banks, on the buffer die."""

UNKNOWN = float("nan")


def _joules(doc: str, **default: Any):
    return leaf("J", doc, low=0, **({"default": None} | default))


@record
class CommandEnergy:
    """Energy of each command, by bank, bit and product.

    A bit climbs rung by rung: out of the cells, to the multiplexer of its bank group, to that of the channel, through
    the silicon vias to the buffer die, over the pins. A unit reads over the rungs below it, and gets its inputs over
    those above.
    """

    activation: Float[Array, ""] | None = _joules("opening and closing a row of one bank")
    cell: Float[Array, ""] | None = _joules("reading a bit of an open row at the edge of the bank")
    to_group: Float[Array, ""] | None = _joules("a bit from the edge of the bank to its group", default=0.0)
    to_channel: Float[Array, ""] | None = _joules("a bit from the group to the channel", default=0.0)
    to_buffer: Float[Array, ""] | None = _joules("a bit through the vias of a stack", default=0.0)
    pins: Float[Array, ""] | None = _joules("a bit over the pins")
    mac: Float[Array, ""] | None = _joules("a multiply-accumulate, operands at hand")
    register_read: Float[Array, ""] | None = _joules("a bit out of the units' registers, inside", default=0.0)
    register_write: Float[Array, ""] | None = _joules("a bit into the units' registers, inside", default=0.0)
    refresh: Float[Array, ""] | None = _joules("a refresh of all banks of a channel")
    standby: Float[Array, ""] | None = leaf("W", "a channel at rest, rows open; absent: unknown", low=0, default=None)

    def below(self, level: str) -> Float[Array, ""]:
        """Energy (J) of a bit from the edge of the bank to a unit at that level."""
        return sum((known(rung) for rung in self._rungs[: LEVELS.index(level)]), jnp.zeros(()))

    def above(self, level: str) -> Float[Array, ""]:
        """Energy (J) of a bit between a unit at that level and the pins."""
        return sum((known(rung) for rung in self._rungs[LEVELS.index(level) :]), jnp.zeros(()))

    @property
    def _rungs(self) -> tuple[Any, Any]:
        """From bank to group, and from there to the buffer die (or the edge of a chip that is no stack)."""
        return self.to_group, known(self.to_channel) + known(self.to_buffer)


def known(value: Any) -> Float[Array, ""]:
    """A figure, or NaN where it is absent."""
    return jnp.asarray(UNKNOWN if value is None else value)
