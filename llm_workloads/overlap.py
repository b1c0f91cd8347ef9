"""Whether two texts overlap: what is calibrated on the text that is scored looks better than it is."""

from jaxtyping import Int32
from numpy import ndarray

from pim.llm_workloads.text import ScoredText

SHARED_RUN = 32
"""Tokens in a row that two texts may not share if one is to calibrate what is scored on the other."""

_GREETING = 8


def overlap(calibration: ScoredText, scored: ScoredText) -> str | None:
    """Where the scored text repeats the calibration text, in words; None if it does not.

    It does if they have a sequence (of 8 tokens or more) or 32 tokens in a row in common. What is calibrated on scored
    text looks better than it is: the caller raises.
    """
    runs = {run for row in calibration.rows() for run in _runs(row[1:])}
    for number, row in enumerate(scored.rows()):
        at = next((at for at, run in enumerate(_runs(row[1:])) if run in runs), None)
        if at is not None:
            return f"sequence {number} of the scored text shares the tokens from its {at + 1}th on"
    return None


def _runs(row: Int32[ndarray, " length"]) -> list[bytes]:
    """Every run of `SHARED_RUN` tokens; a row that is shorter is one run, but a greeting of a few tokens is none."""
    length = min(len(row), SHARED_RUN)
    return [] if length < _GREETING else [row[at : at + length].tobytes() for at in range(len(row) - length + 1)]
