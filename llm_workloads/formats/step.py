"""What values of a format share: the worth of a code of one, and where codes begin."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

TINY = float(jnp.finfo(jnp.float32).tiny)
"""The least scale: values that are all zero, or nearly, have it, and nothing is divided by zero."""


class Step(NamedTuple):
    """The scale of some values, broadcast against them; `base` and `low` are of integers alone.

    Attributes:
        scale: what a code of one is worth.
        base: what a code of zero stands for.
        low: the least code.
    """

    scale: Float[Array, "..."]
    base: Float[Array, "..."]
    low: Float[Array, "..."]


def scale_only(scale: Float[Array, "..."]) -> Step:
    """A step that is a scale and nothing else."""
    zero = jnp.zeros_like(scale)
    return Step(scale, zero, zero)


def largest(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """The largest magnitude over some axes, which stay with a length of one."""
    return jnp.max(jnp.abs(x), axis=axes, keepdims=True)
