"""What comes to the converters of a tile: sums of columns, and the noise that they get on their way.

The noise is drawn where it is used, conversion by conversion, so that no array of it is kept.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import normal_rows


class Noise(NamedTuple):
    """Noise of sums: `deviation` times standard normal numbers, drawn for each row of a batch."""

    deviation: Float[Array, "conversions #batch #columns"]
    keys: Key[Array, "batch"]
    draws: str


class Arriving(NamedTuple):
    """Sums and noise of every conversion of a tile: for each time that they convert, for each part of a weight."""

    sums: list[Float[Array, "batch columns"]] | Float[Array, "conversions batch columns"]
    noise: Noise | None = None

    def noisy(self) -> Float[Array, "conversions batch columns"]:
        """The sums of all conversions at once, with their noise."""
        sums = jnp.stack(self.sums) if isinstance(self.sums, list) else self.sums
        if self.noise is None:
            return sums
        draws = normal_rows(self.noise.keys, sums.shape[::2], self.noise.draws)
        return sums + self.noise.deviation * jnp.moveaxis(draws, 0, 1)


def by_conversion(arrays: Float[Array, "times batch parts columns"]) -> Float[Array, "conversions batch columns"]:
    """Times and parts in one axis in front, along which a loop goes."""
    times, batch, parts, columns = arrays.shape
    return jnp.moveaxis(arrays, 2, 1).reshape(times * parts, batch, columns)
