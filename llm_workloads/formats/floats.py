"""Floating-point numbers of 4 to 8 bits times a scale.

Rounded to the nearest value, ties to even, subnormal values among them; what is too large takes the largest finite
value (saturation), not infinity or NaN.

Sources: Micikevicius et al., arXiv 2209.05433 (FP8: E4M3 without infinities, E5M2); Open Compute Project, Microscaling
Formats (MX) Specification v1.0, 2023 (FP6 and FP4, without infinities and NaN).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from pim.llm_workloads.formats.step import TINY, Step, largest, scale_only


def floor_log2(x: Float[Array, "..."]) -> Int32[Array, "..."]:
    """The exponent of a float32; of zero and of what is below 2^-126, -127."""
    word = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    return ((word >> 23) & 0xFF) - 127


def power_of_two(exponent: Int32[Array, "..."]) -> Float[Array, "..."]:
    """2^exponent, exactly, for -126 to 127."""
    return jax.lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)


@dataclass(frozen=True)
class SmallFloat:
    """A floating-point format.

    Attributes:
        mantissa: bits of the mantissa.
        least: exponent of the smallest normal value.
        emax: exponent of the largest value.
        maximum: the largest value.
        bits: of a value, sign included.
    """

    mantissa: int
    least: int
    emax: int
    maximum: float
    bits: int

    def step(self, x: Float[Array, "..."], axes: tuple[int, ...]) -> Step:
        """The scale of the values that lie along `axes` together: the largest magnitude is the largest value."""
        return scale_only(jnp.maximum(largest(x, axes) / self.maximum, TINY))

    def nearest(self, x: Float[Array, "..."], step: Step) -> Float[Array, "..."]:
        """What is kept of values at a given scale."""
        return self.rounded(x / step.scale) * step.scale

    def rounded(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The nearest values of the format itself."""
        inside = jnp.clip(x, -self.maximum, self.maximum)
        spacing = power_of_two(jnp.maximum(floor_log2(inside), self.least) - self.mantissa)
        return jnp.round(inside / spacing) * spacing


FLOATS = {
    "fp8_e4m3": SmallFloat(mantissa=3, least=-6, emax=8, maximum=448.0, bits=8),
    "fp8_e5m2": SmallFloat(mantissa=2, least=-14, emax=15, maximum=57344.0, bits=8),
    "fp6_e2m3": SmallFloat(mantissa=3, least=0, emax=2, maximum=7.5, bits=6),
    "fp6_e3m2": SmallFloat(mantissa=2, least=-2, emax=4, maximum=28.0, bits=6),
    "fp4_e2m1": SmallFloat(mantissa=1, least=0, emax=2, maximum=6.0, bits=4),
}
"""By their short names."""
