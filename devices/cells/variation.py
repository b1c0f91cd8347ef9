"""Variation: what is different from wafer to wafer, die to die, array to array, column to column and cell to cell.

It is there before any writing and stays when a chip is written again (device to device); what is different from one
writing to the next (cycle to cycle) is the write error. Write-verify takes variation out, at the price of pulses;
devices that are written blind (charge, currents of transistors, binary memories) keep it. A chip is one die.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.devices.cells.state_law import StateLaw
from pim.devices.errors import DeviceError
from pim.devices.random import fold, normal
from pim.devices.record import leaf, part, record


def _sigma(of: str):
    return leaf("1", f"standard deviation of ln G from {of} to {of}", low=0, high=3, default=0.0)


def _deviation(of: str):
    return leaf(
        "1",
        f"deviation of this {of} in standard deviations (of ln G); absent: drawn with the chip",
        low=-10,
        high=10,
        default=None,
    )


@record
class Variation:
    """A factor on each conductance, lognormal with median 1, drawn at five levels that multiply.

    A chip draws its die and its wafer. Chips of one wafer are chips with the same `wafer`, a corner is a chip with
    `die = 3`: both are numbers of standard deviations, and take the place of the draw.
    """

    sigma_die: Float[Array, ""] = _sigma("die")
    sigma_array: Float[Array, ""] = _sigma("array")
    sigma_column: Float[Array, ""] = _sigma("column")
    sigma_cell: Float[Array, ""] = _sigma("cell")
    sigma_wafer: Float[Array, ""] = _sigma("wafer")
    die: Float[Array, ""] | None = _deviation("die")
    wafer: Float[Array, ""] | None = _deviation("wafer")
    cell_spread: StateLaw | None = part(
        "standard deviation of ln G from cell to cell against the target, in place of sigma_cell", default=None
    )
    g_reference: Float[Array, ""] | None = leaf(
        "S", "conductance at which the argument of cell_spread is 1; needed with one", low=1e-12, default=None
    )

    def factor(
        self, target: Float[Array, "*lead rows columns"], key_for: Callable[[str], Key[Array, ""]]
    ) -> Float[Array, "*lead rows columns"]:
        """The factor of each cell of an array that is to take `target` (S).

        `key_for("die")` and `key_for("wafer")` are the same for all arrays of a chip. A cell is as many standard
        deviations off in one state as in any other.
        """
        site, shape = key_for("vary"), target.shape
        sigma_cell = self.sigma_cell
        if self.cell_spread is not None:
            if self.g_reference is None:
                raise DeviceError(
                    "variation.cell_spread needs variation.g_reference, the conductance of its argument 1"
                )
            sigma_cell = jnp.maximum(self.cell_spread(target / self.g_reference), 0.0)
        die = normal(key_for("die"), ()) if self.die is None else self.die
        wafer = normal(key_for("wafer"), ()) if self.wafer is None else self.wafer
        log = (
            self.sigma_die * die
            + self.sigma_array * normal(fold(site, 0), ())
            + self.sigma_column * normal(fold(site, 1), (*shape[:-2], 1, shape[-1]))
            + sigma_cell * normal(fold(site, 2), shape)
            + self.sigma_wafer * wafer
        )
        return jnp.exp(log)
