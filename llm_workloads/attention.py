"""Attention: the cache of keys and values, what a token may see, and the two products of activations.

What is not attention by a softmax stands in a layer as "attention.engine", and takes the place of all between the cache
and the output's matrix.

Sources: Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245 (grouped queries); Beltagy et al., arXiv
2004.05150 (sliding windows); Xiao et al., arXiv 2309.17453 (sinks); Gemma Team, arXiv 2408.00118 (soft caps).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from pim.llm_workloads.config import DYNAMIC, AttentionKind

Matmul = Callable[[str, Any, Array, Array], Array]
"""`(operator, w, x, ids) -> y`, the hook through which every product goes.

`operator` is one of a config's `static` and `outer_shapes`, or of `DYNAMIC`. For a static matrix, w is [in, out] as
stored and x [batch, time, in]; for a dynamic one, w is [batch, kv_heads, in, out] and x [batch, kv_heads, group * time,
in], where the query g of its group at time t is row `g * time + t`. `ids` [batch, time, 2] (uint32) names each token by
its document and its position in it: a hook that draws noise from these alone gives decoding the noise of prefill.
"""


class Engine(Protocol):
    """What computes attention as a whole, in place of the softmax between two products: both are then its own."""

    def __call__(
        self,
        query: Float[Array, "batch time heads head_dim"],
        keys: Float[Array, "batch kv_heads capacity head_dim"],
        values: Float[Array, "batch kv_heads capacity head_dim"],
        seen: Bool[Array, "batch #time capacity"],
        positions: Int[Array, "batch time"],
    ) -> Float[Array, "batch time heads*head_dim"]:
        """The output of attention.

        Args:
            query: of the new tokens, after the rotation by position.
            keys: of all tokens, the one at position p in slot p.
            values: likewise.
            seen: slots that each new token attends to.
            positions: of the new tokens: what depends on these alone gives decoding the output of prefill.
        """
        ...


class Stateless:
    """A hook that keeps nothing of what it is shown, so that it may be called inside a loop over sequences.

    Args:
        product: the hook.
    """

    def __init__(self, product: Matmul):
        update_wrapper(self, product)
        self.product = product

    def __call__(self, operator: str, w: Any, x: Array, ids: Array) -> Array:
        """As the hook."""
        return self.product(operator, w, x, ids)


SCORES = 1 << 19
"""The most scores at once: 2 MB of them stay in a core's cache while the softmax goes over them again and again."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens already read: of one layer, or of all with a layer axis in front.

    With a capacity of 0 nothing was read and nothing is to follow, as in training and scoring: the keys of the
    tokens at hand are then used as they are, not copied into a larger array.

    Attributes:
        keys: after the rotation by position; slots from `position` on are unused.
        values: likewise.
        position: tokens already in, for each sequence.
        document: identity of each sequence, handed on to the hook.
        lengths: of encoders, tokens of each sequence, behind which there is padding; None: there is none.
    """

    keys: Float[Array, "*layers batch kv_heads capacity head_dim"]
    values: Float[Array, "*layers batch kv_heads capacity head_dim"]
    position: Int[Array, "*layers batch"]
    document: UInt32[Array, "*layers batch"]
    lengths: Int[Array, "*layers batch"] | None = None


def append(cache: Cache, keys: Array, values: Array) -> Cache:
    """Store the keys and values [batch, kv_heads, time, head_dim] of the next tokens, and count them."""
    position = cache.position + keys.shape[2]
    if cache.keys.shape[2] == 0:
        return replace(cache, keys=keys, values=values, position=position)
    write = jax.vmap(lambda old, new, start: jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=1))
    return replace(
        cache,
        keys=write(cache.keys, keys, cache.position),
        values=write(cache.values, values, cache.position),
        position=position,
    )


def visible(
    kind: AttentionKind, layer: Mapping[str, Any], cache: Cache, positions: Int[Array, "batch time"]
) -> Bool[Array, "batch #time capacity"]:
    """Which slots of the cache each token attends to.

    "attention.window" of a layer says how many of the last at most, "attention.sinks" how many of the first besides.
    """
    slots = jnp.arange(cache.keys.shape[2], dtype=jnp.int32)[None, None, :]
    if not kind.causal:
        ends = positions[:, -1] + 1 if cache.lengths is None else cache.lengths
        return slots < ends[:, None, None]
    seen = slots <= positions[:, :, None]
    window, sinks = layer.get("attention.window"), layer.get("attention.sinks")
    if window is None:
        return seen
    recent = slots > positions[:, :, None] - window
    return seen & (recent if sinks is None else recent | (slots < sinks))


def attend(
    kind: AttentionKind,
    query: Float[Array, "batch time heads head_dim"],
    cache: Cache,
    seen: Bool[Array, "batch #time capacity"],
    ids: UInt32[Array, "batch time 2"],
    layer: Mapping[str, Any],
    matmul: Matmul,
) -> Float[Array, "batch time heads*head_dim"]:
    """Mixed values of the tokens that each token sees.

    Where the layer has an "attention.engine", that is what mixes them (`Engine`), and neither product goes to the hook.
    Where it has an entry for one of the two products, its `of` makes of the keys or values what the hook gets.
    Where it has none and the hook is `Stateless`, sequences are taken a few at a time, so that scores stay in cache: to
    the bit the same, and more than twice as fast for the whole of a small model.
    """
    batch, time, heads, _ = query.shape
    few = _divisor(batch, SCORES // (time * heads * cache.keys.shape[2]))
    if few == batch or not isinstance(matmul, Stateless) or any(operator in layer for operator in DYNAMIC):
        return _attend(kind, query, cache, seen, ids, layer, matmul)

    def part(some: Any) -> Array:
        query, keys, values, seen, ids = some
        return _attend(kind, query, replace(cache, keys=keys, values=values), seen, ids, layer, matmul)

    whole = (query, cache.keys, cache.values, seen, ids)
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, few, *leaf.shape[1:]), whole)
    return jax.lax.map(part, parts).reshape(batch, time, -1)


def _divisor(count: int, most: int) -> int:
    """The largest divisor of a count that is no larger than `most`, or 1."""
    return max((n for n in range(1, min(count, most) + 1) if count % n == 0), default=1)


def _attend(
    kind: AttentionKind,
    query: Float[Array, "batch time heads head_dim"],
    cache: Cache,
    seen: Bool[Array, "batch #time capacity"],
    ids: UInt32[Array, "batch time 2"],
    layer: Mapping[str, Any],
    matmul: Matmul,
) -> Float[Array, "batch time heads*head_dim"]:
    """As `attend`, all sequences at once; the queries of a group are rows, so that no key is repeated."""
    engine: Engine | None = layer.get("attention.engine")
    if engine is not None:
        return engine(query, cache.keys, cache.values, seen, ids[:, :, 1].astype(jnp.int32))

    def product(operator: str, w: Array, x: Array) -> Array:
        return matmul(operator, layer[operator].of(w) if operator in layer else w, x, ids)

    batch, time, heads, dim = query.shape
    keys, values = cache.keys, cache.values
    kv_heads, capacity = keys.shape[1:3]
    rows = query.reshape(batch, time, kv_heads, -1, dim).transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, dim)
    scale = dim**-0.5 if kind.scale is None else kind.scale
    scores = product("attention.qk", jnp.swapaxes(keys, -1, -2), rows) * scale
    if kind.softcap is not None:
        scores = kind.softcap * jnp.tanh(scores / kind.softcap)
    scores = scores.reshape(batch, kv_heads, -1, time, capacity)
    hidden = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, hidden), axis=-1)
    mixed = product("attention.pv", values, weights.reshape(batch, kv_heads, -1, capacity))
    return mixed.reshape(batch, heads, time, dim).transpose(0, 2, 1, 3).reshape(batch, time, heads * dim)
