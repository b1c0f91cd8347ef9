"""Attention as CENT lays it out on GDDR6-AiM (Gu et al., PIM Is All You Need, ASPLOS 2025).

A token's key lies in one bank with all its heads side by side, as many to a row as fit; tokens go round over the banks
of all channels. Each query head goes through the keys anew: its part of the query is in the buffer, its columns of the
row are multiplied, its result is read. Rows stay open over the queries that share a key.

Scores do not stay at the banks. For softmax they are scaled and later divided by their sum, each time as a product of
two banks: scores and a factor, repeated for each, are written line by line, the products read back. Exponentials and
sums are taken outside (`accelerators`) and not counted here. Values of a head lie in one channel, their numbers across
its banks, tokens along the rows; every query head goes through them anew, each opening a row for each of its outputs.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.kernel import Memory
from pim.devices.dram.kernels.accelerators import Accelerators
from pim.devices.dram.kernels.all_bank import AllBankKernel
from pim.devices.dram.kernels.bank_vectors import BankVectors
from pim.devices.dram.kernels.front_end import FrontEnd
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work, ceil_div, whole
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record


@record
class CentAttention:
    """Keys over all banks, a head of values to a channel, and softmax through plain lines.

    Example:
        >>> device = pim.preset("dram-aim-cent")
        >>> pim.cost(device, (128, 4096), operation="score", copies=32).latency
    """

    vectors: BankVectors = part("work element by element at the banks")
    front: FrontEnd = part("what hands plain reads and writes to the channels")
    passes: Float[Array, ""] = leaf(
        "1", "products with a factor that softmax takes of scores: their scale, their sum's inverse; 0: done elsewhere",
        low=0,
    )  # fmt: skip
    lines_in: Float[Array, ""] = leaf("1", "lines written for each column of scores and pass: scores, factor", low=0)
    lines_out: Float[Array, ""] = leaf("1", "lines read for each column of scores and pass: products", low=0)
    accelerators: Accelerators | None = part(
        "units beside the memory for exponentials, roots and positions; absent: not counted", default=None
    )

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of scores, the traffic of their softmax included, or of contexts; see `Kernel`."""
        if work.operation == "context":
            return self.context(memory, work)
        return jax.tree.map(jnp.add, self.score(memory, work), self.softmax(memory, work))

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """Nothing: lines of all channels pass one front end, and no channel has a schedule of its own; see `Kernel`."""
        raise DeviceError(
            "attention as CENT lays it out has no schedule: its scores pass the front end that all channels share. "
            'Take the attention of pim.preset("dram-aim"), which stays in the banks'
        )

    def score(self, memory: Memory, work: Work, devices: Any = 1) -> Commands:
        """The commands of scores without their softmax, keys spread over so many devices."""
        banks, timing, kernel = memory.banks, memory.timing, units_of(memory)
        sizes = jnp.broadcast_arrays(*(whole(size) for size in work[1:]))
        dim, tokens, queries, keys = sizes
        lanes, columns = whole(banks.column_bytes * 8 / memory.bits), whole(banks.columns)
        units = whole(banks.banks)
        each = ceil_div(dim, lanes)  # columns of a head
        packed = jnp.maximum(columns // each, 1)
        rows = ceil_div(keys, packed) * ceil_div(each, columns)
        rounds = ceil_div(tokens, units * whole(banks.channels) * devices)
        filled = ceil_div(tokens, units)  # channels that have any tokens, over all rounds
        sizes = (rows, rounds, filled, each, queries * keys)
        rows, rounds, filled, each, heads = (jnp.asarray(size, jnp.float32) for size in sizes)
        multiplied = filled * heads * each
        results = filled * heads * banks.banks * memory.bits
        bits_in = multiplied * banks.column_bytes * 8
        nothing = jnp.zeros_like(rows)
        return Commands(
            activations=filled * rows * banks.banks,
            columns=multiplied * banks.banks,
            macs=multiplied * banks.banks * banks.column_bytes * 8 / memory.bits,
            bits_in=bits_in,
            preset_bits=results * (kernel.n_preset > 0),
            bits_out=results,
            pin_bits=bits_in + results * (1 + (kernel.n_preset > 0)),
            refreshes=nothing,
            cycles=Cycles(
                broadcast=rounds * heads * each * kernel.n_buffer,
                activation=rounds * rows * (timing.n_rp + timing.opened(banks.banks)),
                mac=rounds * heads * each * timing.n_column(memory.level),
                mode=rounds * heads * reading(kernel) + kernel.n_mode,
                readout=nothing,
                refresh=nothing,
            ),
        )

    def softmax(self, memory: Memory, work: Work) -> Commands:
        """The commands of what softmax does to scores at the banks, and of moving them there and back."""
        banks, timing = memory.banks, memory.timing
        _, tokens, queries, keys = jnp.broadcast_arrays(*(whole(size) for size in work[1:]))
        columns = ceil_div(tokens, whole(banks.column_bytes * 8 / memory.bits))
        rows = ceil_div(columns, whole(banks.columns))
        groups = whole(banks.channels) * whole(banks.banks / self.vectors.group_banks)
        per = ceil_div(queries * keys, groups)  # heads whose scores lie in the same group of banks
        sizes = (columns, rows, per, queries * keys)
        columns, rows, per, heads = (jnp.asarray(size, jnp.float32) for size in sizes)
        written, read = (self.passes * lines * heads * columns for lines in (self.lines_in, self.lines_out))
        products = self.passes * per * columns  # in every group of banks, whether it holds scores or not
        nothing, bits = jnp.zeros_like(columns), (written + read) * banks.column_bytes * 8
        everywhere = banks.channels * banks.banks
        return Commands(
            activations=self.passes * rows * (per * everywhere + self.lines_in * heads),
            columns=3 * products * everywhere / self.vectors.group_banks + written + read,  # two read, one written
            macs=products * everywhere / self.vectors.group_banks * banks.column_bytes * 8 / memory.bits,
            bits_in=bits,  # both ways: they pass the same rungs
            preset_bits=nothing,
            bits_out=nothing,
            pin_bits=bits,
            refreshes=nothing,
            cycles=Cycles(
                broadcast=self.front.spread(banks, written),
                activation=self.passes * per * rows * self.vectors.row(timing),
                mac=products * timing.n_column(memory.level),
                mode=nothing,
                readout=self.front.spread(banks, read),
                refresh=nothing,
            ),
        )

    def context(self, memory: Memory, work: Work) -> Commands:
        """The commands of contexts: a product with a matrix in one channel, whose results are read one by one."""
        kernel, banks = replace(units_of(memory), registers=jnp.ones(())), memory.banks
        used = jnp.minimum(banks.channels, jnp.asarray(whole(work.copies), jnp.float32))  # others are idle
        on_them = memory._replace(banks=replace(banks, channels=used))
        commands = kernel.commands(on_them, work)
        cycles = commands.cycles  # rows are open when it begins
        return replace(commands, cycles=replace(cycles, activation=cycles.activation + memory.timing.n_rp))


def units_of(memory: Memory) -> AllBankKernel:
    """The units that attention shares with products by weights.

    Raises DeviceError if those are run in another way.
    """
    if not isinstance(memory.kernel, AllBankKernel):
        raise DeviceError(
            f"CentAttention runs on the units of an AllBankKernel, but kernel is a {type(memory.kernel).__name__}: "
            "take an AllBankKernel, or another kernel for attention"
        )
    return memory.kernel


def reading(kernel: AllBankKernel) -> Float[Array, ""]:
    """Cycles beyond a slot from the last column of a sum to the first of the next, the sum read between them."""
    return jnp.where(kernel.n_mode > 0, 2 * kernel.n_mode + kernel.n_turn + 1, 1.0)
