"""Architectures: how a converter finds its codes, by circuits that differ from converter to converter."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float


@runtime_checkable
class Architecture(Protocol):
    """How a signal becomes a code.

    A converter looks for codes about zero, -c to c (`low` = -`high`: sign and magnitude), or from zero up (`low` = 0).
    Two's complement and offset codes are found from zero up too, the signal measured from the low end of the range.
    """

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip."""
        ...

    @property
    def max_bits(self) -> int:
        """Largest resolution that it can have."""
        ...

    def code(
        self,
        level: Float[Array, "*n"],
        low: Float[Array, ""],
        high: Float[Array, ""],
        frozen: Float[Array, "numbers *m"],
    ) -> Float[Array, "*n"]:
        """Codes in [low, high] of a signal in LSB; `frozen` broadcasts over it."""
        ...
