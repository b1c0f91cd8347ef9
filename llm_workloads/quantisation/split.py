"""Large inputs on an exact path of their own, so that the others can be quantised.

LLM.int8() multiplies the channels in which any input is at least 6 in float16, and all others in integers (Dettmers et
al., arXiv 2208.07339, section 3.2). Here each token's large inputs are its own, so that no token depends on another.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.attention import Matmul
from pim.llm_workloads.quantisation.inputs import of_weights

THRESHOLD = 6.0
"""The paper's."""


def split_outliers(matmul: Matmul, exact: Matmul, threshold: float = THRESHOLD) -> Matmul:
    """The hook with the large inputs of every layer's matrices multiplied by another one.

    Args:
        matmul: the hook for the usual inputs, such as one of `inputs.quantised_inputs`.
        exact: the hook for the large ones, such as `transformer.digital_matmul`.
        threshold: the least magnitude of a large input.

    Example:
        >>> coarse = quantised_inputs(digital_matmul, "int8:token")
        >>> forward(config, params, tokens, matmul=split_outliers(coarse, digital_matmul))
    """

    def hook(operator: str, w: object, x: Array, ids: Array) -> Array:
        if not of_weights(operator):
            return matmul(operator, w, x, ids)
        usual, large = split(x, threshold)
        return matmul(operator, w, usual, ids) + exact(operator, w, large, ids)

    return hook


def split(x: Float[Array, "*n"], threshold: float | Float[Array, ""]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The inputs below a magnitude and those from it on, zeros elsewhere: their sum is what was given."""
    large = jnp.abs(x) >= threshold
    return jnp.where(large, 0.0, x), jnp.where(large, x, 0.0)
