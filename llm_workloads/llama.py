"""The Llama family: one forward for training, scoring, decoding and emulation.

A model is a `LlamaConfig` (static under `jax.jit`) and a tree of parameters

    {"embed": [vocab, hidden], "segments": [{name: [layers, ...]}, ...], "norm": [hidden], "head": [hidden, vocab]}

("head" is absent when it is tied to the embedding). A segment is a run of layers of the same structure, stacked
along their first axis and scanned; a digital model has one. Matrices are stored [in, out].

Every matrix product goes through one hook, `matmul(operator, w, x, ids)`; `digital_matmul` is the exact one. The
forward never looks into `w`, so that a hook may be given programmed arrays in place of weights.

Sources: Touvron et al., arXiv 2302.13971 and 2307.09288 (the block); Zhang and Sennrich, arXiv 1910.07467 (RMSNorm);
Su et al., arXiv 2104.09864 (rotary positions), in the half-split order of Hugging Face checkpoints; Ainslie et al.,
arXiv 2305.13245 (grouped queries); Shazeer, arXiv 2002.05202 (SwiGLU).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from pim.llm_workloads.errors import WorkloadError

Matmul = Callable[[str, Any, Array, Array], Array]
"""`(operator, w, x, ids) -> y`, the hook through which every product goes.

`operator` is "attention.q", "attention.k", "attention.v", "attention.o", "ffn.gate", "ffn.up", "ffn.down", "head", or
one of the two products of activations, "attention.qk" and "attention.pv". For a static matrix, w is [in, out] as stored
and x [batch, time, in]; for the other two, w is [batch, kv_heads, in, out] and x [batch, kv_heads, group * time, in], the
row of query g of its group at time t being `g * time + t`. `ids` [batch, time, 2] (uint32) names each token by its
document and its position in it: a hook that draws noise from these alone gives decoding the noise of prefill.
"""


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants of a Llama, under the names of a Hugging Face `config.json`.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the gated feed-forward layer.
        num_hidden_layers: number of blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads; each serves `group` query heads.
        head_dim: width of a head, even.
        rms_norm_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary angles.
        tie_word_embeddings: the head is the transposed embedding.
        max_position_embeddings: longest context that the model was made for, in tokens.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 2048

    def __post_init__(self):
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "head_dim", "max_position_embeddings"):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise WorkloadError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise WorkloadError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise WorkloadError(f"head_dim must be even for rotary positions, not {self.head_dim}")

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.num_attention_heads // self.num_key_value_heads


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens already read, of one layer or (with a leading layer axis on every leaf) of all.

    With `keys` and `values` None nothing is stored yet and nothing will be appended to later storage: the keys of the next
    tokens are taken as they are. Training and scoring start so, and save the copy into a larger array.

    Attributes:
        keys: after the rotation by position; slots from `position` on are unused.
        values: likewise.
        position: tokens already in, for each sequence.
        document: identity of each sequence, handed on to the hook.
    """

    keys: Float[Array, "*layers batch kv_heads capacity head_dim"] | None
    values: Float[Array, "*layers batch kv_heads capacity head_dim"] | None
    position: Int[Array, "*layers batch"]
    document: UInt32[Array, "*layers batch"]


def digital_matmul(operator: str, w: Array, x: Array, ids: Array) -> Array:
    """The exact product, the default of the hook: `x @ w` in float32 (on accelerators too, hence `HIGHEST`)."""
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def init_cache(
    config: LlamaConfig, batch: int, capacity: int, documents: UInt32[Array, " batch"] | None = None
) -> Cache:
    """An empty cache of all layers with room for `capacity` tokens a sequence, in float32.

    `documents` names the sequences, 0 to batch - 1 by default.
    """
    shape = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity, config.head_dim)
    zeros = jnp.zeros(shape, jnp.float32)
    return replace(_unstored(config, batch, documents), keys=zeros, values=zeros)


def _unstored(config: LlamaConfig, batch: int, documents: UInt32[Array, " batch"] | None) -> Cache:
    documents = jnp.arange(batch, dtype=jnp.uint32) if documents is None else documents
    layers = config.num_hidden_layers
    return Cache(
        keys=None,
        values=None,
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
    """Turn the pair (x_i, x_{i + head_dim/2}) by the angle `position * theta^(-2i / head_dim)` (arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _append(cache: Cache, keys: Array, values: Array) -> Cache:
    """Store the keys and values [batch, kv_heads, time, head_dim] of the next tokens, and count them."""
    position = cache.position + keys.shape[2]
    if cache.keys is None:
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
    matmul: Matmul,
) -> Float[Array, "batch time heads*head_dim"]:
    """Causal attention; the queries of a group are stacked as rows, so that no key is repeated."""
    batch, time, heads, dim = query.shape
    keys, values = cache.keys, cache.values
    kv_heads, capacity = keys.shape[1:3]
    rows = (
        query.reshape(batch, time, kv_heads, -1, dim)
        .transpose(0, 2, 3, 1, 4)
        .reshape(batch, kv_heads, -1, dim)
    )
    scores = matmul("attention.qk", jnp.swapaxes(keys, -1, -2), rows, ids) * dim**-0.5
    scores = scores.reshape(batch, kv_heads, -1, time, capacity)
    hidden = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, hidden), axis=-1)
    mixed = matmul("attention.pv", values, weights.reshape(batch, kv_heads, -1, capacity), ids)
    return mixed.reshape(batch, heads, time, dim).transpose(0, 2, 1, 3).reshape(batch, time, heads * dim)


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
        layer: "input_norm", "attention.q", ... "ffn.down" of one layer; matrices are handed to `matmul` unopened.
        x: residual stream of the new tokens.
        cache: keys and values of this layer so far.
        matmul: the hook, see `Matmul`.

    Returns:
        The residual stream behind the block, and the cache with the new tokens in it.
    """
    batch, time, _ = x.shape
    positions = cache.position[:, None] + jnp.arange(time, dtype=jnp.int32)[None, :]
    documents = jnp.broadcast_to(cache.document[:, None], (batch, time))
    ids = jnp.stack([documents, positions.astype(jnp.uint32)], axis=-1)

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
    x = x + project("attention.o", _attend(query, cache, visible, ids, matmul))

    normed = rms_norm(x, layer["post_norm"], config.rms_norm_eps)
    gated = jax.nn.silu(project("ffn.gate", normed)) * project("ffn.up", normed)
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
    batch, time = tokens.shape
    start, document = cache.position[0], cache.document[0]
    x = params["embed"][tokens]
    filled, first = [], 0
    for segment in params["segments"]:
        layers = segment["input_norm"].shape[0]
        part = jax.tree.map(lambda leaf, a=first, b=first + layers: leaf[a:b], cache)

        def step(x: Array, layer_and_cache: tuple[dict[str, Any], Cache]) -> tuple[Array, Cache]:
            layer, layer_cache = layer_and_cache
            return layer_step(config, layer, x, layer_cache, matmul)

        x, part = jax.lax.scan(step, x, (segment, part))
        filled.append(part)
        first += layers
    x = rms_norm(x, params["norm"], config.rms_norm_eps)
    head = params["head"] if "head" in params else params["embed"].T
    positions = start[:, None] + jnp.arange(time, dtype=jnp.int32)[None, :]
    documents = jnp.broadcast_to(document[:, None], (batch, time))
    ids = jnp.stack([documents, positions.astype(jnp.uint32)], axis=-1)
    return matmul("head", head, x, ids), jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *filled)


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
    return advance(config, params, tokens, _unstored(config, tokens.shape[0], documents), matmul=matmul)[0]
