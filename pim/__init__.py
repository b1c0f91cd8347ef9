"""Emulate processing-in-memory hardware running language models.

`import pim` is quick: each public name loads its module (and JAX) when it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pim._version import __version__

if TYPE_CHECKING:
    pass

_HOME: dict[str, str] = {}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
