"""The transformer: one forward for all families, for training, scoring, decoding and emulation.

A model is a `ModelConfig` (static under `jax.jit`) and a tree of parameters

    {"embed": [vocab, hidden], "segments": [{name: [layers, ...]}, ...], "norm": [hidden],
     "head": [hidden, vocab]}

where "head" is absent if it is tied to the embedding, and what a family has besides stands beside: "embed.position",
"embed.type", "embed.norm", "norm.bias", "head.transform", "head.norm", "head.bias". A segment is a run of layers of the
same structure, stacked along their first axis and scanned; a digital model has one. A layer holds its norms, the
matrices of `ModelConfig.static`, stored [in, out], their biases ("attention.q.bias"), and "attention.window" where
there are any.

Every matrix product goes through one hook, `matmul(operator, w, x, ids)`; `digital_matmul` is the exact one. The
forward never looks into `w`, so that the hook may be given programmed arrays in place of weights.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, UInt32

from pim.llm_workloads.attention import Cache as Cache
from pim.llm_workloads.attention import Matmul as Matmul
from pim.llm_workloads.attention import Stateless as Stateless
from pim.llm_workloads.attention import append, attend, visible
from pim.llm_workloads.blocks import BLOCKS
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.feed_forward import FUNCTIONS, feed_forward
from pim.llm_workloads.norms import normed
from pim.llm_workloads.positions import Learned


@Stateless
def digital_matmul(operator: str, w: Array, x: Array, ids: Array) -> Array:
    """The exact product, the default of the hook: `x @ w`, in full float32 on accelerators too."""
    if x.size == x.shape[-1] and w.ndim == 2:
        # XLA makes of one row times a matrix of a scanned layer a loop that strides through it, 4 times slower.
        return (x[..., None] * w.reshape(*[1] * (x.ndim - 1), *w.shape)).sum(axis=-2)
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def init_cache(
    config: ModelConfig,
    batch: int,
    capacity: int,
    documents: UInt32[Array, " batch"] | None = None,
    lengths: Int[Array, " batch"] | None = None,
) -> Cache:
    """An empty cache of all layers with room for `capacity` tokens a sequence, in float32.

    `documents` names the sequences, 0 to batch - 1 by default; `lengths` are those of sequences that an encoder reads.
    """
    layers = config.num_hidden_layers
    zeros = jnp.zeros((layers, batch, config.num_key_value_heads, capacity, config.head_dim), jnp.float32)
    documents = jnp.arange(batch, dtype=jnp.uint32) if documents is None else documents
    return Cache(
        keys=zeros,
        values=zeros,
        position=jnp.zeros((layers, batch), jnp.int32),
        document=jnp.broadcast_to(documents, (layers, batch)),
        lengths=None if lengths is None else jnp.broadcast_to(lengths, (layers, batch)),
    )


def layer_cache(config: ModelConfig, valid: Bool[Array, "batch time"]) -> Cache:
    """The empty cache of one layer, for whole sequences of which `valid` tells the tokens from what pads their ends."""
    every = init_cache(config, valid.shape[0], 0, lengths=valid.sum(axis=1, dtype=jnp.int32))
    return jax.tree.map(lambda leaf: leaf[0], every)


def name_tokens(position: Int[Array, " batch"], document: UInt32[Array, " batch"], time: int) -> Array:
    """The (document, position) of each of the next `time` tokens."""
    positions = position[:, None] + jnp.arange(time, dtype=jnp.int32)[None, :]
    documents = jnp.broadcast_to(document[:, None], positions.shape)
    return jnp.stack([documents, positions.astype(jnp.uint32)], axis=-1)


def embed(
    config: ModelConfig,
    params: Mapping[str, Any],
    tokens: Int[Array, "batch time"],
    positions: Int[Array, "batch time"] | None = None,
    types: Int[Array, "batch time"] | None = None,
) -> Float[Array, "batch time hidden"]:
    """The residual stream in front of the first layer.

    Args:
        config: shapes and constants.
        params: the parameters, see this module's head.
        tokens: ids below `vocab_size`.
        positions: of each token; from 0 on by default.
        types: kind of segment of each token, of models that have any; 0 by default.
    """
    return embedded(config, params, params["embed"][tokens], positions, types)


def embedded(
    config: ModelConfig,
    params: Mapping[str, Any],
    rows: Float[Array, "batch time hidden"],
    positions: Int[Array, "batch time"] | None = None,
    types: Int[Array, "batch time"] | None = None,
) -> Float[Array, "batch time hidden"]:
    """As `embed`, from rows of the embedding that were looked up already."""
    x = rows if config.embed_scale == 1.0 else rows * config.embed_scale
    if isinstance(config.positions, Learned):
        config.positions.check(x.shape[1])
        at = jnp.arange(x.shape[1], dtype=jnp.int32)[None] if positions is None else positions
        found = params["embed.position"][at + config.positions.offset]
        x = x + jnp.broadcast_to(found, x.shape)
    if config.token_types:
        x = x + params["embed.type"][jnp.zeros(x.shape[:2], jnp.int32) if types is None else types]
    return normed(config.norm, x, params, "embed.norm") if config.embed_normed else x


def layer_step(
    config: ModelConfig,
    layer: Mapping[str, Any],
    x: Float[Array, "batch time hidden"],
    cache: Cache,
    matmul: Matmul = digital_matmul,
) -> tuple[Float[Array, "batch time hidden"], Cache]:
    """One block on the next `time` tokens: the only forward code of a layer.

    Args:
        config: shapes and constants.
        layer: of one layer, see this module's head; a matrix goes to `matmul` unopened. What `DYNAMIC` stands for may
            be there too, see `attend`, and functions in place of the model's: "ffn.activation" and "attention.engine"
            (`attention.Engine`), which is attention as a whole.
        x: residual stream of the new tokens.
        cache: keys and values of this layer so far.
        matmul: the hook, see `Matmul`.

    Returns:
        The residual stream behind the block, and the cache with the new tokens in it.
    """
    batch, time, _ = x.shape
    ids = name_tokens(cache.position, cache.document, time)
    positions = ids[:, :, 1].astype(jnp.int32)

    def project(operator: str, source: Array) -> Array:
        return _biased(matmul(operator, layer[operator], source, ids), layer, operator)

    def heads(operator: str, source: Array) -> Array:
        return project(operator, source).reshape(batch, time, -1, config.head_dim)

    def norm(name: str, source: Array) -> Array:
        return normed(config.norm, source, layer, name)

    def attention(source: Array) -> tuple[Array, Cache]:
        query, key, value = heads("attention.q", source), heads("attention.k", source), heads("attention.v", source)
        if config.attention.normed:
            query, key = norm("attention.q_norm", query), norm("attention.k_norm", key)
        query, key = (config.positions.rotate(each, positions) for each in (query, key))
        grown = append(cache, key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3))
        seen = visible(config.attention, layer, grown, positions)
        mixed = attend(config.attention, query, grown, seen, ids, layer, matmul)
        return project("attention.o", mixed), grown

    def ffn(source: Array) -> Array:
        return feed_forward(config.ffn, layer, project, source)

    return BLOCKS[config.block](x, norm, attention, ffn)


def _biased(y: Array, weights: Mapping[str, Any], operator: str) -> Array:
    bias = weights.get(f"{operator}.bias")
    return y if bias is None else y + bias[None, None, :]


def final_norm(
    config: ModelConfig, params: Mapping[str, Any], x: Float[Array, "batch time hidden"]
) -> Float[Array, "batch time hidden"]:
    """The residual stream behind the last layer, normalised; blocks that end in a norm have no other."""
    return normed(config.norm, x, params, "norm") if "norm" in params else x


def read_out(
    config: ModelConfig,
    params: Mapping[str, Any],
    x: Float[Array, "batch time hidden"],
    ids: UInt32[Array, "batch time 2"],
    matmul: Matmul = digital_matmul,
) -> Float[Array, "batch time vocab"]:
    """The logits of what `final_norm` gives.

    Raises:
        WorkloadError: a model without a head.
    """
    if config.head == "none":
        raise WorkloadError(f"this {config.family} model has no head that gives logits: use `encode`")
    if config.head == "transform":
        y = _biased(matmul("head.transform", params["head.transform"], x, ids), params, "head.transform")
        x = normed(config.norm, FUNCTIONS[config.ffn.activation](y), params, "head.norm")
    logits = _biased(matmul("head", head_matrix(params), x, ids), params, "head")
    cap = config.logits_softcap
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def head_matrix(params: Mapping[str, Any]) -> Any:
    """The matrix of the head: its own, or the transposed embedding."""
    return params["head"] if "head" in params else params["embed"].T


def segment_length(segment: Any) -> int:
    """Layers of a segment: the leading axis of all that is in it."""
    return jax.tree.leaves(segment)[0].shape[0]


def run_layers(
    config: ModelConfig,
    params: Mapping[str, Any],
    x: Float[Array, "batch time hidden"],
    cache: Cache,
    matmul: Matmul = digital_matmul,
) -> tuple[Float[Array, "batch time hidden"], Cache]:
    """All layers on the next tokens: each segment is one scan, so that compiling takes as long for any depth."""

    def step(x: Array, layer_and_cache: tuple[dict[str, Any], Cache]) -> tuple[Array, Cache]:
        layer, layer_cache = layer_and_cache
        return layer_step(config, layer, x, layer_cache, matmul)

    parts, first = [], 0
    for segment in params["segments"]:
        last = first + segment_length(segment)
        part = jax.tree.map(lambda leaf, layers=slice(first, last): leaf[layers], cache)
        x, part = jax.lax.scan(step, x, (segment, part))
        parts.append(part)
        first = last
    return x, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def advance(
    config: ModelConfig,
    params: Mapping[str, Any],
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
    if isinstance(config.positions, Learned):
        config.positions.check(cache.keys.shape[-2])
    ids = name_tokens(cache.position[0], cache.document[0], tokens.shape[1])
    x = embed(config, params, tokens, ids[:, :, 1].astype(jnp.int32))
    x, cache = run_layers(config, params, x, cache, matmul)
    return read_out(config, params, final_norm(config, params, x), ids, matmul), cache


def _check_room(cache: Cache, time: int) -> None:
    """Refuse to write behind the end of a cache, where its position is known (not while tracing)."""
    capacity = cache.keys.shape[-2]
    if capacity == 0 or isinstance(cache.position, Tracer):
        return
    needed = int(np.asarray(cache.position).max()) + time
    if needed > capacity:
        raise WorkloadError(f"the cache has room for {capacity} tokens, {needed} are to be in it: make it larger")


def forward(
    config: ModelConfig,
    params: Mapping[str, Any],
    tokens: Int[Array, "batch time"],
    *,
    documents: UInt32[Array, " batch"] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    types: Int[Array, "batch time"] | None = None,
    matmul: Matmul = digital_matmul,
) -> Float[Array, "batch time vocab"]:
    """Logits behind every token of whole sequences, each read from its beginning.

    Args:
        config: shapes and constants; static under `jax.jit`.
        params: the parameters, see this module's head.
        tokens: ids below `vocab_size`, padded at the end where sequences differ in length.
        documents: identity of each sequence for the hook, 0 to batch - 1 by default.
        lengths: tokens of each sequence, which only encoders need to know; all by default.
        types: kind of segment of each token, of models that have any.
        matmul: the hook, see `Matmul`.

    Example:
        >>> logits = jax.jit(forward, static_argnums=0)(config, params, tokens)
    """
    x = encode(config, params, tokens, documents=documents, lengths=lengths, types=types, matmul=matmul)
    return read_out(config, params, x, _names(tokens, documents), matmul)


def encode(
    config: ModelConfig,
    params: Mapping[str, Any],
    tokens: Int[Array, "batch time"],
    *,
    documents: UInt32[Array, " batch"] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    types: Int[Array, "batch time"] | None = None,
    matmul: Matmul = digital_matmul,
) -> Float[Array, "batch time hidden"]:
    """What the head is given: the residual stream behind the last layer and norm; arguments as for `forward`."""
    x = embed(config, params, tokens, types=types)
    cache = init_cache(config, tokens.shape[0], 0, documents, lengths)
    return final_norm(config, params, run_layers(config, params, x, cache, matmul)[0])


def _names(tokens: Array, documents: UInt32[Array, " batch"] | None) -> Array:
    batch, time = tokens.shape
    documents = jnp.arange(batch, dtype=jnp.uint32) if documents is None else documents
    return name_tokens(jnp.zeros(batch, jnp.int32), documents, time)
