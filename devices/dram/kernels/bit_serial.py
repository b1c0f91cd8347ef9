"""Products bit by bit in the rows of a DRAM: an element a bit line, a bit a row, three rows opened at once to vote.

Every bit line of the subarrays that compute holds an element of the matrix and one of the vector, which are multiplied
by steps that open rows, all elements at once. Products are then summed over the bit lines of each output: by adder
trees beside the subarrays, or by more such steps, which shift half of the sums behind the others and add, level by
level.

Steps are those of SIMDRAM (Hajinazar et al., ASPLOS 2021, Table 1): 11 n^2 - 5 n - 1 for a product of n bits, 8 n + 1
for a sum; trees are those of TransPIM (Zhou et al., HPCA 2022).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.kernel import Memory
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work, whole
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record

OPENED = 2
"""Rows that a step opens one after the other, of a bank; that one of them is three rows at once is not counted."""


def product_steps(bits: Any) -> Any:
    """Steps of a product of two numbers of so many bits.

    >>> product_steps(8)
    663
    """
    return 11 * bits**2 - 5 * bits - 1


def sum_steps(bits: Any) -> Any:
    """Steps of a sum of two numbers of so many bits.

    >>> sum_steps(16)
    129
    """
    return 8 * bits + 1


@record
class BitSerialKernel:
    """Subarrays whose rows compute, and what adds up their products."""

    subarrays: Float[Array, ""] = leaf("1", "subarrays of a bank that compute at the same time", low=1)
    n_step: Float[Array, ""] = leaf("1", "cycles of a step: rows opened, others behind them, all closed", low=1)
    trees: Float[Array, ""] = leaf(
        "1", "adder trees beside a subarray, each a bit of so many products a column's time; 0: rows add", low=0,
        default=0.0,
    )  # fmt: skip
    tree_inputs: Float[Array, ""] = leaf("1", "products whose bits a tree takes at a time", low=2, default=256.0)

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of work; see `Kernel`."""
        banks, timing, bits = memory.banks, memory.timing, memory.bits
        sizes = jnp.broadcast_arrays(*(whole(value) for value in work[1:]))
        n_in, n_out, vectors, copies = (jnp.asarray(size, jnp.float32) for size in sizes)
        row = banks.row_bytes * 8  # bit lines of a subarray
        inside = self.subarrays * banks.banks  # subarrays of a channel
        turns = jnp.ceil(n_in * n_out * vectors * copies / (row * inside * banks.channels))
        n_ccd = jnp.maximum(timing.n_ccd_l, timing.n_bl)
        lines = banks.columns * bits * n_ccd  # a vector's bits into the rows of one subarray of each bank
        steps = turns * product_steps(bits)
        levels = jnp.ceil(jnp.log2(jnp.minimum(n_in, row)))
        treed = row * 2 * bits / (self.tree_inputs * jnp.maximum(self.trees, 1.0)) * n_ccd
        moved = levels * (2 * bits + levels / 2)  # rows shifted, a bit more each time
        summed = jnp.where(self.trees > 0, 0.0, turns * (moved + levels * sum_steps(2 * bits + levels / 2)))
        everywhere = inside * banks.channels
        results = n_out * vectors * copies * 2 * bits
        nothing = jnp.zeros_like(turns)
        return Commands(
            activations=(steps + summed) * OPENED * everywhere,
            columns=turns * banks.columns * 2 * bits * everywhere * (self.trees > 0),
            macs=n_in * n_out * vectors * copies,
            bits_in=turns * bits * row * everywhere,
            preset_bits=nothing,
            bits_out=results,
            pin_bits=n_in * vectors * copies * bits + results,
            refreshes=nothing,
            cycles=Cycles(
                broadcast=turns * self.subarrays * lines,
                activation=nothing,
                mac=steps * self.n_step,
                mode=nothing,
                readout=summed * self.n_step + turns * treed * (self.trees > 0),
                refresh=nothing,
            ),
        )

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """Nothing: its steps open rows that hold no data words, in an order that is not told; see `Kernel`."""
        raise DeviceError(
            "a product bit by bit in the rows is a number of steps, and no schedule of DRAM commands: ask for its cost "
            "alone, whose ledger has it"
        )
