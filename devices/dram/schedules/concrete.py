"""Plain whole numbers out of the fields of a device and the sizes of a product, for what is done one by one."""

import math
from typing import Any

import numpy as np
from jax.core import Tracer

from pim.devices.dram.work import OPERATIONS, Work
from pim.devices.errors import DeviceError

MOST = 5_000_000
"""Commands of a schedule at most: some hundred megabytes, and a minute."""


def interval(value: Any, name: str) -> int:
    """A number of cycles, or a count of a device, as an integer; a fraction is rounded up, as hardware would have to.

    Raises:
        DeviceError: it is traced, or an array.
    """
    return math.ceil(_one(value, name))


def size(value: Any, name: str) -> int:
    """A size of a product as an integer.

    Raises:
        DeviceError: it is traced, an array, or no whole number of at least 1.
    """
    number = _one(value, name)
    if number < 1 or number % 1:
        raise DeviceError(f"{name} = {value!r} is no size: a schedule needs a whole number of at least 1")
    return int(number)


def sizes(work: Work) -> tuple[int, int, int, int]:
    """The sizes of work: n_in, n_out, vectors, copies.

    Raises:
        DeviceError: see `size`; or the work is not a product.
    """
    if work.operation not in OPERATIONS:
        raise DeviceError(f"there are schedules of {', '.join(OPERATIONS)}, and none of {work.operation!r}")
    n_in, n_out, vectors, copies = (size(value, name) for value, name in zip(work[1:], Work._fields[1:], strict=True))
    return n_in, n_out, vectors, copies


def refuse_above_most(commands: int) -> None:
    """Raise DeviceError if there would be too many commands to list."""
    if commands > MOST:
        raise DeviceError(
            f"a schedule of {commands:.3g} commands is too long, {MOST:.0e} is the most: take fewer vectors or copies "
            "(they come one after another and are alike), or leave the schedule away: the cost itself needs none"
        )


def _one(value: Any, name: str) -> float:
    if isinstance(value, Tracer):
        raise DeviceError(f"a schedule is of one product on one device, and {name} is traced: ask outside jit and vmap")
    numbers = np.asarray(value)
    if numbers.size != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise DeviceError(f"a schedule is of one product on one device: {name} must be one number, not {value!r}")
    return float(numbers.reshape(()))
