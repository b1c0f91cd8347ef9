"""Quantised inputs of the matrices of weights: a hook around the hook."""

from jaxtyping import Array

from pim.llm_workloads.attention import Matmul
from pim.llm_workloads.config import DYNAMIC
from pim.llm_workloads.formats.format import Format, quantised
from pim.llm_workloads.formats.names import parse_format


def quantised_inputs(matmul: Matmul, how: str | Format) -> Matmul:
    """The hook with the inputs of every layer's matrices quantised; the head and attention stay as they are.

    Args:
        matmul: the hook that computes, such as `transformer.digital_matmul`.
        how: a format, or its name: a scale for each token, or for groups of its channels.

    Raises:
        WorkloadError: a format that makes no sense for inputs.

    Example:
        >>> forward(config, params, tokens, matmul=quantised_inputs(digital_matmul, "int8:token"))
    """
    kept = parse_format(how, "inputs") if isinstance(how, str) else how

    def hook(operator: str, w: object, x: Array, ids: Array) -> Array:
        given = quantised(x, kept, -1) if of_weights(operator) else x
        return matmul(operator, w, given, ids)

    return hook


def of_weights(operator: str) -> bool:
    """Whether an operator multiplies by a matrix of weights of a layer."""
    return operator not in DYNAMIC and not operator.startswith("head")
