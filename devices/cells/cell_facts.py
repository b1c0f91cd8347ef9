"""Facts of a cell that no noise law needs but every survey table lists; what is not known is absent."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class CellFacts:
    """Cost of writing, leakage and life of a cell. Levels, area, density and on/off ratio follow from the cell itself.

    An absent value is unknown: whoever needs it says so and does not guess.
    """

    on_off_ratio: Float[Array, ""] | None = leaf(
        "1", "largest over smallest conductance that the cell can take", low=1, default=None
    )
    write_energy: Float[Array, ""] | None = leaf(
        "J", "energy of writing one cell, verify included", low=0, default=None
    )
    write_latency: Float[Array, ""] | None = leaf("s", "time of writing one cell, verify included", low=0, default=None)
    leakage: Float[Array, ""] | None = leaf("W", "power of a cell that is not accessed", low=0, default=None)
    endurance: Float[Array, ""] | None = leaf("1", "writes that a cell survives", low=1, default=None)
    retention: Float[Array, ""] | None = leaf("s", "time for which a state can still be told", low=0, default=None)
