"""The feed-forward layer of a block: plain, gated, or a choice of experts.

Sources: Shazeer, arXiv 2002.05202 (gated layers); Hendrycks and Gimpel, arXiv 1606.08415 (GELU, and its form with
tanh); Jiang et al., arXiv 2401.04088 (experts: the chosen ones' router weights are normalised to sum to one).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.config import FeedForward

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
"""Of `ACTIVATIONS`."""

Project = Callable[[str, Array], Array]
"""`(operator, x) -> y`: the product with the operator's matrix in this layer, and its bias."""


def feed_forward(
    kind: FeedForward, layer: Mapping[str, Any], project: Project, x: Float[Array, "batch time hidden"]
) -> Float[Array, "batch time hidden"]:
    """What a layer's feed-forward part makes of normalised values.

    Args:
        kind: of the model.
        layer: of which "ffn.activation" may be a function in place of the model's.
        project: the products.
        x: inputs.

    All experts see all tokens; those that were not chosen count nothing. Under one compiled program a token cannot pick
    which products are computed, so a choice of 2 among 8 costs 4 times what a chip would do.
    """
    activation = layer.get("ffn.activation", FUNCTIONS[kind.activation])
    if not kind.experts:
        return _one(kind, activation, project, "ffn", x)
    gains = chosen(project("ffn.router", x), kind.experts_per_token)
    outputs = (
        gains[..., expert, None] * _one(kind, activation, project, f"ffn.experts.{expert}", x)
        for expert in range(kind.experts)
    )
    return sum(outputs, jnp.zeros_like(x))


def _one(kind: FeedForward, activation: Callable[[Array], Array], project: Project, path: str, x: Array) -> Array:
    if not kind.gated:
        return project(f"{path}.down", activation(project(f"{path}.up", x)))
    gate = activation(project(f"{path}.gate", x))
    return project(f"{path}.down", gate * project(f"{path}.up", x))


def chosen(router: Float[Array, "batch time experts"], count: int) -> Float[Array, "batch time experts"]:
    """The weight of each expert: that of the `count` likeliest ones, normalised to one in sum, else zero."""
    weights, index = jax.lax.top_k(jax.nn.softmax(router, axis=-1), count)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return (jax.nn.one_hot(index, router.shape[-1], dtype=weights.dtype) * weights[..., None]).sum(axis=-2)
