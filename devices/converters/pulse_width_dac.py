"""The input converter whose levels are durations."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.converters.codes import LEVELS
from pim.devices.converters.dac import AT_ONCE, AtOnce
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.word_line import disturbed, mismatch_part, noise_leaf
from pim.devices.record import leaf, part, record, static


@record
class PulseWidthDAC(AtOnce):
    """A pulse of the full voltage on each word line, as long as the level says; `t_read` is the longest of them.

    The levels are those of `MultibitDAC`, and so are the sums, which are charges instead of currents. What differs:
    white noise of the cells gathers over the pulse, so that its variance and the energy of a cell go with |level|
    instead of level^2, and a cell that is not ohmic sees the full voltage at every level. White noise of a charge:
    sigma^2 over the time for which it gathers (textbook: shot and thermal noise are white).

    Example:
        >>> pim.replace(device, {"dac": PulseWidthDAC(7.0, 99.9, 0.0, 0.0)})
    """

    bits: Float[Array, ""] = leaf("1", "resolution: how many durations that makes, `code` says", low=2, high=16)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration inputs that a static range must hold; the rest clips", low=50, high=100
    )
    capacitance_per_bit: Float[Array, ""] = leaf(
        "F", "capacitance switched a bit and conversion, by counter and driver: E = C * bits * vdd^2", low=0
    )
    area: Float[Array, ""] = leaf("m^2", "area of one converter", low=0)
    mismatch: GainOffsetMismatch | None = mismatch_part()
    inl: StateLaw | None = part(
        "by what every pulse is too long, in LSB, against the level in [-1, 1]; absent: straight", default=None
    )
    noise: Float[Array, ""] | None = noise_leaf()
    code: str = static("durations of an input", choices=AT_ONCE, meanings=LEVELS, default="sign_magnitude")

    @property
    def numbers(self) -> int:
        """Two for gain and offset."""
        return self.mismatch.numbers if self.mismatch is not None else 0

    def pulse(self, levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
        """The full voltage, for |level| of the longest time."""
        return jnp.sign(levels), jnp.abs(levels)

    def charged(self, exposure: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """All of them fully, however short the pulse: an upper bound, since no input is taken to be zero."""
        return jnp.ones_like(exposure)

    def applied(
        self,
        levels: Float[Array, "steps batch lines"],
        frozen: Float[Array, "numbers lines"] | None,
        draws: Float[Array, "steps batch lines"] | None,
    ) -> Float[Array, "steps batch lines"]:
        """INL, gain, offset and noise (jitter) of the durations."""
        if self.inl is not None:
            levels = levels + self.lsb * self.inl(levels)
        return disturbed(levels, self.lsb, self.mismatch, self.noise, frozen, draws)
