"""Every random choice of a story, and what it was worth in bits."""

import math
import random
from collections.abc import Collection, Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A stream of choices that adds up its own information content.

    `bits` is the sum of -log2 p over the choices made so far. A story is a function of its choices, so the mean of
    `bits` is an upper bound of the entropy of the text, and equal to it where no two ways of choosing tell the same
    story.

    Only `random.Random.random` is used, whose sequence for an integer seed Python keeps the same from version to
    version and from machine to machine: a seed gives the same story, byte for byte, everywhere.

    Example:
        >>> chance = Chance(7)
        >>> chance.pick("abcd") in "abcd", chance.bits
        (True, 2.0)
    """

    def __init__(self, seed: int):
        self._random = random.Random(seed).random
        self.bits = 0.0

    def below(self, count: int) -> int:
        """An integer from 0 to count - 1, all equally likely."""
        self.bits += math.log2(count)
        return int(self._random() * count)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.below(len(options))]

    def pick_other(self, options: Sequence[T], taken: Collection[T]) -> T:
        """One of the options that are not taken."""
        return self.pick([option for option in options if option not in taken])

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in any order, all orders equally likely."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in items]
