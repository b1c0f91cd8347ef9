"""What hands plain reads and writes to the channels: a decoder that all of them share.

A vector that does not go through the units' buffers moves line by line, a column's bytes in each, and every line passes
the decoder. However many channels take them in, the decoder gives a fixed number a cycle: CENT's front end gives one
line of 32 bytes, 64 GB/s at 2 GHz. That is a property of this front end, not of the DRAM.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.banks import Banks
from pim.devices.dram.timing import DramTiming
from pim.devices.record import leaf, record


@record
class FrontEnd:
    """A decoder of plain reads and writes. Channels that work leaves idle do the same for others at the same time."""

    channels: Float[Array, ""] = leaf("1", "channels that share the decoder", low=1)
    lines_per_cycle: Float[Array, ""] = leaf("1", "lines of a column's bytes that it hands out a cycle", low=1e-6)
    queue: Float[Array, ""] = leaf("1", "lines that wait at a channel before the decoder does", low=0)

    def parts(self, banks: Banks) -> Float[Array, ""]:
        """Parts of the device, of so many banks each, that do the same at a time."""
        return jnp.maximum(jnp.floor(self.channels / banks.channels), 1.0)

    def spread(self, banks: Banks, lines: Any) -> Any:
        """Cycles for lines of each part that go to many banks: the decoder's."""
        return lines * self.parts(banks) / self.lines_per_cycle

    def row(self, banks: Banks, timing: DramTiming) -> Float[Array, ""]:
        """Cycles for writing a whole row of one bank in each part, where others of the same banks follow.

        The decoder goes on to the next part once no more than a queue is left; a bank waits until its last is written.
        """
        columns, opening = banks.columns, timing.n_rp + timing.n_rcd_wr
        left = opening + jnp.maximum(columns - self.queue, 0.0) * timing.n_ccd_l
        written = timing.write_latency + timing.n_bl + timing.n_wr
        return jnp.maximum(self.parts(banks) * left, (columns - 1) * timing.n_ccd_l + written + opening)
