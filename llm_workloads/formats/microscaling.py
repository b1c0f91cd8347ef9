"""Microscaling (MX): blocks of 32 values that share a power of two.

The shared scale is 2^(floor(log2 m) - emax), of m the largest magnitude in the block and emax the exponent of the
largest value that an element can be; elements are then rounded to the nearest, and saturate. Integer elements count in
steps of 2^-6, so that emax is 0. Source: Open Compute Project, Microscaling Formats (MX) Specification v1.0, 2023,
sections 5.2, 5.3 and 6.3; also Rouhani et al., arXiv 2310.10537, algorithm 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.formats.floats import FLOATS, SmallFloat, floor_log2, power_of_two
from pim.llm_workloads.formats.integers import Integer
from pim.llm_workloads.formats.step import Step, largest

BLOCK = 32
"""Values that share a scale."""

SCALE_BITS = 8
"""Bits of the shared exponent (E8M0)."""

ELEMENTS: dict[str, Integer | SmallFloat] = {
    "mxfp8": FLOATS["fp8_e4m3"],
    "mxfp8_e4m3": FLOATS["fp8_e4m3"],
    "mxfp8_e5m2": FLOATS["fp8_e5m2"],
    "mxfp6": FLOATS["fp6_e2m3"],
    "mxfp6_e2m3": FLOATS["fp6_e2m3"],
    "mxfp6_e3m2": FLOATS["fp6_e3m2"],
    "mxfp4": FLOATS["fp4_e2m1"],
    "mxint8": Integer(8),
}
"""What each short name's elements are; mxfp8 and mxfp6 are the kinds with more mantissa."""


def shared_step(number: Integer | SmallFloat, x: Float[Array, "..."], axes: tuple[int, ...]) -> Step:
    """The step of the values that lie along `axes` together, a power of two.

    Exponents of E8M0 go down to -127; float32 has normal values from -126, where the least scale is here.
    """
    emax, implied = (number.emax, 0) if isinstance(number, SmallFloat) else (0, 2 - number.bits)
    exponent = jnp.clip(floor_log2(largest(x, axes)) - emax, -126, 127)
    scale = power_of_two(jnp.maximum(exponent + implied, -126))
    low = 0 if isinstance(number, SmallFloat) else -(number.codes // 2)
    return Step(scale, jnp.zeros_like(scale), jnp.full_like(scale, low))
