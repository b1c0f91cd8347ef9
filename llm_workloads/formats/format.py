"""A format: how a number is represented, and which numbers share a scale.

Values are kept in float32 as what the format makes of them (fake quantisation): every code times its scale.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.formats.floats import SmallFloat
from pim.llm_workloads.formats.integers import Integer
from pim.llm_workloads.formats.microscaling import shared_step
from pim.llm_workloads.formats.step import Step, scale_only

SHARERS = {
    "none": "a scale of one",
    "tensor": "all values of a matrix",
    "channel": "what is multiplied into one output (weights), or one channel of so many tokens (keys and values)",
    "token": "the vector of a token (and head)",
    "group": "so many neighbours of a vector",
}
"""What shares a scale, in words."""


@dataclass(frozen=True)
class Format:
    """A number format with its scales.

    Attributes:
        name: the short name, see `names.parse_format`.
        number: how a value is represented.
        per: what shares a scale, one of `SHARERS`.
        size: values in a group, or tokens in a channel's; None where the whole vector is meant.
        microscaled: scales are powers of two by the rule of MX.
    """

    name: str
    number: Integer | SmallFloat
    per: str
    size: int | None = None
    microscaled: bool = False

    def step(self, x: Float[Array, "..."], axes: tuple[int, ...]) -> Step:
        """The scale of the values that lie along `axes` together."""
        if self.per == "none":
            return scale_only(jnp.ones((1,) * x.ndim, jnp.float32))
        return shared_step(self.number, x, axes) if self.microscaled else self.number.step(x, axes)

    def __str__(self) -> str:
        return self.name


@partial(jax.jit, static_argnames=("how", "axis"))
def quantised(x: Float[Array, "..."], how: Format, axis: int) -> Float[Array, "..."]:
    """What a format keeps of values.

    Args:
        x: values: weights [..., n_in, n_out], inputs [..., n_in], keys or values with an axis of their channels.
        how: the format. One scale a "tensor" is one for the last two axes, so that stacked matrices have their own.
        axis: the axis of vectors, counted from the end (negative): -2 of weights, -1 of inputs. "channel" and "token"
            share a scale along it, and groups are runs of it, the last one shorter if need be.

    Example:
        >>> quantised(weights, parse_format("int4:group128"), axis=-2)
    """
    if how.per == "tensor":
        return how.number.nearest(x, how.step(x, (-2, -1)))
    if how.size is None:
        return how.number.nearest(x, how.step(x, (axis,)))
    blocks = split(x, how.size, axis)
    return joined(how.number.nearest(blocks, how.step(blocks, (axis,))), x.shape[axis], axis)


def split(x: Float[Array, "..."], size: int, axis: int) -> Float[Array, "..."]:
    """An axis (negative) as groups of `size`: [..., groups, size, ...], the last filled up with its last value."""
    count = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, -count % size)
    padded = jnp.pad(x, padding, mode="edge")
    at = x.ndim + axis
    return padded.reshape(*x.shape[:at], -1, size, *x.shape[at + 1 :])


def joined(blocks: Float[Array, "..."], count: int, axis: int) -> Float[Array, "..."]:
    """The first `count` values of an axis from its groups: the inverse of `split`."""
    at = blocks.ndim + axis
    whole = blocks.reshape(*blocks.shape[: at - 1], -1, *blocks.shape[at + 1 :])
    return jax.lax.slice_in_dim(whole, 0, count, axis=at - 1)
