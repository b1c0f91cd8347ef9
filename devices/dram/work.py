"""Work for the banks, and the commands that it takes: counts over a device, cycles of its busiest channel."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.refresh import Refresh
from pim.devices.record import leaf, part, record

OPERATIONS = ("gemv", "score", "context")
"""A matrix of weights; keys, a row for each token, times a query; values, a row for each channel, times the scores."""

APPENDS = ("append_key", "append_value")
"""Writing new keys or values: `n_in` numbers each, `vectors` tokens, `copies` heads."""


class Work(NamedTuple):
    """Products of one shape. The sizes may be arrays that broadcast.

    Attributes:
        operation: one of `OPERATIONS`, or of `APPENDS`.
        n_in: inputs of a product (score: the head's size; context: tokens).
        n_out: outputs (score: tokens; context: the head's size).
        vectors: input vectors of each matrix, one after another.
        copies: matrices of that shape (heads).
    """

    operation: str
    n_in: Any
    n_out: Any
    vectors: Any = 1
    copies: Any = 1


@record
class Cycles:
    """Cycles of a channel, by what they are spent on; they add up."""

    broadcast: Float[Array, "*shape"] = leaf("1", "writing inputs into the units' buffers")
    activation: Float[Array, "*shape"] = leaf("1", "closing rows and opening others")
    mac: Float[Array, "*shape"] = leaf("1", "columns that are multiplied")
    mode: Float[Array, "*shape"] = leaf("1", "switching modes, barriers, turning the bus around, set-up")
    readout: Float[Array, "*shape"] = leaf("1", "reading results, presetting registers")
    refresh: Float[Array, "*shape"] = leaf("1", "refreshes")

    @property
    def total(self) -> Float[Array, "*shape"]:
        """All of them."""
        return self.broadcast + self.activation + self.mac + self.mode + self.readout + self.refresh


@record
class Commands:
    """What work makes a device do: counts over all its channels, and the cycles of the busiest."""

    activations: Float[Array, "*shape"] = leaf("1", "rows opened, each of one bank")
    columns: Float[Array, "*shape"] = leaf("1", "columns read and multiplied, each of one bank")
    macs: Float[Array, "*shape"] = leaf("1", "multiply-accumulates, those of padding and idle banks among them")
    bits_in: Float[Array, "*shape"] = leaf("1", "bits of inputs that come down to the buffers of the units")
    preset_bits: Float[Array, "*shape"] = leaf("1", "bits that are written into accumulators before a sum")
    bits_out: Float[Array, "*shape"] = leaf("1", "bits of results that the units give")
    pin_bits: Float[Array, "*shape"] = leaf("1", "bits of all these that cross the pins")
    refreshes: Float[Array, "*shape"] = leaf("1", "refreshes of a channel")
    cycles: Cycles = part("cycles of the busiest channel")

    def for_vectors(self, together: Any) -> "Commands":
        """The same commands for units that multiply what they read by so many vectors at a time, on average: in as
        many multipliers, from as many buffers, over wires of their own.
        """
        names = ("macs", "bits_in", "preset_bits", "bits_out", "pin_bits")
        return replace(self, **{name: getattr(self, name) * together for name in names})

    def refreshed(self, refresh: Refresh | None, channels: Any, *, alone: bool = True) -> "Commands":
        """The same with the refreshes that fall into it, in each channel; on average if it is not `alone`."""
        if refresh is None:
            return self
        count = refresh.count(self.cycles.total) if alone else refresh.average(self.cycles.total)
        return replace(self, refreshes=count * channels, cycles=replace(self.cycles, refresh=count * refresh.stall))


def ceil_div(a: Any, b: Any) -> Any:
    """The quotient of two positive whole numbers, rounded up; exact for int32."""
    return -(-a // b)


def whole(value: Any) -> Any:
    """A count as int32, so that quotients are exact; a mean that is none is rounded up."""
    value = jnp.asarray(value)
    return value if jnp.issubdtype(value.dtype, jnp.integer) else jnp.ceil(value).astype(jnp.int32)
