"""The Llama family: one forward for training, scoring, decoding and emulation.

A model is a `LlamaConfig` (static under `jax.jit`) and a tree of parameters

    {"embed": [vocab, hidden], "segments": [{name: [layers, ...]}, ...], "norm": [hidden],
     "head": [hidden, vocab]}

where "head" is absent if it is tied to the embedding. A segment is a run of layers of the same structure, stacked
along their first axis and scanned; a digital model has one. Matrices are stored [in, out].

Every matrix product goes through one hook, `matmul(operator, w, x, ids)`; `digital_matmul` is the exact one. The
forward never looks into `w`, so that the hook may be given programmed arrays in place of weights.

Sources: Touvron et al., arXiv 2302.13971 and 2307.09288 (the block); Zhang and Sennrich, arXiv 1910.07467
(RMSNorm); Su et al., arXiv 2104.09864 (rotary positions), in the half-split order of Hugging Face checkpoints;
Ainslie et al., arXiv 2305.13245 (grouped queries); Shazeer, arXiv 2002.05202 (SwiGLU).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, UInt32

from pim.llm_workloads.config import LlamaConfig as LlamaConfig
from pim.llm_workloads.errors import WorkloadError

Matmul = Callable[[str, Any, Array, Array], Array]
"""`(operator, w, x, ids) -> y`, the hook through which every product goes.

`operator` is one of `STATIC` and `DYNAMIC` in `config.py`, or "head". For a static matrix, w is [in, out] as stored and
x [batch, time, in]; for a dynamic one, w is [batch, kv_heads, in, out] and x [batch, kv_heads, group * time, in], where
the query g of its group at time t is row `g * time + t`. `ids` [batch, time, 2] (uint32) names each token by its
document and its position in it: a hook that draws noise from these alone gives decoding the noise of prefill.
"""


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
    """

    keys: Float[Array, "*layers batch kv_heads capacity head_dim"]
    values: Float[Array, "*layers batch kv_heads capacity head_dim"]
    position: Int[Array, "*layers batch"]
    document: UInt32[Array, "*layers batch"]


def digital_matmul(operator: str, w: Array, x: Array, ids: Array) -> Array:
    """The exact product, the default of the hook: `x @ w`, in full float32 on accelerators too."""
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def init_cache(
    config: LlamaConfig, batch: int, capacity: int, documents: UInt32[Array, " batch"] | None = None
) -> Cache:
    """An empty cache of all layers with room for `capacity` tokens a sequence, in float32.

    `documents` names the sequences, 0 to batch - 1 by default.
    """
    layers = config.num_hidden_layers
    zeros = jnp.zeros((layers, batch, config.num_key_value_heads, capacity, config.head_dim), jnp.float32)
    documents = jnp.arange(batch, dtype=jnp.uint32) if documents is None else documents
    return Cache(
        keys=zeros,
        values=zeros,
        position=jnp.zeros((layers, batch), jnp.int32),
        document=jnp.broadcast_to(documents, (layers, batch)),
    )


