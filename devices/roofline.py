"""A roofline: a processor known by its peak rate and its memory's bandwidth, the baseline of every comparison.

A product takes as long as its operations at the peak rate or its bytes at the bandwidth, whichever is longer (Williams,
Waterman and Patterson, Roofline, CACM 52(4), 2009). Published peaks are never reached: the share that is has a field.
What else keeps a processor from its roof has fields too: heads fewer than a GPU's cores, kernels that take their time
to start or wait for a host that starts them, products that do not fill an NPU's arrays, vector work on other units.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.arithmetic import Arithmetic, arithmetic_part
from pim.devices.holder import KeyFor
from pim.devices.record import leaf, part, record, static
from pim.devices.systolic import SystolicArrays


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
    bytes_per_weight: Float[Array, ""] | None = leaf(
        "1", "bytes of a weight in memory; absent: as of any operand", low=0.03125, default=None
    )
    bytes_per_key: Float[Array, ""] | None = leaf(
        "1", "bytes of a number of a cached key or value; absent: as of any operand", low=0.03125, default=None
    )
    bytes_per_activation: Float[Array, ""] | None = leaf(
        "1", "bytes of an input or a result; absent: as of any operand", low=0.125, default=None
    )
    attention: str = static(
        "where scores are between the two products of attention",
        choices=("unfused", "fused"),
        meanings={
            "unfused": "in the memory, before and after their softmax",
            "fused": "on the die: FlashAttention, Dao et al., NeurIPS 2022",
        },
        default="unfused",
    )
    cores: Float[Array, ""] | None = leaf(
        "1",
        "cores, each of which takes a head's product of activations whole, as kernels do that are not split along the "
        "context; absent: heads are spread over all cores",
        low=1,
        default=None,
    )
    vector_latency: Float[Array, ""] | None = leaf(
        "s",
        "start of a norm or of an activation function, in whose kernels sums and rotations run too; absent: none",
        low=0,
        default=None,
    )
    launch_interval: Float[Array, ""] | None = leaf(
        "s",
        "least time from the start of a product, a norm or an activation function to the next, which a host starts one "
        "by one; absent: it is never waited for",
        low=0,
        default=None,
    )
    arrays: SystolicArrays | None = part(
        "arrays that products are to fill; absent: products of any shape do", default=None
    )
    vector_operations_per_second: Float[Array, ""] | None = leaf(
        "1/s", "peak rate of operations in vector work; absent: as in products", low=1, default=None
    )
    between: str = static(
        "where inputs and results are between two operators",
        choices=("memory", "on_die"),
        meanings={"memory": "in the memory, each time", "on_die": "in a scratchpad that holds them all"},
        default="memory",
    )
    memory_bytes: Float[Array, ""] | None = leaf("1", "bytes of the memory; absent: unknown", low=1, default=None)
    idle_power: Float[Array, ""] | None = leaf(
        "W", "power at rest, all the while; absent: unknown, and not counted", low=0, default=None
    )

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

    def bytes_of(self, kind: str) -> Float[Array, ""]:
        """Bytes of a "weight", a "key" (a value too) or an "activation" in memory."""
        own = getattr(self, f"bytes_per_{kind}")
        return self.bytes_per_operand if own is None else own

    def occupancy(self, heads: Any) -> Float[Array, "..."]:
        """Share of the cores that products of so many heads keep busy; 0 heads: not such a product, all are.

        The last round of heads leaves cores idle, and idle cores ask for no bytes: the bandwidth falls with the rate.
        """
        heads = jnp.asarray(heads, jnp.float32)
        if self.cores is None:
            return jnp.ones_like(heads)
        rounds = jnp.ceil(heads / self.cores)
        return jnp.where(heads > 0, heads / jnp.maximum(rounds * self.cores, 1.0), 1.0)

    def slots(
        self, operations: Any, elementwise: Any, matrices: Any, n_in: Any, n_out: Any, vectors: Any
    ) -> Float[Array, "..."]:
        """Operations of full arrays that take as long as this work.

        Args:
            operations: of products.
            elementwise: operations of vector work.
            matrices: how many there are of these sizes; 0: no product, or one whose shape does not matter.
            n_in, n_out, vectors: sizes of a product.
        """
        if self.arrays is not None:
            operations = jnp.maximum(operations, 2.0 * matrices * self.arrays.padded(n_in, n_out, vectors))
        if self.vector_operations_per_second is not None:
            elementwise = elementwise * (self.operations_per_second / self.vector_operations_per_second)
        return jnp.asarray(operations + elementwise)

    def time(
        self, operations: Any, moved_bytes: Any, heads: Any = 0.0
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Time (s) of computing, and the time beyond it for which the memory keeps it waiting."""
        share = self.occupancy(heads)
        compute = operations / (self.rate * share)
        return compute, jnp.maximum(moved_bytes / (self.bandwidth * share) - compute, 0.0)

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Any:
        """The matrix in the operands' format."""
        return self.arithmetic.hold(weights)

    def multiply(self, held: Any, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product in the processor's arithmetic."""
        return self.arithmetic.multiply(held, x)
