"""CodeLimits: the whole numbers that a converter of some bits knows, and which of them full scale is.

| name           | codes                      | how many  | full scale  | is there a zero                    |
|----------------|----------------------------|-----------|-------------|------------------------------------|
| sign_magnitude | -(2^(b-1)-1) .. 2^(b-1)-1  | 2^b - 1   | 2^(b-1)-1   | yes                                |
| twos_complement| -2^(b-1) .. 2^(b-1)-1      | 2^b       | 2^(b-1)     | yes; +full scale itself is no code |
| unsigned       | 0 .. 2^b-1                 | 2^b       | 2^b-1       | yes, at the low end                |
| offset         | 0 .. 2^b-1, from low to high | 2^b     | 2^b-1       | not if the range is symmetric      |
"""

from typing import Any, NamedTuple

LEVELS = {
    "sign_magnitude": "2^b - 1 levels, symmetric about zero, which is one of them",
    "twos_complement": "2^b levels, -2^(b-1) to 2^(b-1) - 1: zero is one of them, +full scale is not",
    "unsigned": "2^b levels from 0 to full scale",
    "offset": "2^b levels from the low to the high end, both included: with a symmetric range zero is none of them",
}
"""What each code means by `bits`, in words."""


class CodeLimits(NamedTuple):
    """The codes low, low + 1, .., high; `full` of them are full scale. Whole numbers, of `bits` that may be traced."""

    low: Any
    high: Any
    full: Any


def codes_of(code: str, bits: Any) -> CodeLimits:
    """The codes of a converter of `bits`.

    >>> codes_of("twos_complement", 8)
    CodeLimits(low=-128.0, high=127.0, full=128.0)
    """
    half = 2.0 ** (bits - 1.0)
    if code == "sign_magnitude":
        return CodeLimits(-(half - 1.0), half - 1.0, half - 1.0)
    if code == "twos_complement":
        return CodeLimits(-half, half - 1.0, half)
    if code in ("unsigned", "offset"):
        return CodeLimits(0.0 * half, 2.0 * half - 1.0, 2.0 * half - 1.0)
    raise ValueError(f"unknown code {code!r}")
