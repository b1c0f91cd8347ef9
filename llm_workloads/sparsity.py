"""Attention to a share of the tokens: which products are left of it, and what chooses.

What a share costs depends on who knows it: a pattern that is there before anything is computed leaves out scores
altogether; a screen scores all tokens in a rough way, elsewhere, and the exact scores are those of the chosen (SPRINT,
arXiv 2209.00606; HARDSEA); the scores themselves choose for what comes behind them (top-k).
"""

from dataclasses import replace
from typing import Any

from pim.llm_workloads.config import ATTENDED_BY, ModelConfig
from pim.llm_workloads.errors import WorkloadError


def sparser(config: ModelConfig, attended: float, attended_by: str = "pattern") -> ModelConfig:
    """The config of a model that attends to a share of the tokens; 1 leaves it as it is.

    Args:
        config: of the model.
        attended: share of the scores that a softmax gets, on average.
        attended_by: what chooses them, one of `ATTENDED_BY`.

    Raises WorkloadError for a share that is none, or an unknown way to choose.

    >>> from pim.llm_workloads.known_shapes import known_shape
    >>> sparser(known_shape("bert-base"), 0.25, "screen").attention.attended
    0.25
    """
    check_attended(attended, attended_by)
    if attended == 1:
        return config
    return replace(config, attention=replace(config.attention, attended=float(attended), attended_by=attended_by))


def check_attended(attended: Any, attended_by: str) -> None:
    """Raise WorkloadError for a share that is none, or an unknown way to choose it."""
    if not isinstance(attended, int | float) or not 0 < attended <= 1:
        raise WorkloadError(f"attended = {attended!r}: give a share of the scores, above 0 and at most 1")
    if attended_by not in ATTENDED_BY:
        raise WorkloadError(f"attended_by = {attended_by!r}: take one of {', '.join(ATTENDED_BY)}")
