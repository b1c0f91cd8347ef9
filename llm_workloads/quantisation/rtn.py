"""Rounding to nearest: every weight to the nearest value of the format."""

from typing import Any

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.formats.format import Format, quantised


def rounded_layers(config: ModelConfig, layers: dict[str, Any], how: Format) -> dict[str, Any]:
    """A layer, or a stack of them, with all its matrices rounded; norms, biases and routers stay as they are."""
    return {**layers, **{operator: quantised(layers[operator], how, -2) for operator in rounded_operators(config)}}


def rounded_operators(config: ModelConfig) -> list[str]:
    """The operators whose weights are quantised: all but routers, which are small and choose what all else does."""
    return [operator for operator in config.static if not operator.endswith(".router")]
