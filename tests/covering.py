"""All combinations of some parameters, of which the fast suite takes a few that hold every value."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def covering(*axes: Sequence[Any]) -> list[Any]:
    """Every combination of a value of each axis, for `parametrize`; those beyond a covering few are slow.

    The few go along the longest axis and round and round the others, so that each value of each axis is among them.
    """
    along = range(max(map(len, axes)))
    few = {tuple(k % len(axis) for axis in axes) for k in along}
    return [
        pytest.param(
            *(axis[i] for axis, i in zip(axes, index, strict=True)), marks=() if index in few else pytest.mark.slow
        )
        for index in itertools.product(*(range(len(axis)) for axis in axes))
    ]


def first_few(quick: int, values: Sequence[Any]) -> list[Any]:
    """The values of one parameter, of which those after the first few are slow: they take the same way through."""
    return [value if k < quick else pytest.param(value, marks=pytest.mark.slow) for k, value in enumerate(values)]
