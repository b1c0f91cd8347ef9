"""What stands around arrays on a chip: cores, tiles, clusters of tiles, and the chip, each with blocks that it shares.

Each array pays its share of every block that it shares with others: of its area, and of its power for as long as the
array works, so that a chip full of arrays pays for the whole chip and one array is no cheaper than it is.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from pim.devices.components.block import Block
from pim.devices.record import fields_of, leaf, part, record


@record
class Level:
    """One level: how many units of the next smaller one it holds, and the blocks that these share."""

    holds: Float[Array, ""] = leaf("1", "units of the next smaller level in it; arrays, in the smallest", low=1)
    buffer: Block | None = part("memory that they share", default=None)
    bus: Block | None = part("wires between that memory and them", default=None)
    router: Block | None = part("router of the network on the chip", default=None)
    registers: Block | None = part("registers for inputs and outputs", default=None)
    special_functions: Block | None = part(
        "units for what is no product: activations, maxima, sums, vector arithmetic", default=None
    )
    control: Block | None = part("control and memory of instructions", default=None)
    links: Block | None = part("links to other chips", default=None)


class Shared(NamedTuple):
    """A block, what it is called in a ledger, and how many arrays share it."""

    name: str
    block: Block
    arrays: Any


@record
class Hierarchy:
    """The levels around the arrays, smallest first; one that is absent holds one unit and shares nothing.

    ISAAC's is a core (its IMA) of 8 arrays, a tile of 12 cores, a cluster of 4 tiles at one router, and a chip of 42
    clusters with its links.

    Example:
        >>> [shared.name for shared in pim.preset("rram-isaac").model.hierarchy.shared()]
        ['core_registers', 'tile_buffer', 'tile_bus', 'tile_registers', 'tile_special_functions', ...]
    """

    core: Level | None = part("arrays with what they share", default=None)
    tile: Level | None = part("cores with what they share", default=None)
    cluster: Level | None = part("tiles with what they share: a router, say", default=None)
    chip: Level | None = part("clusters with what they share", default=None)

    def _levels(self) -> Iterator[tuple[str, Level, Any]]:
        """Name and level of those that are there, and the arrays in each."""
        arrays: Any = 1.0
        for name in fields_of(self):
            level = getattr(self, name)
            if level is not None:
                arrays = arrays * level.holds
                yield name, level, arrays

    def arrays(self) -> Any:
        """Arrays in the largest level: those of a chip."""
        return [1.0, *(arrays for _, _, arrays in self._levels())][-1]

    def shared(self) -> Iterator[Shared]:
        """All blocks, those of the smallest level first."""
        for name, level, arrays in self._levels():
            for of in fields_of(level):
                block = getattr(level, of)
                if isinstance(block, Block):
                    yield Shared(f"{name}_{of}", block, arrays)
