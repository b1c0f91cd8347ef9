"""Drift compensation: a digital gain behind the array that undoes what the cells have lost on average.

The gain is the mean magnitude of a readout at some early time over the same now, for the whole matrix or for each
output (M. Le Gallo et al., Adv. Electron. Mater. 4, 1700627, 2018; as in aihwkit). It costs a readout, no new writing.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from pim.devices.errors import DeviceError

if TYPE_CHECKING:
    from pim.chip import Chip

KINDS = ("global", "column")


def compensate(chip: "Chip", kind: str, *, since: float, x: Any, key: Any) -> "Chip":
    """The chip with the gain in its digital scale; see `Chip.compensate`."""
    if kind not in KINDS:
        raise DeviceError(f"compensation {kind!r} is none of {', '.join(KINDS)}")
    if chip.crossbar is None or chip.time is None:
        raise DeviceError("this chip does not age: there is nothing to compensate")
    probe = jnp.eye(chip.weights.shape[0]) if x is None else jnp.asarray(x, jnp.float32)
    then, now = (jnp.abs(c.matmul(probe, key=key)).mean(axis=-2) for c in (chip.at(since, chip.temperature), chip))
    if kind == "global":  # of each chip, where there are many
        then, now = then.mean(axis=-1, keepdims=True), now.mean(axis=-1, keepdims=True)
    gain = jnp.where(now == 0, 1.0, then / jnp.where(now == 0, 1.0, now))
    return replace(chip, crossbar=replace(chip.crossbar, scale=chip.crossbar.scale * gain[..., None, :]))
