"""Products by small processors, one beside each bank, that count instructions: UPMEM.

A product there is bound by instructions, not by the DRAM: a DMA engine copies blocks of the bank into a scratchpad
while other threads of the pipeline compute. The longer of the two counts.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.kernel import Memory
from pim.devices.dram.layout import shared
from pim.devices.dram.refresh import Refresh
from pim.devices.dram.schedules.schedule import Schedule
from pim.devices.dram.work import Commands, Cycles, Work, ceil_div, whole
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record


@record
class ProcessorKernel:
    """A multithreaded in-order processor to each channel of the organisation."""

    clock: Float[Array, ""] = leaf("1/s", "cycles of a processor in a second", low=1)
    threads: Float[Array, ""] = leaf("1", "threads that run", low=1)
    issue_interval: Float[Array, ""] = leaf("1", "cycles between two instructions of one thread", low=1)
    instructions_per_mac: Float[Array, ""] = leaf("1", "instructions of a multiply-accumulate, loads included", low=0)
    instructions_per_output: Float[Array, ""] = leaf("1", "instructions of an output beside them", low=0)
    dma_setup: Float[Array, ""] = leaf("1", "cycles that a transfer takes to start", low=0)
    dma_per_byte: Float[Array, ""] = leaf("1", "cycles that a byte of it takes", low=0)
    dma_bytes: Float[Array, ""] = leaf("1", "bytes of a transfer", low=1)

    def commands(self, memory: Memory, work: Work) -> Commands:
        """The commands of work; see `Kernel`."""
        banks = memory.banks
        n_in, n_out, vectors, copies = (whole(value) for value in work[1:])
        share, rounds = shared(banks.channels, copies)
        per = ceil_div(n_out, share)
        sizes = jnp.broadcast_arrays(n_in, per, ceil_div(n_out, per) * copies, rounds, vectors)
        n_in, per, used, rounds, vectors = (jnp.asarray(value, jnp.float32) for value in sizes)
        macs, stored = per * n_in, per * n_in * memory.bits / 8
        transfers = jnp.ceil(stored / self.dma_bytes)
        rate = jnp.minimum(self.threads / self.issue_interval, 1.0)  # instructions a cycle
        compute = (macs * self.instructions_per_mac + per * self.instructions_per_output) / rate
        copying = transfers * self.dma_setup + stored * self.dma_per_byte
        to_dram_clock = 1.0 / (self.clock * memory.timing.t_ck)
        turns = rounds * vectors * to_dram_clock
        nothing, times = jnp.zeros_like(macs), used * vectors
        bits_in, bits_out = times * n_in * memory.bits, times * per * 32
        return Commands(
            activations=times * jnp.ceil(stored / banks.row_bytes),
            columns=times * jnp.ceil(stored / banks.column_bytes),
            macs=times * macs,
            bits_in=bits_in,
            preset_bits=nothing,
            bits_out=bits_out,
            pin_bits=bits_in + bits_out,
            refreshes=nothing,
            cycles=Cycles(
                broadcast=nothing,
                activation=turns * jnp.maximum(copying - compute, 0.0),
                mac=turns * compute,
                mode=nothing,
                readout=nothing,
                refresh=nothing,
            ),
        )

    def schedule(self, memory: Memory, work: Work, refresh: Refresh | None) -> Schedule:
        """Nothing: a processor runs instructions, and its threads decide when the bank is read; see `Kernel`."""
        raise DeviceError(
            "a product by processors at the banks is a number of instructions, and no schedule of DRAM commands: ask "
            "for its cost alone, whose ledger has it"
        )
