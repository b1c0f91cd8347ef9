"""What work at the banks of a DRAM costs: the commands that it takes, each with its energy and its cycles.

Cycles are those of the busiest channel, energies those of all. Padding is paid for: whole columns, banks that hold
nothing but are opened with the others. Matrices of weights lie in the rows for good: for writing them
see `pim.loading`.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pim.channel_hint import channel_hint
from pim.costs.ledger import Cost, Ledger, join, kind, ledger_of
from pim.devices.arithmetic import operand_bits
from pim.devices.dram.energy import UNKNOWN, CommandEnergy, known
from pim.devices.dram.work import Commands, Cycles, Work
from pim.devices.near_dram import NearDram
from pim.devices.record import fields_of
from pim.llm_workloads.operators import Product
from pim.units import no_room


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
    energy = NOTHING_KNOWN if device.energy is None else device.energy
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


def columns_only(device: NearDram) -> tuple[Cost, Any]:
    """The cost of columns that all units multiply without a break, and the operations in it: the internal peak.

    Rows are opened behind the columns' back; vectors come, results go and refreshes fall due at no cost.
    """
    ledger, macs = _columns(device)
    return Cost(ledger, (COLUMNS, *_unknown(device))), 2.0 * macs


@jax.jit
def _columns(device: NearDram) -> tuple[Ledger, Any]:
    banks, values = device.banks, 8 / operand_bits(device.arithmetic)
    work = Work("gemv", FILLING * banks.row_bytes * values, FILLING * banks.channels * banks.banks)
    commands = device.kernel.commands(device.memory, work)
    nothing = jnp.zeros_like(commands.cycles.mac)
    cycles = Cycles(nothing, nothing, commands.cycles.mac, nothing, nothing, nothing)
    ledger = commands_cost(device, replace(commands, cycles=cycles))
    for component in ("broadcast", "readout", "mode", "io", "refresh"):
        ledger = ledger.without(component)
    return join([ledger, standing(device, ledger.latency.sum(axis=0))]).named("columns"), commands.macs


def notes(
    device: NearDram, n_in: Any, n_out: Any, vectors: Any = 1, copies: Any = 1, operation: str = "gemv"
) -> tuple[str, ...]:
    """What a cost assumes and leaves out and, of a single shape, whether it wastes the banks."""
    sizes = (n_in, n_out, vectors, copies)
    if any(isinstance(value, Tracer) for value in jax.tree.leaves((device, sizes))):
        return (UNCOUNTED,)
    told = [UNCOUNTED, *_unknown(device), *_too_big(device, np.asarray(n_in, np.float64) * n_out * copies)]
    if not any(map(np.ndim, sizes)):
        hint = channel_hint(device, int(n_in), int(n_out), int(vectors), int(copies), operation)
        told += [] if hint is None else [hint]
    return tuple(told)


def plan_notes(device: NearDram, products: Iterable[Product], held: Any) -> tuple[str, ...]:
    """The same for the operators of a plan, one of each kind, that hold so many values in all."""
    if any(isinstance(value, Tracer) for value in jax.tree.leaves(device)):
        return (UNCOUNTED,)
    told = [UNCOUNTED, *_unknown(device), *_too_big(device, held)]
    for product in products:
        if not product.dynamic:
            n_in, n_out, vectors = (int(np.max(size)) for size in (product.n_in, product.n_out, product.vectors))
            hint = channel_hint(device, n_in, n_out, vectors)
            told += [] if hint is None else [f"{kind(product.path)}: {hint}"]
    return tuple(told)


def _unknown(device: NearDram) -> list[str]:
    """Which figures of a device nobody knows."""
    fields = {} if device.energy is None else vars(device.energy)
    absent = [name for name, value in fields.items() if value is None] or ["all"] * (device.energy is None)
    told = [f"energies that are unknown: {', '.join(absent)}; totals that need them are too"] if absent else []
    told += ["refresh is not counted"] * (device.refresh is None)
    told += ["the time from a write to its data is unknown, and taken for none"] * (device.timing.n_wl is None)
    return told + ["the area of the dies is unknown"] * (device.area is None)


def _too_big(device: NearDram, values: Any) -> list[str]:
    """A warning where the rows cannot hold so many values."""
    return no_room(float(np.max(values)) * device.memory.bits / 8, float(device.banks.capacity), "devices")


NOTHING_KNOWN = CommandEnergy(**dict.fromkeys(fields_of(CommandEnergy)))
FILLING = 16
"""Rows of each bank, and outputs of each, in a product that keeps all units busy."""
COLUMNS = "internal peak: columns alone; opening rows takes energy and no time, vectors, results and refreshes nothing"
UNCOUNTED = "what the host does with results, such as adding up partial sums, is not counted"
