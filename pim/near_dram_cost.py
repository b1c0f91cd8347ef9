"""What work at the banks of a DRAM costs: the commands that it takes, each with its energy and its cycles.

Cycles are those of the busiest channel, energies those of all. Padding is paid for: whole columns, banks that hold
nothing but are opened with the others. Matrices of weights lie in the rows for good: writing them is not counted.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.dram.energy import UNKNOWN, CommandEnergy, known
from pim.devices.dram.work import Commands, Work
from pim.devices.near_dram import NearDram
from pim.devices.record import cast
from pim.ledger import Ledger, join, ledger_of


@partial(jax.jit, static_argnames=("operation", "alone"))
def work_cost(
    device: NearDram,
    n_in: Any,
    n_out: Any,
    vectors: Any = 1,
    copies: Any = 1,
    *,
    operation: str = "gemv",
    alone: bool = True,
) -> Ledger:
    """The ledger of products at the banks, without what the device costs by being there; see `standing`.

    Args:
        device: the device.
        n_in: inputs of a product; may be an array, as may all below.
        n_out: outputs.
        vectors: input vectors of each matrix.
        copies: matrices of that shape: heads.
        operation: see `Work`.
        alone: whether nothing comes before or after: whole refreshes are counted then, else their average.
    """
    commands = device.commands(Work(operation, n_in, n_out, vectors, copies), alone=alone)
    return commands_cost(device, commands)


def commands_cost(device: NearDram, commands: Commands) -> Ledger:
    """The ledger of commands."""
    energy = cast(CommandEnergy()) if device.energy is None else device.energy
    cycles, t_ck = commands.cycles, device.timing.t_ck
    below, above = energy.below(device.level), energy.above(device.level)
    column = known(energy.cell) + below
    inside = commands.bits_in * above + commands.preset_bits * (above + known(energy.register_write))
    refreshing = commands.refreshes * known(energy.refresh)
    return ledger_of(
        [
            ("activation", commands.activations * known(energy.activation), cycles.activation * t_ck, 0.0),
            ("cell", commands.columns * device.banks.column_bytes * 8 * column, 0.0, 0.0),
            ("mac", commands.macs * known(energy.mac), cycles.mac * t_ck, 0.0),
            ("broadcast", inside, cycles.broadcast * t_ck, 0.0),
            ("readout", commands.bits_out * (above + known(energy.register_read)), cycles.readout * t_ck, 0.0),
            ("mode", 0.0, cycles.mode * t_ck, 0.0),
            ("io", commands.pin_bits * known(energy.pins), 0.0, 0.0),
            ("refresh", jnp.where(commands.refreshes == 0, 0.0, refreshing), cycles.refresh * t_ck, 0.0),
        ]
    )


def standing(device: NearDram, latency: Any) -> Ledger:
    """What a device costs by being there for a time (s): its area, and its power at rest."""
    power = device.banks.channels * (UNKNOWN if device.energy is None else known(device.energy.standby))
    area = UNKNOWN if device.area is None else device.area
    return ledger_of([("static", power * latency, 0.0, 0.0), ("dies", 0.0, 0.0, area)])


def matrix_cost(
    device: NearDram, n_in: Any, n_out: Any, vectors: Any = 1, copies: Any = 1, operation: str = "gemv"
) -> Ledger:
    """The whole ledger of products with nothing else going on."""
    work = work_cost(device, n_in, n_out, vectors, copies, operation=operation)
    return join([work, standing(device, work.latency.sum(axis=0))])


def stream_time(device: NearDram, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """Time (s) in which a matrix comes out over the pins of all channels, one burst after another: without PIM."""
    banks, timing = device.banks, device.timing
    bits = jnp.asarray(n_in, jnp.float32) * n_out * device.memory.bits
    cycles = jnp.ceil(bits / (8 * banks.column_bytes * banks.channels)) * timing.n_ccd_s
    stalls = 0.0 if device.refresh is None else device.refresh.count(cycles) * device.refresh.stall
    return (cycles + stalls) * timing.t_ck


def internal_bound(device: NearDram, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """The least time (s) for reading a matrix: all units of all channels at their pace, with no padding or overhead."""
    banks = device.banks
    bits = jnp.asarray(n_in, jnp.float32) * n_out * device.memory.bits
    rate = 8 * banks.column_bytes * banks.channels * banks.banks / banks.banks_per_unit
    return bits / rate * device.timing.n_column(device.level) * device.timing.t_ck


def notes(
    device: NearDram, n_in: Any, n_out: Any, vectors: Any = 1, copies: Any = 1, operation: str = "gemv"
) -> tuple[str, ...]:
    """What a cost assumes and leaves out."""
    return (UNCOUNTED,)


def plan_notes(device: NearDram, products: Any) -> tuple[str, ...]:
    """The same for the operators of a plan."""
    return (UNCOUNTED,)


UNCOUNTED = "the host's own work, adding up partial sums, is not counted"
