"""A block that is known by its ratings alone: a shared buffer, a router, a unit for special functions, a link."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Block:
    """A block by its rated power and area, as tables of architectures give it.

    A table that gives one power while busy has it all in `power`; one that tells dynamic power and leakage apart has
    both, and they add up while the block is busy.
    """

    power: Float[Array, ""] = leaf("W", "power while the arrays that it serves work, on top of its leakage", low=0)
    area: Float[Array, ""] = leaf("m^2", "area", low=0)
    leakage: Float[Array, ""] = leaf("W", "static power, whether they work or not", low=0, default=0.0)
