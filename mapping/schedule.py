"""A schedule: sub-batches that go through the same work at the same time, each device doing one thing after another.

While one sub-batch is on one device, another can be on the next (sub-batch interleaving: Heo et al., NeuPIMs, ASPLOS
2024, section 6). The work of each is a list of turns on devices, and whoever is there first is served first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Turn(NamedTuple):
    """An uninterrupted stay on a device, of a time (s) that may be an array over points."""

    device: str
    what: str
    time: Float[Array, "*points"]


class Slot(NamedTuple):
    """When a turn of a sub-batch begins and ends (s)."""

    sub_batch: int
    turn: Turn
    begin: Float[Array, "*points"]
    end: Float[Array, "*points"]


def merged(turns: Sequence[Turn]) -> list[Turn]:
    """Turns on the same device that follow each other, as one."""
    found: list[Turn] = []
    for turn in turns:
        if found and found[-1].device == turn.device:
            last = found.pop()
            what = last.what if last.what == turn.what else f"{last.what.split(' to ')[0]} to {turn.what}"
            found.append(Turn(turn.device, what, last.time + turn.time))
        else:
            found.append(turn)
    return found


def schedule(turns: Sequence[Turn], sub_batches: int) -> list[Slot]:
    """When each of so many sub-batches, all of which do the same turns, is on which device.

    A device serves whoever has been through fewer turns, and of those the first.

    >>> schedule([Turn("npu", "q", 2.0), Turn("pim", "qk", 3.0), Turn("npu", "ffn", 2.0)], 2)[-1].end
    10.0
    """
    free = {turn.device: jnp.zeros_like(turn.time) for turn in turns}
    ready = [jnp.zeros_like(turns[0].time) for _ in range(sub_batches)] if turns else []
    slots = []
    for turn in turns:
        for sub_batch in range(sub_batches):
            begin = jnp.maximum(ready[sub_batch], free[turn.device])
            ready[sub_batch] = free[turn.device] = begin + turn.time
            slots.append(Slot(sub_batch, turn, begin, ready[sub_batch]))
    return slots


def makespan(slots: Sequence[Slot]) -> Float[Array, "*points"]:
    """Time (s) until all is done."""
    return jnp.max(jnp.stack([slot.end for slot in slots]), axis=0) if slots else jnp.zeros(())
