"""The products of an exact model on a text: every matrix of weights with the inputs that it gets."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.model import Model
from pim.llm_workloads.observed import observed
from pim.llm_workloads.text import ScoredText


class Product(NamedTuple):
    """One matrix of a model and its inputs, those of padding left out.

    `layer` of the head is the number of layers; `rows` are the (document, position) of each input.
    """

    layer: int
    operator: str
    weights: Float[Array, "n_in n_out"]
    x: Float[Array, "n n_in"]
    rows: UInt32[Array, "n 2"]


def products(model: Model, text: ScoredText) -> Iterator[Product]:
    """Every product with weights of the exact model on a text, layer by layer.

    >>> [p.operator for p in products(model, text)][:2]
    ['attention.q', 'attention.k']
    """
    params, config = model.params, model.config
    (matrices,) = params["segments"]
    valid = jnp.asarray(text.valid_tokens())
    kept = np.nonzero(text.valid_tokens())
    rows = jnp.asarray(np.stack([text.documents[kept[0]], kept[1].astype(np.uint32)], axis=1))
    x = transformer.embed(config, params, jnp.asarray(text.tokens))
    for index in range(config.num_hidden_layers):
        layer = jax.tree.map(lambda leaf, k=index: jnp.asarray(leaf[k]), matrices)
        x, inputs = observed(config, layer, x, valid)
        for operator in config.static:
            yield Product(index, operator, layer[operator], inputs[operator][kept], rows)
    for operator, (matrix, given) in _outer(config, params, x).items():
        yield Product(config.num_hidden_layers, operator, matrix, given[kept], rows)


def _outer(config: ModelConfig, params: Any, x: Array) -> dict[str, tuple[Array, Array]]:
    """The matrices behind the layers, and their inputs."""
    found = {}

    def observe(operator: str, w: Array, given: Array, ids: Array) -> Array:
        found[operator] = (w, given)
        return transformer.digital_matmul(operator, w, given, ids)

    if config.outer_shapes:
        ids = jnp.zeros((*x.shape[:2], 2), jnp.uint32)
        transformer.read_out(config, params, transformer.final_norm(config, params, x), ids, observe)
    return found
