"""Rotation of the residual stream, so that no channel of it is larger than the others.

x Q has the root mean square of x, so that a norm without gain commutes with an orthogonal Q: matrices that write into
the stream are multiplied by Q, those that read from it by Q^T, and nothing is left to be computed (Ashkboos et al.,
QuaRot, arXiv 2404.00456, section 4; SliceGPT, arXiv 2401.15024). Gains are folded into the following matrices before.
LayerNorm becomes RMSNorm if all that is written into the stream has its mean over channels taken off (SliceGPT,
section 3.1). Value heads are rotated likewise, between the products of v and o.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.config import ModelConfig, Norm
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import Model
from pim.llm_workloads.quantisation.folding import gain, norm_folds
from pim.llm_workloads.quantisation.hadamard import randomised, spreading
from pim.llm_workloads.transformer import head_matrix

_TABLES = ("embed", "embed.position", "embed.type")


def rotate(model: Model, seed: int = 0) -> Model:
    """The same function with the residual stream and the value heads rotated, and the norms without gains.

    The head is then no longer tied to the embedding, and LayerNorm has become RMSNorm.

    Args:
        model: with norms in front of its matrices.
        seed: of the random signs.

    Raises:
        WorkloadError: a model with norms behind its products, or of its embedding, whose gains cannot be folded.

    Example:
        >>> rotated = rotate(load_model("tiny-stories"))
    """
    config = model.config
    if config.block in ("post", "sandwich") or config.embed_normed or config.head != "head":
        raise WorkloadError(
            f"{model.name}: norms of a {config.family} model stand behind its products, where their gains cannot be "
            "folded into a matrix; models with norms only in front of their matrices can be rotated"
        )
    bare = without_gains(model)
    turn = jnp.asarray(randomised(config.hidden_size, seed), jnp.float32)
    return _turned(bare, turn, jnp.asarray(spreading(config.head_dim), jnp.float32))


def without_gains(model: Model) -> Model:
    """The same function with norms that only divide by the root mean square: gains and biases are in the matrices
    behind them, and means are taken off what is written into the stream."""
    config = model.config
    (layers,) = model.params["segments"]
    layers, biases = dict(layers), set(config.biases)
    for fold in norm_folds(config):
        for name in fold.followers:
            layers, more = _folded(config, layers, fold.source, name, layers[name])
            biases |= more
        layers = _bare(layers, fold.source)
    outer = dict(model.params)
    outer, more = _folded(config, outer, "norm", "head", head_matrix(model.params))
    outer = _bare(outer, "norm")
    changed = replace(
        config,
        norm=Norm("rms", config.norm.eps),
        tie_word_embeddings=False,
        biases=tuple(sorted(biases | more)),
    )
    if config.attention.normed:
        layers = _bare_heads(config, layers)
    if config.norm.kind == "layer":
        layers = _written(config, layers, _centred)
        outer |= {name: _centred(outer[name]) for name in _TABLES if name in outer}
    return replace(model, config=changed, params={**outer, "segments": [layers]})


def _folded(
    config: ModelConfig, weights: dict[str, Any], norm: str, name: str, w: Float[Array, "*layers n_in n_out"]
) -> tuple[dict[str, Any], set[str]]:
    """A matrix with the gain of the norm in front of it, and the norm's bias in its own."""
    found = {**weights, name: w * gain(config, weights, norm)[..., :, None]}
    if (shift := weights.get(f"{norm}.bias")) is None:
        return found, set()
    moved = jnp.einsum("...i,...io->...o", shift, w, precision=jax.lax.Precision.HIGHEST)
    found[f"{name}.bias"] = moved + weights.get(f"{name}.bias", jnp.zeros(()))
    return found, {name}


def _bare(weights: dict[str, Any], norm: str) -> dict[str, Any]:
    """A norm without gain and bias."""
    found = {name: value for name, value in weights.items() if name != f"{norm}.bias"}
    return {**found, norm: jnp.ones_like(jnp.asarray(weights[norm]))}


def _bare_heads(config: ModelConfig, layers: dict[str, Any]) -> dict[str, Any]:
    """The norms of queries and keys with their gains as they are multiplied, and means taken off in front of them."""
    found = dict(layers)
    for operator in ("attention.q", "attention.k"):
        found[f"{operator}_norm"] = gain(config, layers, f"{operator}_norm")
        if config.norm.kind == "layer":
            for name in (n for n in (operator, f"{operator}.bias") if n in layers):
                heads = layers[name].reshape(*layers[name].shape[:-1], -1, config.head_dim)
                found[name] = _centred(heads).reshape(layers[name].shape)
    return found


def _centred(w: Array) -> Array:
    return w - w.mean(axis=-1, keepdims=True)


def _written(config: ModelConfig, layers: dict[str, Any], change: Any) -> dict[str, Any]:
    """The layers with a change along the last axis of all that writes into the stream."""
    writers = [name for name in config.static if name == "attention.o" or name.endswith(".down")]
    names = [n for name in writers for n in (name, f"{name}.bias") if n in layers]
    return {**layers, **{name: change(layers[name]) for name in names}}


def _turned(model: Model, turn: Float[Array, "n n"], of_head: Float[Array, "head_dim head_dim"]) -> Model:
    """A model without gains with its stream times `turn`, and its value heads times `of_head`."""
    config = model.config
    (layers,) = model.params["segments"]
    layers = _written(config, layers, lambda w: _times(w, turn))
    for name in (name for fold in norm_folds(config) for name in fold.followers):
        layers[name] = jnp.einsum("ji,...jo->...io", turn, layers[name], precision=jax.lax.Precision.HIGHEST)
    for name in ("attention.v", "attention.v.bias"):
        if name in layers:
            layers[name] = _times_heads(layers[name], of_head)
    layers["attention.o"] = jnp.swapaxes(_times_heads(jnp.swapaxes(layers["attention.o"], -1, -2), of_head), -1, -2)
    outer = {name: _times(jnp.asarray(model.params[name]), turn) for name in _TABLES if name in model.params}
    outer["head"] = _times(model.params["head"].T, turn).T
    return replace(model, params={**model.params, **outer, "segments": [layers]})


def _times(w: Float[Array, "... n"], turn: Float[Array, "n n"]) -> Float[Array, "... n"]:
    return jnp.matmul(w, turn, precision=jax.lax.Precision.HIGHEST)


def _times_heads(w: Float[Array, "... n"], turn: Float[Array, "d d"]) -> Float[Array, "... n"]:
    """Each head along the last axis times a matrix."""
    return _times(w.reshape(*w.shape[:-1], -1, turn.shape[0]), turn).reshape(w.shape)