def rms_norm(
    x: Float[Array, "batch time hidden"], weight: Float[Array, " hidden"], eps: float
) -> Float[Array, "batch time hidden"]:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last axis (arXiv 1910.07467)."""
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    return x * scale * weight[None, None, :]


def rotate(
    x: Float[Array, "batch time heads head_dim"], positions: Int[Array, "batch time"], theta: float
) -> Float[Array, "batch time heads head_dim"]:
    """Turn each pair (x_i, x_{i + head_dim/2}) by `position * theta^(-2i / head_dim)` (arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _append(cache: Cache, keys: Array, values: Array) -> Cache:
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


def _attend(
    query: Float[Array, "batch time heads head_dim"],
    cache: Cache,
    visible: Bool[Array, "batch time capacity"],
    ids: UInt32[Array, "batch time 2"],
    layer: dict[str, Any],
    matmul: Matmul,
) -> Float[Array, "batch time heads*head_dim"]:
    """Causal attention; the queries of a group are stacked as rows, so that no key is repeated.

    Where the layer has an entry for one of the two products, its `of` makes of the keys or values what the hook gets.
    """

    def product(operator: str, w: Array, x: Array) -> Array:
        return matmul(operator, layer[operator].of(w) if operator in layer else w, x, ids)

    batch, time, heads, dim = query.shape
    keys, values = cache.keys, cache.values
    kv_heads, capacity = keys.shape[1:3]
    rows = query.reshape(batch, time, kv_heads, -1, dim).transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, dim)
    scores = product("attention.qk", jnp.swapaxes(keys, -1, -2), rows) * dim**-0.5
    scores = scores.reshape(batch, kv_heads, -1, time, capacity)
    hidden = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, hidden), axis=-1)
    mixed = product("attention.pv", values, weights.reshape(batch, kv_heads, -1, capacity))
    return mixed.reshape(batch, heads, time, dim).transpose(0, 2, 1, 3).reshape(batch, time, heads * dim)


def _name_tokens(
    position: Int[Array, " batch"], document: UInt32[Array, " batch"], time: int
) -> UInt32[Array, "batch time 2"]:
    """(document, position) of the next `time` tokens of each sequence."""
    positions = position.astype(jnp.uint32)[:, None] + jnp.arange(time, dtype=jnp.uint32)[None, :]
    return jnp.stack([jnp.broadcast_to(document[:, None], positions.shape), positions], axis=-1)


def layer_step(
    config: LlamaConfig,
    layer: dict[str, Any],
    x: Float[Array, "batch time hidden"],
    cache: Cache,
    matmul: Matmul = digital_matmul,
) -> tuple[Float[Array, "batch time hidden"], Cache]:
    """One block on the next `time` tokens: the only forward code of the family.

    Args:
        config: shapes and constants.
        layer: "input_norm", "post_norm" and `STATIC` of one layer; a matrix goes to `matmul` unopened. What `DYNAMIC`
            stands for may be there too, see `_attend`, and "ffn.activation", a function in place of SiLU.
        x: residual stream of the new tokens.
        cache: keys and values of this layer so far.
        matmul: the hook, see `Matmul`.

    Returns:
        The residual stream behind the block, and the cache with the new tokens in it.
    """
    batch, time, _ = x.shape
    ids = _name_tokens(cache.position, cache.document, time)
    positions = ids[:, :, 1].astype(jnp.int32)

    def project(operator: str, source: Array) -> Array:
        return matmul(operator, layer[operator], source, ids)

    def heads(operator: str, source: Array) -> Array:
        return project(operator, source).reshape(batch, time, -1, config.head_dim)

    normed = rms_norm(x, layer["input_norm"], config.rms_norm_eps)
    query = rotate(heads("attention.q", normed), positions, config.rope_theta)
    key = rotate(heads("attention.k", normed), positions, config.rope_theta)
    value = heads("attention.v", normed)
    cache = _append(cache, key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3))
    slots = jnp.arange(cache.keys.shape[2], dtype=jnp.int32)
    visible = slots[None, None, :] <= positions[:, :, None]
    x = x + project("attention.o", _attend(query, cache, visible, ids, layer, matmul))

    normed = rms_norm(x, layer["post_norm"], config.rms_norm_eps)
    silu = layer.get("ffn.activation", jax.nn.silu)
    gated = silu(project("ffn.gate", normed)) * project("ffn.up", normed)
    return x + project("ffn.down", gated), cache


