"""Mismatch of gain and offset: what makes each converter of a design another one, frozen in a chip."""

from typing import ClassVar

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class GainOffsetMismatch:
    """Each converter sees (1 + gain error) * signal + offset, both normal from converter to converter."""

    numbers: ClassVar[int] = 2

    sigma_gain: Float[Array, ""] = leaf("1", "standard deviation of the gain error", low=0, high=1, default=0.0)
    sigma_offset: Float[Array, ""] = leaf("1", "standard deviation of the offset, in LSB", low=0, default=0.0)

    def distort(self, level: Float[Array, "*n"], frozen: Float[Array, "2 *m"]) -> Float[Array, "*n"]:
        """A signal (LSB) as converters with the standard normal numbers `frozen` see it."""
        return level * (1.0 + self.sigma_gain * frozen[0]) + self.sigma_offset * frozen[1]
