"""One layer of the exact model, with the inputs that each of its matrices gets."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Bool, Float

from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig


@partial(jax.jit, static_argnums=0)
def observed(
    config: ModelConfig,
    layer: dict[str, Any],
    x: Float[Array, "batch time hidden"],
    valid: Bool[Array, "batch time"],
) -> tuple[Float[Array, "batch time hidden"], dict[str, Float[Array, "batch time _"]]]:
    """The residual stream behind a layer, and the inputs of its matrices.

    Args:
        config: shapes and constants.
        layer: its parameters.
        x: the residual stream in front of it.
        valid: which tokens are no padding, which must stand at the end: encoders attend to none of it.
    """
    inputs = {}

    def observe(operator: str, w: Array, given: Array, ids: Array) -> Array:
        inputs[operator] = given
        return transformer.digital_matmul(operator, w, given, ids)

    y, _ = transformer.layer_step(config, layer, x, transformer.layer_cache(config, valid), observe)
    return y, {operator: inputs[operator] for operator in config.static}
