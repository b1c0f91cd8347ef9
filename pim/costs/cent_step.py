"""The time of a token where CXL devices share every matrix of a block, as CENT maps it (Gu et al., ASPLOS 2025).

Matrices and keys are split over the devices; norms, softmax and values stay on one (`pim.cent_block`), so that most of
a block does not get faster. Inputs of each product go to all devices at once through the switch, its outputs come back
from one device after another: five vectors of the model's width and the gate's each way (its artifact, cxl_latency.py).
What a mapper does that deals out heads and adds up in rings is `pim.cost` of a system with a link among its copies.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.cent_block import block_time
from pim.costs.bank_vectors_cost import time_beside
from pim.costs.near_dram_cost import work_cost
from pim.devices.device import Device
from pim.devices.near_dram import NearDram
from pim.devices.record import fields_of, leaf, record
from pim.llm_workloads.config import ModelConfig


@record
class Fabric:
    """Devices behind a CXL switch: each has a few lanes to it, over which vectors go in flits.

    Where nothing is said, CENT's with 32 devices (its artifact, cxl_latency.py): 4 of 144 lanes of PCIe 5 each, of
    which half is left where the switch copies; a port of 25 ns four times, a lane of 30 ns twice, a switch of 20 ns;
    three messages of 64 bytes in a flit of 256.
    """

    bytes_per_second: Float[Array, ""] = leaf("1/s", "of the lanes of one device", low=1, default=16 * 2.0**30)
    latency: Float[Array, ""] = leaf("s", "through the switch and back", low=0, default=180e-9)
    flit: Float[Array, ""] = leaf("1", "bytes of a flit", low=1, default=256.0)
    payload: Float[Array, ""] = leaf("1", "bytes of a vector in a flit", low=1, default=192.0)

    def spread(self, amount: Any) -> Float[Array, "..."]:
        """Time (s) in which so many bytes of one device are on all others: the switch copies them."""
        return self.latency + self._flits(amount) * self.flit / self.bytes_per_second

    def gather(self, amount: Any, devices: Any) -> Float[Array, "..."]:
        """Time (s) in which one device has so many bytes, an equal part of them from each."""
        flits = (devices - 1) * self._flits(amount / devices)
        return self.latency + flits * self.flit / self.bytes_per_second

    def _flits(self, amount: Any) -> Float[Array, "..."]:
        return jnp.ceil(jnp.asarray(amount, jnp.float32) / self.payload)


CENT_FABRIC = Fabric()


@record
class StepTime:
    """Times (s) of a token over all blocks; they add up."""

    banks: Float[Array, "*shape"] = leaf("s", "at the banks")
    beside: Float[Array, "*shape"] = leaf("s", "exponentials, roots, sums and positions beside them")
    links: Float[Array, "*shape"] = leaf("s", "vectors to and from the devices")
    head: Float[Array, "*shape"] = leaf("s", "the output matrix")

    @property
    def total(self) -> Float[Array, "*shape"]:
        """Time (s) of the whole token."""
        return sum((getattr(self, name) for name in fields_of(self)), jnp.zeros(()))


def step_time(
    device: Device | NearDram, config: ModelConfig, context: Any, *, devices: int, fabric: Fabric = CENT_FABRIC
) -> StepTime:
    """The time between two tokens of one sequence on devices that share every block; choosing a token is left out.

    Args:
        device: one of them, such as the preset "dram-aim-cent".
        config: shapes of the model.
        context: tokens that the new one attends to, itself among them; may be an array.
        devices: how many they are.
        fabric: what connects them.

    Raises:
        StudyError: as `block_time`.

    Example:
        >>> step_time(pim.preset("dram-aim-cent"), known_shape("llama-2-70b"), 512, devices=32).total  # 6.0 ms
    """
    model = device.model if isinstance(device, Device) else device
    banks = block_time(device, config, context, tensor_parallel=devices).total
    blocks, context = config.num_hidden_layers, jnp.asarray(context)
    beside = lambda kind: time_beside(model, config, kind, context)
    links = _vectors(fabric, model.memory.bits / 8, config, devices)
    head = work_cost(model, config.hidden_size, -(-config.vocab_size // devices), alone=False).latency.sum()
    return StepTime(
        banks=blocks * banks,
        beside=blocks * (2 * beside("norm") + beside("rope") + beside("softmax")),
        links=jnp.broadcast_to(blocks * links, banks.shape),
        head=jnp.broadcast_to(head, banks.shape),
    )


def _vectors(fabric: Fabric, number: Any, config: ModelConfig, devices: int) -> Float[Array, ""]:
    """Time (s) of a block's vectors over the links: inputs spread, outputs gathered."""
    width, inner = config.hidden_size * number, config.intermediate_size * number
    each = fabric.spread(width) + fabric.gather(width, devices)
    return 5 * each + fabric.spread(inner) + fabric.gather(inner, devices)
