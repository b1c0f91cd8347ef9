"""SmoothQuant: large input channels are made smaller, and their weights larger, until both are as easy to quantise.

The factor of channel j is max|X_j|^alpha / max|W_j|^(1 - alpha), the maxima on a calibration text and over the matrices
that share the input (Xiao et al., arXiv 2211.10438, equation 4). It is what analog arrays with 8-bit converters need
too: they bear errors of weights better than those of inputs and outputs (NORA, Hou et al., DATE 2025).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import Model
from pim.llm_workloads.quantisation.folding import Fold, divided, narrowed, norm_folds
from pim.llm_workloads.quantisation.layerwise import maxima, with_layers
from pim.llm_workloads.text import ScoredText

TINY = 1e-5
"""Least maximum that counts, as in the authors' code: a channel that is always zero keeps a finite factor."""


def smooth(model: Model, text: str | ScoredText, alpha: float = 0.5, **options: Any) -> Model:
    """The same function with the outliers of inputs moved into the weights, by the norms in front of the matrices.

    Args:
        model: with norms in front of its matrices.
        text: calibration text, which should not be the one that is scored.
        alpha: 0 leaves inputs and evens weights out, 1 makes all input channels equal.
        options: `context` and `tokens` of the text, see `layerwise.layer_by_layer`.

    Raises:
        WorkloadError: alpha outside [0, 1], or a model whose norms feed its sums, so that nothing can be folded.

    Example:
        >>> smoothed = smooth(load_model("tiny-stories"), text, alpha=0.5)
    """
    if not 0 <= alpha <= 1:
        raise WorkloadError(f"alpha = {alpha}: the share of the outliers that goes into the weights lies in [0, 1]")
    folds = norm_folds(model.config)
    if not folds:
        raise WorkloadError(
            f"{model.name}: the norms of a {model.config.family} block feed its sums too, so that no scale can be "
            "folded into them; models with norms in front of their matrices can be smoothed"
        )
    largest = maxima(model, text, **options)
    (layers,) = model.params["segments"]
    for fold in folds:
        inputs = narrowed(model.config, fold, largest[fold.followers[0]])
        layers = divided(model.config, layers, fold, smoothing_factors(inputs, row_maxima(layers, fold), alpha))
    return with_layers(model, layers)


def smoothing_factors(
    inputs: Float[Array, "*layers n"], weights: Float[Array, "*layers n"], alpha: float
) -> Float[Array, "*layers n"]:
    """What each channel of the inputs is divided by, from the largest magnitudes of inputs and weights."""
    return jnp.maximum(jnp.maximum(inputs, TINY) ** alpha / jnp.maximum(weights, TINY) ** (1 - alpha), TINY)


def row_maxima(layers: dict[str, Any], fold: Fold) -> Float[Array, "*layers n"]:
    """The largest weight that each input of the followers of a fold meets."""
    return jnp.stack([jnp.abs(layers[name]).max(axis=-1) for name in fold.followers]).max(axis=0)
