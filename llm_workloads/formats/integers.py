"""Integers of 2 to 8 bits times a scale, symmetric about zero or not.

Symmetric codes of b bits run from -(2^(b-1) - 1) to 2^(b-1) - 1, and the largest magnitude is the largest code.
Asymmetric ones run over all 2^b codes, from the least to the largest value: with zero a code of its own, as weights
are quantised (Frantar et al., arXiv 2210.17323; Lin et al., arXiv 2306.00978), or with the least value kept as it is,
as keys and values are (Liu et al., KIVI, arXiv 2402.02750). All round to the nearest code, ties to even.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.step import TINY, Step, largest

ZEROS = {
    "symmetric": "codes of either sign, as many",
    "code": "from the least value to the largest, or to zero if it lies outside; zero is a code",
    "minimum": "from the least value, which is kept, to the largest",
}
"""Where codes lie, in words."""


@dataclass(frozen=True)
class Integer:
    """Integer codes.

    Attributes:
        bits: of a code, 2 to 8, sign included.
        zero: where codes lie, one of `ZEROS`.
    """

    bits: int
    zero: str = "symmetric"

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise WorkloadError(f"integers of {self.bits} bits are not modelled; 2 to 8 bits are")
        if self.zero not in ZEROS:
            raise WorkloadError(f"zero = {self.zero!r} is none of {', '.join(ZEROS)}")

    @property
    def codes(self) -> int:
        """The largest code less the least one."""
        return 2**self.bits - (2 if self.zero == "symmetric" else 1)

    def step(self, x: Float[Array, "..."], axes: tuple[int, ...]) -> Step:
        """The scale of the values that lie along `axes` together."""
        if self.zero == "symmetric":
            limit = self.codes // 2
            scale = jnp.maximum(largest(x, axes) / limit, TINY)
            return Step(scale, jnp.zeros_like(scale), jnp.full_like(scale, -limit))
        low, high = jnp.min(x, axis=axes, keepdims=True), jnp.max(x, axis=axes, keepdims=True)
        if self.zero == "minimum":
            scale = jnp.maximum((high - low) / self.codes, TINY)
            return Step(scale, low, jnp.zeros_like(scale))
        low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
        scale = jnp.maximum((high - low) / self.codes, TINY)
        return Step(scale, jnp.zeros_like(scale), jnp.round(low / scale))

    def nearest(self, x: Float[Array, "..."], step: Step) -> Float[Array, "..."]:
        """What is kept of values at a given scale; what lies beyond the codes takes the last one."""
        code = jnp.clip(jnp.round((x - step.base) / step.scale), step.low, step.low + self.codes)
        return code * step.scale + step.base
