"""Where a model's channels can be scaled without changing what it computes.

A norm's gain, or the outputs of a matrix, are divided by a factor for each channel, and the rows of the matrices that
take them in multiplied by it (Xiao et al., SmoothQuant, arXiv 2211.10438, section 4; Lin et al., AWQ, arXiv
2306.00978).
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.config import ModelConfig

_ATTENTION = ("attention.q", "attention.k", "attention.v")


@dataclass(frozen=True)
class Fold:
    """A place whose channels can be scaled.

    Attributes:
        source: a norm, or the operator whose outputs are scaled.
        followers: operators whose inputs they are.
        grouped: each channel of the source is the input of so many of the followers': value heads serve groups of
            query heads.
    """

    source: str
    followers: tuple[str, ...]
    grouped: bool = False


def norm_folds(config: ModelConfig) -> tuple[Fold, ...]:
    """The norms that nothing but matrices of weights follows; none in a block with norms behind its sums."""
    inner = tuple(name for name in config.static if name.endswith((".gate", ".up", ".router")))
    if config.block == "post":
        return ()
    if config.block == "parallel_shared":
        return (Fold("input_norm", (*_ATTENTION, *inner)),)
    return Fold("input_norm", _ATTENTION), Fold("post_norm", inner)


def matrix_folds(config: ModelConfig) -> tuple[Fold, ...]:
    """Products that nothing but matrices of weights follows, or a function that keeps positive factors.

    The mixing of values is linear in them, and the second product of a gated feed-forward layer, or one that only a
    ReLU follows, may be scaled.
    """
    found = [Fold("attention.v", ("attention.o",), grouped=True)]
    if config.ffn.gated or config.ffn.activation == "relu":
        ups = [name for name in config.static if name.endswith(".up")]
        found += [Fold(up, (f"{up.removesuffix('.up')}.down",)) for up in ups]
    return tuple(found)


def divided(
    config: ModelConfig, layer: dict[str, Any], fold: Fold, factors: Float[Array, "*layers n"]
) -> dict[str, Any]:
    """A layer, or a stack of them, with the source's channels divided by positive factors and its followers' rows
    multiplied by them: the same function."""
    changed = {name: scaled_rows(layer[name], widened(config, fold, factors)) for name in fold.followers}
    if fold.source in config.static:
        changed[fold.source] = layer[fold.source] / factors[..., None, :]
    else:
        changed[fold.source] = _stored(config, gain(config, layer, fold.source) / factors)
    if (bias := layer.get(f"{fold.source}.bias")) is not None:
        changed[f"{fold.source}.bias"] = bias / factors
    return {**layer, **changed}


def gain(config: ModelConfig, weights: Any, norm: str) -> Float[Array, "*layers n"]:
    """What a norm multiplies by."""
    return weights[norm] + 1.0 if config.norm.one_added else jnp.asarray(weights[norm])


def _stored(config: ModelConfig, gain: Array) -> Array:
    return gain - 1.0 if config.norm.one_added else gain


def scaled_rows(w: Float[Array, "*layers n_in n_out"], factors: Float[Array, "*layers n_in"]) -> Array:
    """A matrix with each row times a factor."""
    return w * factors[..., :, None]


def widened(config: ModelConfig, fold: Fold, factors: Float[Array, "*layers n"]) -> Float[Array, "*layers m"]:
    """The factors of the followers' inputs from those of the source's channels."""
    if not fold.grouped:
        return factors
    heads = factors.reshape(*factors.shape[:-1], config.num_key_value_heads, 1, config.head_dim)
    wide = jnp.broadcast_to(heads, (*heads.shape[:-2], config.group, config.head_dim))
    return wide.reshape(*factors.shape[:-1], -1)


def narrowed(config: ModelConfig, fold: Fold, inputs: Float[Array, "*layers m"]) -> Float[Array, "*layers n"]:
    """The largest of the followers' inputs that come from each channel of the source."""
    if not fold.grouped:
        return inputs
    lead = inputs.shape[:-1]
    return inputs.reshape(*lead, -1, config.group, config.head_dim).max(axis=-2).reshape(*lead, -1)
