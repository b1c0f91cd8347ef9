"""Span: the range of an output converter."""

from typing import Any, NamedTuple


class Span(NamedTuple):
    """From where to where a converter's codes reach, in the units of its signal; arrays of one shape.

    Codes that are symmetric about zero look at `high` alone, and so do unsigned ones, which begin at zero.
    """

    low: Any
    high: Any
