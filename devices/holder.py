"""The one protocol of devices that take a matrix whole and multiply by it in digital logic."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Key

KeyFor = Callable[[str], Key[Array, ""]]
"""Key of the site for each use, see `random.site_key`."""


@runtime_checkable
class Holder(Protocol):
    """A digital device that holds matrices: both functions are pure, and may be jitted and mapped over."""

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Any:
        """What is stored of a matrix (a tree of arrays); without keys the nominal one, free of the chip's faults."""
        ...

    def multiply(self, held: Any, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product of inputs with what is stored, in the device's own arithmetic."""
        ...
