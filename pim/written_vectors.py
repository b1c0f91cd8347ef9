"""Vectors of tokens, one head of one document at a time: how they are cut into arrays, and what names their noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped, UInt32

from pim.devices.random import array_key
from pim.mapping.tiles import row_tiles
from pim.turns import in_turns

KEYS = "attention.qk"
"""The product with keys; the other one is with values."""


class Site(NamedTuple):
    """Where a product is, for the keys of noise: the chip (None: the nominal one), the layer and the operator."""

    chip: Key[Array, ""] | None
    layer: Any
    operator: Any

    def of_array(self, head: "Head", array: Any) -> Key[Array, ""] | None:
        """The key of an array of a head, in place of the chip's."""
        if self.chip is None:
            return None
        return array_key(self.chip, document=head.document, head=head.head, array=array)


class Head(NamedTuple):
    """Keys or values of one head of one document, and what they are multiplied by; or many, with a leading axis."""

    vectors: Float[Array, "*heads tokens head_dim"]
    x: Float[Array, "*heads rows n_in"]
    document: UInt32[Array, "*heads"]
    head: UInt32[Array, "*heads"]
    rows: UInt32[Array, "*heads rows 2"]
    """What names each row of `x` within the head: the query of its group, and the position of its token."""


def by_head(
    operator: str,
    matrices: Float[Array, "batch heads n_in n_out"],
    x: Float[Array, "batch heads rows n_in"],
    ids: UInt32[Array, "batch time 2"],
    multiply: Callable[[Head], Float[Array, "rows n_out"]],
    most: int,
) -> Float[Array, "batch heads rows n_out"]:
    """The products of all heads of all documents, at most `most` at once; `multiply` is that of one."""
    batch, heads, rows, _ = x.shape
    time = ids.shape[1]
    group = jnp.repeat(jnp.arange(rows // time, dtype=jnp.uint32), time)
    position = jnp.tile(ids[:, :, 1], (1, rows // time))
    named = jnp.stack([jnp.broadcast_to(group[None], position.shape), position], axis=-1)
    vectors = jnp.swapaxes(matrices, -1, -2) if operator == KEYS else matrices

    def of_each(leaf: Array, axis: int) -> Array:
        """One for each document or head, for each pair of them."""
        leaf = jnp.expand_dims(leaf, axis)
        return jnp.broadcast_to(leaf, (batch, heads, *leaf.shape[2:])).reshape(-1, *leaf.shape[2:])

    each = Head(
        vectors=vectors.reshape(-1, *vectors.shape[2:]),
        x=x.reshape(-1, *x.shape[2:]),
        document=of_each(ids[:, 0, 0], 1),
        head=of_each(jnp.arange(heads, dtype=jnp.uint32), 0),
        rows=of_each(named, 1),
    )
    if most >= batch * heads:
        return jax.vmap(multiply)(each).reshape(batch, heads, rows, -1)
    return in_turns(jax.vmap(multiply), each, most).reshape(batch, heads, rows, -1)


def cut_tokens(vectors: Shaped[Array, "tokens head_dim"], tokens: int) -> Shaped[Array, "arrays tokens_each head_dim"]:
    """The vectors of each array, so many tokens long whatever there is to write: the last one filled up with zeros.

    What is drawn for the cells of a token then depends on its position alone, not on how many others there are.
    """
    arrays = row_tiles(len(vectors), tokens)
    return jnp.pad(vectors, ((0, arrays * tokens - len(vectors)), (0, 0))).reshape(arrays, tokens, -1)
