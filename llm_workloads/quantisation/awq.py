"""AWQ: the weights of channels that carry large inputs are scaled up before rounding, and so lose less.

The factors are mean|X|^alpha, alpha the best of a grid by the error of the outputs of the matrices that share the input
(Lin et al., arXiv 2306.00978, section 3.2; the normalisation by sqrt(max min) is that of the authors' code). They are
folded into the norm or the matrix in front, so that nothing is left to be computed.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.formats.format import Format, quantised
from pim.llm_workloads.formats.names import parse_format
from pim.llm_workloads.model import Model
from pim.llm_workloads.quantisation.folding import divided, matrix_folds, narrowed, norm_folds, scaled_rows, widened
from pim.llm_workloads.quantisation.layerwise import Inputs, Layer, layer_by_layer
from pim.llm_workloads.quantisation.rtn import rounded_operators
from pim.llm_workloads.text import ScoredText

GRID = 20
"""Steps of alpha from 0 to 1."""


def rescaled(
    model: Model, text: str | ScoredText, weights: str | Format, inputs: str | Format | None = None, **options: Any
) -> Model:
    """The same function with channels scaled so that rounding the weights harms the outputs least.

    Args:
        model: any; where its norms feed its sums, only the channels between two matrices are scaled.
        text: calibration text, which should not be the one that is scored.
        weights: format that the weights are to have.
        inputs: format that the inputs are to have, if they are rounded too.
        options: `context` and `tokens` of the text, see `layerwise.layer_by_layer`.

    Example:
        >>> rescaled(load_model("tiny-stories"), text, "int4:group64")
    """
    of_weights = parse_format(weights, "weights") if isinstance(weights, str) else weights
    of_inputs = parse_format(inputs, "inputs") if isinstance(inputs, str) else inputs
    config = model.config

    def visit(index: int, layer: Layer, given: Inputs) -> Layer:
        for fold in (*norm_folds(config), *matrix_folds(config)):
            x = given[fold.followers[0]]
            mean = narrowed(config, fold, jnp.abs(x).mean(axis=0))
            matrices = tuple(layer[name] for name in fold.followers if name in rounded_operators(config))
            factors = candidates(mean)
            wide = widened(config, fold, factors)
            best = jnp.argmin(errors(matrices, x, wide, of_weights, of_inputs))
            layer = divided(config, layer, fold, factors[best])
        return layer

    return layer_by_layer(model, text, visit, **options)


def candidates(mean: Float[Array, " n"]) -> Float[Array, "grid n"]:
    """The factors for every alpha, from the mean magnitude of each input channel."""
    alpha = jnp.arange(GRID, dtype=jnp.float32) / GRID
    powers = jnp.maximum(mean, 1e-5)[None, :] ** alpha[:, None]
    powers = jnp.maximum(powers, 1e-4)
    return powers / jnp.sqrt(powers.max(axis=1, keepdims=True) * powers.min(axis=1, keepdims=True))


@partial(jax.jit, static_argnames=("weights", "inputs"))
def errors(
    matrices: tuple[Float[Array, "n_in _"], ...],
    x: Float[Array, "n n_in"],
    factors: Float[Array, "grid n_in"],
    weights: Format,
    inputs: Format | None,
) -> Float[Array, " grid"]:
    """The squared error of all outputs for every row of factors."""

    def error(s: Array) -> Array:
        given = x / s[None, :]
        given = given if inputs is None else quantised(given, inputs, -1)
        return sum(
            (jnp.square(given @ quantised(scaled_rows(w, s), weights, -2) - x @ w).sum() for w in matrices),
            jnp.zeros(()),
        )

    return jax.lax.map(error, factors)
