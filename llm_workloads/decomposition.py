"""Scores without keys: queries go back through the matrix of the keys, and meet the inputs of the layer.

The keys of a head are K = X W + 1 b, so that what a query q scores is

    q K^T = (q W^T) X^T + (q b) 1

(Yang et al., ReTransformer, ICCAD 2020). X is there before any key is, W is a matrix of weights, and what is written to
be multiplied is X: once, with all heads taking turns at it, or for each key head. In return each query has
`hidden_size` numbers where it had `head_dim`. The last term is the same for all tokens: a softmax does not see it.

It holds where keys are linear in X: not where they are rotated by their position (the rotation stands between W and X,
another for each pair of tokens) or normalised.
"""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.positions import Rotary


def scores_from_inputs(
    query: Float[Array, "heads time head_dim"],
    key_weights: Float[Array, "hidden kv_width"],
    inputs: Float[Array, "tokens hidden"],
    key_bias: Float[Array, "kv_width"] | None = None,
) -> Float[Array, "heads time tokens"]:
    """Scores of queries against all tokens, unscaled, without their keys.

    Args:
        query: of each head; query heads that share a key head follow one another.
        key_weights: the matrix by which inputs become keys, head by head.
        inputs: of the layer, a row a token.
        key_bias: added to keys.

    Example:
        >>> scores_from_inputs(q, w, x, b)  # equals jnp.einsum("htd,nhd->htn", q, (x @ w + b[None]).reshape(n, h, d))
    """
    heads, _, dim = query.shape
    each = key_weights.reshape(key_weights.shape[0], -1, dim)  # of each key head
    shared = jnp.repeat(each, heads // each.shape[1], axis=1)
    scores = jnp.einsum("hte,ne->htn", jnp.einsum("htd,ehd->hte", query, shared), inputs)
    if key_bias is None:
        return scores
    bias = jnp.repeat(key_bias.reshape(-1, dim), heads // each.shape[1], axis=0)
    return scores + jnp.einsum("htd,hd->ht", query, bias)[:, :, None]


def decomposed(config: ModelConfig, scored: str = "inputs") -> ModelConfig:
    """The config of a model whose queries score inputs instead of keys; "keys" leaves it as it is.

    Raises WorkloadError where keys are no linear function of the inputs.

    >>> from pim.llm_workloads.known_shapes import known_shape
    >>> decomposed(known_shape("bert-base")).attention.scored
    'inputs'
    """
    if scored == "keys":
        return config
    why = why_not(config)
    if why is not None:
        raise WorkloadError(
            f"keys of a {config.family} model are {why}: scores cannot be taken from its inputs instead; take a model "
            "with learned positions"
        )
    return replace(config, attention=replace(config.attention, scored=scored))


def why_not(config: ModelConfig) -> str | None:
    """What stands between the inputs and the keys of a model, or None.

    >>> from pim.llm_workloads.known_shapes import known_shape
    >>> why_not(known_shape("llama-2-7b"))
    'rotated by their positions'
    """
    if isinstance(config.positions, Rotary):
        return "rotated by their positions"
    return "normalised" if config.attention.normed else None
