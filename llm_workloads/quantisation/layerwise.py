"""Going through a model layer by layer, with the inputs that each matrix gets on a text."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.llm_workloads import transformer
from pim.llm_workloads.model import Model
from pim.llm_workloads.observed import observed
from pim.llm_workloads.text import ScoredText, as_scored

Layer = dict[str, Any]
Inputs = Mapping[str, Float[Array, "n n_in"]]
Visit = Callable[[int, Layer, Inputs], Layer]
"""`(index, layer, inputs) -> layer`: what becomes of a layer, given the inputs of its matrices."""

CALIBRATION_TOKENS = 1024
"""About how many tokens of a text are looked at, where nothing else is said."""


def layer_by_layer(
    model: Model, text: str | ScoredText, visit: Visit, *, context: int = 256, tokens: int = CALIBRATION_TOKENS
) -> Model:
    """The model with every layer put through `visit`, the first one first.

    An expert is given all tokens, also those that its router sends elsewhere: every expert sees as much text.

    Args:
        model: any.
        text: what the model reads.
        visit: gets a layer and the inputs of its matrices, those of padding left out, when the layers before it are
            those that it has returned, and the layer itself is still the old one.
        context: tokens a sequence.
        tokens: about how many tokens are used.
    """
    sample = as_scored(text, model.tokenizer, context=context, max_tokens=tokens)
    valid = jnp.asarray(sample.valid_tokens())
    kept = np.nonzero(sample.valid_tokens())
    (matrices,) = model.params["segments"]
    x = transformer.embed(model.config, model.params, jnp.asarray(sample.tokens))
    layers = []
    for index in range(model.config.num_hidden_layers):
        layer = jax.tree.map(lambda leaf, k=index: jnp.asarray(leaf[k]), matrices)
        _, inputs = observed(model.config, layer, x, valid)
        layers.append(visit(index, layer, {operator: given[kept] for operator, given in inputs.items()}))
        x, _ = observed(model.config, layers[-1], x, valid)
    return with_layers(model, jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers))


def with_layers(model: Model, layers: Layer) -> Model:
    """The model with other layers, stacked along their first axis."""
    return replace(model, params={**model.params, "segments": [layers]})


def maxima(model: Model, text: str | ScoredText, **options: Any) -> dict[str, Float[Array, "layers n_in"]]:
    """The largest magnitude of each input channel of each matrix on a text; options as of `layer_by_layer`.

    >>> maxima(model, text)["attention.q"].shape
    (5, 64)
    """
    found: list[dict[str, Array]] = []

    def visit(index: int, layer: Layer, inputs: Inputs) -> Layer:
        found.append({operator: jnp.abs(x).max(axis=0) for operator, x in inputs.items()})
        return layer

    layer_by_layer(model, text, visit, **options)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
