"""The error that a device description or its use can raise."""

from collections.abc import Iterable
from difflib import get_close_matches


class DeviceError(ValueError):
    """A device, preset, field or matrix that cannot be used; the message says what would be right."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice that ends an error about an unknown name: the nearest known ones, else all of them.

    >>> nearest("adc.bit", ["adc.bits", "dac.bits"])
    'did you mean adc.bits or dac.bits?'
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}"
