"""Rounding to nearest: every weight to the nearest value of the format."""

from typing import Any

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.formats.format import Format, quantised


def rounded_layers(config: ModelConfig, layers: dict[str, Any], how: Format) -> dict[str, Any]:
    """A layer, or a stack of them, with all its matrices rounded; norms and biases stay as they are."""
    return {**layers, **{operator: quantised(layers[operator], how, -2) for operator in config.static}}
