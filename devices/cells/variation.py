"""Variation: what is different from die to die, array to array, column to column and cell to cell before any writing.

Write-verify takes such differences out, which is why most preset cells have none; devices that are written blind
(charge, currents of transistors, binary memories) keep them. They are frozen in a chip; a die is a chip, so that the
spread between wafers is part of the spread between dies.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.random import fold, normal
from pim.devices.record import leaf, record


@record
class Variation:
    """A factor on each conductance, lognormal with median 1, drawn at four levels that multiply."""

    sigma_die: Float[Array, ""] = leaf("1", "standard deviation of ln G from die to die", low=0, high=3, default=0.0)
    sigma_array: Float[Array, ""] = leaf(
        "1", "standard deviation of ln G from array to array", low=0, high=3, default=0.0
    )
    sigma_column: Float[Array, ""] = leaf(
        "1", "standard deviation of ln G from column to column", low=0, high=3, default=0.0
    )
    sigma_cell: Float[Array, ""] = leaf("1", "standard deviation of ln G from cell to cell", low=0, high=3, default=0.0)

    def factor(
        self, shape: tuple[int, ...], key_for: Callable[[str], Key[Array, ""]]
    ) -> Float[Array, "*lead rows columns"]:
        """The factor of each cell of an array; `key_for("die")` is the same for all arrays of a chip."""
        site = key_for("vary")
        log = (
            self.sigma_die * normal(key_for("die"), ())
            + self.sigma_array * normal(fold(site, 0), ())
            + self.sigma_column * normal(fold(site, 1), (*shape[:-2], 1, shape[-1]))
            + self.sigma_cell * normal(fold(site, 2), shape)
        )
        return jnp.exp(log)
