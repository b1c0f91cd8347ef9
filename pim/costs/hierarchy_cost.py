"""What arrays pay for the blocks that they share with others in a tile or on a chip (`pim.devices.hierarchy`)."""

from typing import Any

from pim.costs.stages import Row
from pim.devices.hierarchy import Hierarchy


def shared_rows(hierarchy: Hierarchy | None, arrays: Any, time: Any) -> list[Row]:
    """A row for each shared block: the share of `arrays` arrays in its power for the `time` (s) they work, and area.

    Blocks work behind the arrays' backs: latency 0. What a block draws at rest is in `shared_leakage`.
    """
    if hierarchy is None:
        return []
    shares = ((name, block, arrays / served) for name, block, served in hierarchy.shared())
    return [(name, block.power * time * share, 0.0, block.area * share) for name, block, share in shares]


def shared_leakage(hierarchy: Hierarchy, arrays: Any) -> Any:
    """Static power (W) of the shares that `arrays` arrays have in all blocks."""
    return sum(block.leakage * arrays / served for _, block, served in hierarchy.shared())
