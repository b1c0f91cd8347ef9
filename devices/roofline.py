"""A roofline: a processor known by its peak rate and its memory's bandwidth, the baseline of every comparison.

A product takes as long as its operations at the peak rate or its bytes at the bandwidth, whichever is longer (Williams,
Waterman and Patterson, Roofline, CACM 52(4), 2009). Published peaks are never reached: the share that is has a field.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.arithmetic import Arithmetic, arithmetic_part
from pim.devices.holder import KeyFor
from pim.devices.record import leaf, record


@record
class Roofline:
    """A GPU or NPU. An operation is a multiplication or an addition: a multiply-accumulate counts twice."""

    arithmetic: Arithmetic = arithmetic_part()
    operations_per_second: Float[Array, ""] = leaf("1/s", "peak rate of operations in products", low=1)
    bytes_per_second: Float[Array, ""] = leaf("1/s", "peak bandwidth of the memory, in bytes", low=1)
    bytes_per_operand: Float[Array, ""] = leaf("1", "bytes of a weight, an input or a result in memory", low=0.125)
    compute_share: Float[Array, ""] = leaf(
        "1", "share of the peak rate that products reach; 1: an ideal roofline", low=1e-3, high=1, default=1.0
    )
    bandwidth_share: Float[Array, ""] = leaf(
        "1", "share of the bandwidth that they reach; 1: an ideal roofline", low=1e-3, high=1, default=1.0
    )
    energy_per_operation: Float[Array, ""] | None = leaf(
        "J", "energy of one operation, operands at hand; absent: unknown", low=0, default=None
    )
    energy_per_byte: Float[Array, ""] | None = leaf(
        "J", "energy of moving a byte from or to the memory; absent: unknown", low=0, default=None
    )
    area: Float[Array, ""] | None = leaf("m^2", "area of the die, memory apart; absent: unknown", low=0, default=None)

    @property
    def ridge(self) -> Float[Array, ""]:
        """Operations a byte from which the rate and no longer the memory decides, at what is reached of both."""
        return self.rate / self.bandwidth

    @property
    def rate(self) -> Float[Array, ""]:
        """Operations a second that are reached."""
        return self.operations_per_second * self.compute_share

    @property
    def bandwidth(self) -> Float[Array, ""]:
        """Bytes a second that are reached."""
        return self.bytes_per_second * self.bandwidth_share

    def time(self, operations: Any, moved_bytes: Any) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Time (s) of computing, and the time beyond it for which the memory keeps it waiting."""
        compute = operations / self.rate
        return compute, jnp.maximum(moved_bytes / self.bandwidth - compute, 0.0)

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Any:
        """The matrix in the operands' format."""
        return self.arithmetic.hold(weights)

    def multiply(self, held: Any, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product in the processor's arithmetic."""
        return self.arithmetic.multiply(held, x)
