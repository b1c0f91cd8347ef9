"""Timing of a DRAM's commands, in clock cycles, and what opening all banks at once is taken to cost."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record, static

ACTIVATED_AT_ONCE = 4
"""Banks that one activation opens under `t_faw`: Newton's and NeuPIMs' G_ACT."""


def _cycles(doc: str, **default):
    return leaf("1", f"cycles {doc}", low=0, **default)


@record
class DramTiming:
    """Intervals between commands in cycles of the clock `t_ck`; names are those of JEDEC's and Ramulator's tables.

    Tables of "the same" memory differ by a factor of two where tools count another clock: read every number with the
    `t_ck` beside it.
    """

    t_ck: Float[Array, ""] = leaf("s", "period of the clock in which all others are counted", low=1e-12)
    n_bl: Float[Array, ""] = _cycles("that a burst takes the pins")
    n_cl: Float[Array, ""] = _cycles("from a read to its data")
    n_rcd: Float[Array, ""] = _cycles("from the activation of a row to its first read")
    n_rcd_wr: Float[Array, ""] = _cycles("from the activation of a row to its first write")
    n_rp: Float[Array, ""] = _cycles("from closing a row to opening another")
    n_ras: Float[Array, ""] = _cycles("that a row stays open at least")
    n_rtp: Float[Array, ""] = _cycles("from a read to closing the row")
    n_wr: Float[Array, ""] = _cycles("from written data to closing the row")
    n_ccd_s: Float[Array, ""] = _cycles("between accesses to different groups of banks")
    n_ccd_l: Float[Array, ""] = _cycles(
        "between accesses to the same group of banks, and so between those to all banks"
    )
    n_faw: Float[Array, ""] = _cycles("in which at most four activations may fall")
    all_bank_act: str = static(
        "what opening all banks at once costs: nothing more (an internal reservoir of charge), a t_faw for every four "
        "banks, or slower columns (a limit on power)",
        choices=("free", "t_faw", "power_ccd"),
        default="free",
    )
    n_ccd_power: Float[Array, ""] | None = leaf(
        "1", "cycles between accesses to all banks under `power_ccd`; needed there", low=0, default=None
    )
    n_wl: Float[Array, ""] | None = leaf(
        "1", "cycles from a write to its data; absent: not known, and taken for none", low=0, default=None
    )
    n_rcd_mac: Float[Array, ""] | None = leaf(
        "1", "cycles from an activation to the first product; absent: as for a read", low=0, default=None
    )
    n_rrd_s: Float[Array, ""] | None = leaf(
        "1", "cycles between activations in different groups of banks; absent: a quarter of n_faw", low=0, default=None
    )
    n_rrd_l: Float[Array, ""] | None = leaf(
        "1", "cycles between activations in the same group of banks; absent: as in different ones", low=0, default=None
    )
    unit_clock: Float[Array, ""] | None = leaf(
        "1/s", "columns a second that an arithmetic unit takes; absent: as fast as the bank gives", low=1, default=None
    )

    def prepare(self) -> "DramTiming":
        """The timing itself, if its rule of activation has what it needs."""
        if self.all_bank_act == "power_ccd" and self.n_ccd_power is None:
            raise DeviceError(
                "timing.all_bank_act is power_ccd, but there is no timing.n_ccd_power: give the cycles between columns "
                "under the limit, or choose free or t_faw"
            )
        return self

    def n_column(self, level: str) -> Float[Array, ""]:
        """Cycles between two columns that units at a level take: from all banks at once, or one by one over the bus."""
        if level == "buffer":
            pace = self.n_ccd_s
        else:
            pace = self.n_ccd_power if self.all_bank_act == "power_ccd" else self.n_ccd_l
        assert pace is not None
        return pace if self.unit_clock is None else jnp.maximum(pace, jnp.ceil(1.0 / (self.unit_clock * self.t_ck)))

    @property
    def write_latency(self) -> Float[Array, ""]:
        """Cycles from a write to its data; where nobody knows, none."""
        return jnp.zeros(()) if self.n_wl is None else self.n_wl

    @property
    def n_first(self) -> Float[Array, ""]:
        """Cycles from the activation of a bank to its first product."""
        return self.n_rcd if self.n_rcd_mac is None else self.n_rcd_mac

    @property
    def n_rrd(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Cycles between activations of single banks, in different groups and in the same."""
        short = self.n_faw / ACTIVATED_AT_ONCE if self.n_rrd_s is None else self.n_rrd_s
        return short, short if self.n_rrd_l is None else self.n_rrd_l

    def closed(self, columns, pace) -> Float[Array, "..."]:
        """Cycles from the last of so many products in a row, at a pace, to closing it: n_ras must have passed."""
        return jnp.maximum(self.n_rtp, self.n_ras - self.n_first - (columns - 1.0) * pace)

    def opened(self, banks) -> Float[Array, ""]:
        """Cycles from the first activation of all banks to the first product."""
        if self.all_bank_act != "t_faw":
            return self.n_first
        return self.n_first + (jnp.ceil(banks / ACTIVATED_AT_ONCE) - 1.0) * self.n_faw
