"""Shift-and-add: what is summed up in front of the converters, and what each conversion counts behind them.

A product has a sum for each read and slice. In the digital domain each of them is converted and counts gain of the read
x gain of the slice. Added in front of the converter (charge shared between weighted capacitors, or weighted current
mirrors) the steps of an input, or all slices too, are converted once, in the unit of the whole input (and weight).
Reads by the sign of the input stay apart in either case.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.macro import AnalogMacro


class ShiftAdd(NamedTuple):
    """Sums [reads, slices] to conversions [times, parts]; None where nothing is added in front of the converter."""

    reads: Float[Array, "times reads"] | None
    slices: Float[Array, "parts slices"] | None
    counts: Float[Array, "times parts"]

    def added(
        self, sums: Float[Array, "reads batch slices columns"], power: int = 1
    ) -> Float[Array, "times batch parts columns"]:
        """What comes to the converters; with `power` 2, its variance from theirs."""
        if self.reads is not None:
            sums = jnp.einsum("tr,rbsc->tbsc", self.reads**power, sums, precision="highest")
        if self.slices is not None:
            sums = jnp.einsum("ps,tbsc->tbpc", self.slices**power, sums, precision="highest")
        return sums


def shift_add(macro: AnalogMacro, gains: Float[Array, "reads"], slices: Float[Array, "slices"]) -> ShiftAdd:
    """How a macro sums up reads of these gains (`driven_planes`) and slices of those."""
    if macro.shift_add == "digital":
        return ShiftAdd(None, None, gains[:, None] * slices[None, :])
    phases = macro.input_phases
    sign = jnp.array([1.0, -1.0])[:phases]
    steps = gains[: macro.dac.steps]  # those of the second phase are the same, counted negatively
    reads = jnp.kron(jnp.eye(phases), steps[None])
    if macro.shift_add == "steps":
        return ShiftAdd(reads, None, sign[:, None] * slices[None])
    return ShiftAdd(reads, slices[None], sign[:, None])