def advance(
    config: LlamaConfig,
    params: dict[str, Any],
    tokens: Int[Array, "batch time"],
    cache: Cache,
    *,
    matmul: Matmul = digital_matmul,
) -> tuple[Float[Array, "batch time vocab"], Cache]:
    """Read the next tokens of each sequence: a prompt (prefill) or one token (decode).

    Args:
        config: shapes and constants.
        params: the parameters, see this module's head.
        tokens: ids below `vocab_size`; `cache.position + time` must not exceed the cache's capacity.
        cache: what was read before, see `init_cache`.
        matmul: the hook, see `Matmul`.

    Returns:
        The logits behind each token, and the cache with these tokens in it.

    Example:
        >>> cache = init_cache(config, batch=1, capacity=64)
        >>> logits, cache = advance(config, params, prompt, cache)          # prefill
        >>> token = logits[:, -1:].argmax(-1)
        >>> logits, cache = advance(config, params, token, cache)           # decode
    """
    _check_room(cache, tokens.shape[1])
    ids = _name_tokens(cache.position[0], cache.document[0], tokens.shape[1])

    def step(x: Array, layer_and_cache: tuple[dict[str, Any], Cache]) -> tuple[Array, Cache]:
        layer, layer_cache = layer_and_cache
        return layer_step(config, layer, x, layer_cache, matmul)

    x = params["embed"][tokens]
    parts, first = [], 0
    for segment in params["segments"]:
        last = first + segment["input_norm"].shape[0]
        part = jax.tree.map(lambda leaf, layers=slice(first, last): leaf[layers], cache)
        x, part = jax.lax.scan(step, x, (segment, part))
        parts.append(part)
        first = last
    x = rms_norm(x, params["norm"], config.rms_norm_eps)
    head = params["head"] if "head" in params else params["embed"].T
    return matmul("head", head, x, ids), jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _check_room(cache: Cache, time: int) -> None:
    """Refuse to write behind the end of a cache, where its position is known (not while tracing)."""
    capacity = cache.keys.shape[-2]
    if capacity == 0 or isinstance(cache.position, Tracer):
        return
    needed = int(np.asarray(cache.position).max()) + time
    if needed > capacity:
        raise WorkloadError(f"the cache has room for {capacity} tokens, {needed} are to be in it: make it larger")


def forward(
    config: LlamaConfig,
    params: dict[str, Any],
    tokens: Int[Array, "batch time"],
    *,
    documents: UInt32[Array, " batch"] | None = None,
    matmul: Matmul = digital_matmul,
) -> Float[Array, "batch time vocab"]:
    """Logits behind every token of whole sequences, each read from its beginning.

    Args:
        config: shapes and constants; static under `jax.jit`.
        params: the parameters, see this module's head.
        tokens: ids below `vocab_size`, padded at the end where sequences differ in length.
        documents: identity of each sequence for the hook, 0 to batch - 1 by default.
        matmul: the hook, see `Matmul`.

    Example:
        >>> logits = jax.jit(forward, static_argnums=0)(config, params, tokens)
    """
    cache = init_cache(config, tokens.shape[0], capacity=0, documents=documents)
    return advance(config, params, tokens, cache, matmul=matmul)[0]


def generate(
    config: LlamaConfig,
    params: dict[str, Any],
    prompt: Int[Array, "batch time"],
    count: int,
    *,
    matmul: Matmul = digital_matmul,
) -> Int[Array, "batch count"]:
    """The `count` tokens that follow the prompts, always the likeliest one (greedy), token by token.

    Example:
        >>> ids = jax.jit(generate, static_argnums=(0, 3))(config, params, prompt, 50)
    """
    batch, time = prompt.shape
    logits, cache = advance(config, params, prompt, init_cache(config, batch, time + count), matmul=matmul)

    def step(state: tuple[Array, Cache], _: None) -> tuple[tuple[Array, Cache], Array]:
        token, cache = state
        logits, cache = advance(config, params, token[:, None], cache, matmul=matmul)
        return (logits[:, -1].argmax(-1).astype(token.dtype), cache), token

    first = logits[:, -1].argmax(-1).astype(prompt.dtype)
    return jax.lax.scan(step, (first, cache), length=count)[1].T
