"""Sizes of a product as a user gives them: whole numbers, or arrays of them."""

from typing import Any

import numpy as np
from jax.core import Tracer

from pim.errors import StudyError

MOST = 2**31 - 1
"""What 32 bits hold."""


def check_count(name: str, value: Any) -> None:
    """Raise StudyError for what is no whole number from 1 to `MOST`, nor an array of them; a traced one has no value.

    >>> check_count("n_in", 0)
    Traceback (most recent call last):
    pim.errors.StudyError: n_in must be a whole number of at least 1 (or an array of them), not 0
    """
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf" or not numbers.size or (numbers < 1).any() or (numbers % 1 != 0).any():
        raise StudyError(f"{name} must be a whole number of at least 1 (or an array of them), not {value!r}")
    if (numbers > MOST).any():
        raise StudyError(f"{name} = {numbers.max():.4g} is too large, {MOST:,} is the most")
