"""What input converters share: the pulse that a level is, and its errors."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.record import leaf, part


def mismatch_part() -> Any:
    """The field for gain and offset of each converter."""
    return part("gain and offset of each converter; absent: all alike", default=None)


def noise_leaf() -> Any:
    """The field for the noise of a level."""
    return leaf("1", "standard deviation of the level from read to read, in LSB; absent: none", low=0, default=None)


def disturbed(
    levels: Float[Array, "steps batch lines"],
    lsb: Float[Array, ""],
    mismatch: GainOffsetMismatch | None,
    noise: Float[Array, ""] | None,
    frozen: Float[Array, "numbers lines"] | None,
    draws: Float[Array, "steps batch lines"] | None,
) -> Float[Array, "steps batch lines"]:
    """Levels with gain, offset and noise."""
    if mismatch is not None and frozen is not None:
        levels = lsb * mismatch.distort(levels / lsb, frozen[: mismatch.numbers, None, None])
    if noise is not None and draws is not None:
        levels = levels + lsb * noise * draws
    return levels


def full_pulse(levels: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, ""]]:
    """The pulse of a level that is a voltage: as high as the level says, and as long as any other."""
    return levels, jnp.ones(())
