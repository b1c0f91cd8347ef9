"""The outlier channels of a large model in a small one, without changing what it computes.

From some billions of parameters on, a few fixed channels of the inputs of q, k, v, gate and up are about 100 times as
large as the rest, in nearly all layers and at nearly all tokens (Dettmers et al., LLM.int8(), arXiv 2208.07339; Xiao et
al., arXiv 2211.10438). They come from the gains of norms, so that scaling these up, and the rows of the matrices behind
them down, gives a small model the same picture. Keys too have a few large channels (Liu et al., KIVI, arXiv 2402.02750;
Hooper et al., KVQuant, arXiv 2401.18079).
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import Model
from pim.llm_workloads.positions import Rotary
from pim.llm_workloads.quantisation.folding import divided, gain, norm_folds
from pim.llm_workloads.quantisation.layerwise import with_layers


def with_outliers(model: Model, channels: Sequence[int], factor: float) -> Model:
    """The same function with outlier channels in the inputs of the matrices behind norms, in all layers.

    Args:
        model: with norms in front of its matrices.
        channels: of the residual stream.
        factor: by how much the gain of these channels grows, and the rows of weights behind it shrink.

    Raises:
        WorkloadError: a channel that is not there, a factor that is not positive, or a model whose norms feed its sums.

    Example:
        >>> large = with_outliers(load_model("tiny-stories"), channels=[5, 40], factor=100.0)
    """
    folds = norm_folds(model.config)
    if not folds:
        raise WorkloadError(f"{model.name}: the norms of a {model.config.family} block feed its sums too")
    shrink = _factors(model.config.hidden_size, channels, 1.0 / _positive(factor), "channel of the residual stream")
    (layers,) = model.params["segments"]
    for fold in folds:
        layers = divided(model.config, layers, fold, jnp.broadcast_to(shrink, layers[fold.source].shape))
    return with_layers(model, layers)


def with_key_outliers(model: Model, channels: Sequence[int], factor: float) -> Model:
    """The same function with outlier channels in the keys of every head, and as small ones in its queries.

    Args:
        model: any.
        channels: of a head; one that is turned with another by its position takes that other along.
        factor: by how much keys grow, and queries shrink.

    Raises:
        WorkloadError: a channel that is not there, or a factor that is not positive.

    Example:
        >>> with_key_outliers(load_model("tiny-stories"), channels=[3], factor=10.0)
    """
    config = model.config
    grow = _factors(config.head_dim, turned_together(config, channels), _positive(factor), "channel of a head")
    (layers,) = model.params["segments"]
    changed: dict[str, Any] = {}
    for operator, factors in (("attention.k", grow), ("attention.q", 1.0 / grow)):
        source = f"{operator}_norm" if config.attention.normed else operator
        if config.attention.normed:
            scaled = gain(config, layers, source) * factors[None]
            changed[source] = scaled - 1.0 if config.norm.one_added else scaled
            wide = factors
        else:
            wide = jnp.tile(factors, config.matrix_shapes[operator][1] // config.head_dim)
            changed[source] = layers[source] * wide[None, None]
        if f"{source}.bias" in layers:
            changed[f"{source}.bias"] = layers[f"{source}.bias"] * wide[None]
    return with_layers(model, {**layers, **changed})


def turned_together(config: ModelConfig, channels: Sequence[int]) -> list[int]:
    """The channels of a head, and those that rotary positions mix with them."""
    if not isinstance(config.positions, Rotary):
        return list(channels)
    turned = config.head_dim if config.positions.dims is None else config.positions.dims
    partners = [(c + turned // 2) % turned for c in channels if 0 <= c < turned]
    return sorted({*channels, *partners})


def _positive(factor: float) -> float:
    if not 0 < factor < np.inf:
        raise WorkloadError(f"factor = {factor}: give a positive number, such as 100")
    return factor


def _factors(count: int, channels: Sequence[int], factor: float, what: str) -> Float[Array, " n"]:
    wrong = [c for c in channels if not 0 <= c < count]
    if wrong:
        raise WorkloadError(f"there is no {what} {wrong[0]}: they run from 0 to {count - 1}")
    return jnp.ones(count).at[jnp.asarray(list(channels), jnp.int32)].set(factor)
