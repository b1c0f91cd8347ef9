"""Near-flash processing: a compute core on each die of a NAND flash, channels, and the processor that reads the rest.

A round: every die reads a page, for which each channel takes its share of the inputs first; the core multiplies a page
while the next is read, and partial sums go back (Yu et al., Cambricon-LLM, MICRO 2024: read-compute requests). What a
round leaves of a channel's time reads further pages out of other planes, which the processor multiplies itself
(sliced reads). Weights are split so that both end together.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.arithmetic import Arithmetic, arithmetic_part, operand_bits
from pim.devices.errors import DeviceError
from pim.devices.holder import KeyFor
from pim.devices.page_errors import PageErrors
from pim.devices.record import leaf, part, record, static


class Reads(NamedTuple):
    """What products with a matrix in the pages take."""

    rounds: Float[Array, "..."]
    """In which all dies read a page."""
    die_pages: Float[Array, "..."]
    """Pages that cores multiply."""
    host_pages: Float[Array, "..."]
    """Pages that the processor reads."""
    bytes_in: Float[Array, "..."]
    """Bytes of inputs over all channels."""
    bytes_out: Float[Array, "..."]
    """Bytes of partial sums over all channels."""
    time: Float[Array, "..."]
    """Time (s), from the inputs to the last sum."""


@record
class NearFlash:
    """A flash whose dies multiply what their pages hold, and the processor behind its channels.

    Example:
        >>> flash = pim.preset("flash-cambricon-l").model
        >>> flash.reads(4096, 11008).time, flash.rate
    """

    channels: Float[Array, ""] = leaf("1", "channels", low=1)
    dies: Float[Array, ""] = leaf("1", "dies of a channel, each with a compute core", low=1)
    planes: Float[Array, ""] = leaf("1", "planes of a die, one of which its core reads from at a time", low=1)
    page_bytes: int = static("bytes of a page", low=1)
    page_inputs: int = static("inputs of the weights in a page; the rest of it are outputs", low=1)
    read_time: Float[Array, ""] = leaf("s", "from the cells of a page to its register (tR)", low=0)
    channel_rate: Float[Array, ""] = leaf("1/s", "bytes a second over a channel", low=1)
    bytes_per_input: Float[Array, ""] = leaf("1", "bytes of an input on a channel", low=0.125)
    bytes_per_sum: Float[Array, ""] = leaf("1", "bytes of a partial sum on a channel", low=0.125)
    arithmetic: Arithmetic = arithmetic_part()
    split: str = static(
        "where pages are multiplied",
        choices=("shared", "dies", "processor"),
        meanings={
            "shared": "in the dies and, as many as the channels have time for, in the processor",
            "dies": "all in the dies",
            "processor": "all in the processor: a flash without cores",
        },
        default="shared",
    )
    core_rate: Float[Array, ""] | None = leaf(
        "1/s", "multiply-accumulates a second of a core; absent: it takes no time", low=1, default=None
    )
    processor_rate: Float[Array, ""] | None = leaf(
        "1/s", "multiply-accumulates a second of the processor; absent: it takes no time", low=1, default=None
    )
    page_energy: Float[Array, ""] | None = leaf("J", "energy of reading a page; absent: unknown", low=0, default=None)
    channel_energy: Float[Array, ""] | None = leaf(
        "J", "energy of a bit over a channel; absent: unknown", low=0, default=None
    )
    mac_energy: Float[Array, ""] | None = leaf(
        "J", "energy of a multiply-accumulate, in a core or the processor; absent: unknown", low=0, default=None
    )
    program_time: Float[Array, ""] | None = leaf(
        "s", "from the register of a page to its cells (tPROG); absent: unknown", low=0, default=None
    )
    program_energy: Float[Array, ""] | None = leaf(
        "J", "energy of programming a page; absent: unknown", low=0, default=None
    )
    pages: Float[Array, ""] | None = leaf("1", "pages of a plane; absent: as many as it takes", low=1, default=None)
    area: Float[Array, ""] | None = leaf("m^2", "area of all dies; absent: unknown", low=0, default=None)
    errors: PageErrors | None = part("bits that are read wrong, and protection; absent: none is", default=None)

    @property
    def levels(self) -> float:
        """States of what a page stores: bits."""
        return 2.0

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return operand_bits(self.arithmetic)

    @property
    def bytes_per_operand(self) -> float:
        """Bytes of a weight."""
        return self.bits / 8

    @property
    def page_shape(self) -> tuple[int, int]:
        """Inputs and outputs of the weights of a page."""
        return self.page_inputs, self.page_bytes * 8 // self.bits // self.page_inputs

    @property
    def memory_bytes(self) -> Any:
        """Bytes of all pages; None where they are not counted."""
        if self.pages is None:
            return None
        return self.channels * self.dies * self.planes * self.pages * self.page_bytes

    @property
    def rate(self) -> Float[Array, ""]:
        """Bytes a second that dies and processor get through, many pages ahead of them, a vector at a time."""
        time = self.round_time(1.0)
        dies = 0.0 if self.split == "processor" else self.channels * self.dies / time
        beside = self.channels * self.pages_beside(1.0) / time
        alone = self.channels / self.page_time(1.0)
        return self.page_bytes * {"shared": dies + beside, "dies": dies, "processor": alone}[self.split]

    def prepare(self) -> "NearFlash":
        """The device itself, if its pages hold whole rectangles of weights; else DeviceError."""
        weights, inputs = self.page_bytes * 8 // self.bits, self.page_inputs
        if weights % inputs:
            raise DeviceError(
                f"page_inputs = {inputs} does not divide the {weights} weights of a page: take a power of two"
            )
        if not isinstance(self.planes, Tracer) and self.split == "shared" and float(self.planes) < 2:
            raise DeviceError("planes = 1 leaves no plane to read beside that of the core: take 2, or split = 'dies'")
        return self

    # Time -----------------------------------------------------------------------------------------------------------

    def round_time(self, vectors: Any) -> Float[Array, "..."]:
        """Time (s) of a round: inputs in, then a page is read while the one before is multiplied.

        The channel's own time is the floor: inputs, and the sums of all its dies.
        """
        into, out = self._into(vectors), self._out(vectors)
        return jnp.maximum(into + jnp.maximum(self.read_time, self._core(vectors)), into + out)

    def pages_beside(self, vectors: Any) -> Float[Array, "..."]:
        """Pages a round that a channel reads in its free time for the processor, as planes and processor keep up."""
        time = self.round_time(vectors)
        free = jnp.maximum(time - self._into(vectors) - self._out(vectors), 0.0)
        planes = (self.planes - 1) * self.dies * time / jnp.maximum(self.read_time, TINY)
        return jnp.minimum(
            jnp.minimum(free * self.channel_rate / self.page_bytes, planes), time / self._digest(vectors)
        )

    def page_time(self, vectors: Any) -> Float[Array, "..."]:
        """Time (s) between two pages of a channel that does nothing but read for the processor."""
        planes = self.read_time / (self.planes * self.dies)
        return jnp.maximum(jnp.maximum(self.page_bytes / self.channel_rate, planes), self._digest(vectors))

    def drain(self, vectors: Any) -> Float[Array, "..."]:
        """Time (s) from the last page in the registers to the last sum at the processor."""
        return self._core(vectors) + self._out(vectors)

    def _into(self, vectors: Any) -> Any:
        return vectors * self.page_shape[0] * self.bytes_per_input / self.channel_rate

    def _out(self, vectors: Any) -> Any:
        return vectors * self.page_shape[1] * self.dies * self.bytes_per_sum / self.channel_rate

    def _core(self, vectors: Any) -> Any:
        inputs, outputs = self.page_shape
        return jnp.zeros_like(vectors) if self.core_rate is None else vectors * inputs * outputs / self.core_rate

    def _digest(self, vectors: Any) -> Any:
        """Time (s) that the processor takes for a page of each channel."""
        inputs, outputs = self.page_shape
        macs = vectors * inputs * outputs * self.channels
        return TINY * jnp.ones_like(macs) if self.processor_rate is None else macs / self.processor_rate

    def pages_of(self, n_in: Any, n_out: Any) -> Any:
        """Pages that a matrix takes."""
        inputs, outputs = self.page_shape
        return jnp.ceil(n_in / inputs) * jnp.ceil(n_out / outputs)

    def filling_time(self, pages: Any) -> Any:
        """Time (s) in which so many pages are written, all planes side by side, as fast as the channels bring them.

        NaN where the time of programming is unknown.
        """
        program = UNKNOWN if self.program_time is None else self.program_time
        brought = pages / self.channels * self.page_bytes / self.channel_rate
        return program + jnp.maximum(brought, pages * program / (self.channels * self.dies * self.planes))

    def reads(self, n_in: Any, n_out: Any, vectors: Any = 1) -> Reads:
        """What vectors take that are multiplied by a matrix.

        Of n rounds, with what the processor reads beside them and, where pages are left, behind them, the n that ends
        first is found: about as many as there are pages for at that pace, or none. Slices are as small as it takes.

        Args:
            n_in: inputs; may be an array, as may the others.
            n_out: outputs.
            vectors: input vectors, for which each page is read once.
        """
        n_in, n_out, vectors = jnp.broadcast_arrays(*(jnp.asarray(v, jnp.float32) for v in (n_in, n_out, vectors)))
        (inputs, outputs), pages = self.page_shape, self.pages_of(n_in, n_out)
        at_once, beside = self.channels * self.dies, self.channels * self.pages_beside(vectors)
        if self.split == "processor":
            rounds = jnp.zeros_like(pages)
        elif self.split == "dies":
            rounds = jnp.ceil(pages / at_once)
        else:
            # what channels miss until a page is in its register
            first = beside * self.read_time / self.round_time(vectors)
            most = jnp.floor((pages + first) / (at_once + beside))
            tried = jnp.stack([most, most + 1, jnp.zeros_like(most)])
            best = jnp.argmin(self._ending(tried, pages[None], vectors[None]), axis=0)
            rounds = jnp.take_along_axis(tried, best[None], axis=0)[0]
        in_dies = jnp.minimum(rounds * at_once, pages)
        return Reads(
            rounds,
            in_dies,
            pages - in_dies,
            rounds * self.channels * vectors * inputs * self.bytes_per_input,
            in_dies * vectors * outputs * self.bytes_per_sum,
            self._ending(rounds, pages, vectors),
        )

    def _ending(self, rounds: Any, pages: Any, vectors: Any) -> Any:
        """When the last sum is there after so many rounds (s).

        Pages for the processor are over when the slowest of three has got through them: planes beside those of the
        cores, batch by batch, the last of which is then sent; channels, from the first page in a register, in what
        rounds leave of their time; the processor, from then too.
        """
        round_time, taken = self.round_time(vectors), rounds * self.round_time(vectors)
        mine = jnp.maximum(pages / self.channels - rounds * self.dies, 0.0)
        free = jnp.maximum(1 - (self._into(vectors) + self._out(vectors)) / round_time, 0.0)
        first, page = jnp.where(mine > 0, self.read_time, 0.0), self.page_bytes / self.channel_rate
        unsent = jnp.maximum(mine - jnp.maximum(taken - first, 0.0) * free / page, 0.0)
        side_by_side = self.dies * jnp.where(rounds > 0, jnp.maximum(self.planes - 1, TINY), self.planes)
        batches = jnp.ceil(mine / side_by_side)
        over = [
            jnp.maximum(taken, first) + unsent * page,
            batches * self.read_time + (mine - jnp.maximum(batches - 1, 0.0) * side_by_side) * page,
            first + mine * self._digest(vectors),
        ]
        drained = taken + jnp.where(rounds > 0, self.drain(vectors), 0.0)
        return jnp.maximum(jnp.maximum(over[0], over[1]), jnp.maximum(over[2], drained))

    # Values ---------------------------------------------------------------------------------------------------------

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Any:
        """The matrix in the operands' format; with a chip's key, as its pages are read, errors and all.

        The processor gets its pages by the same reads and the same code.
        """
        law = self.errors
        if law is None or key_for is None:
            return self.arithmetic.hold(weights)
        key = key_for("bits")
        return self.arithmetic.hold(weights, lambda words, name: law.flip(words, name, key, self.page_shape))

    def multiply(self, held: Any, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product in the cores' arithmetic."""
        return self.arithmetic.multiply(held, x)


TINY = 1e-30
"""A time (s) that counts as none."""
UNKNOWN = float("nan")


def best_page_inputs(dies: int, weights: int) -> int:
    """Inputs of a page with the least traffic: inputs and sums alike, to the nearest power of two.

    With d dies a channel and pages of w weights a channel moves i + d w/i numbers a round, least at i = sqrt(d w)
    (Cambricon-LLM, section V).

    >>> best_page_inputs(16, 16384)
    512
    """
    return 2 ** round(math.log2(dies * weights) / 2)
