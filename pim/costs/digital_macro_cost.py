"""What a matrix product costs on digital SRAM macros: gates by the count, a closed form in arrays of shapes.

A matrix takes T x A arrays: T along its inputs, each with up to `row_groups` groups of `rows` inputs, A side by side
along its outputs. All work in parallel; in an array the row groups take turns, and each takes as many cycles as an
input has portions of `serial_bits`. Sums of the groups add up in a register, those of the arrays in a tree of adders.

Counts are those of ZigZag-IMC (Houshmand et al., arXiv 2305.18335; its `DimcArrayUnit.py`): ripple-carry adders, energy
C vdd^2 of what switches. Multipliers and adders switch with the data (toggle rate of the inputs times density of the
weights), accumulators and registers with every cycle. Adders below inputs that the matrix does not have stand still.
Silicon can be steeper in the supply: Colonnade (Kim et al., JSSC 2021, 65 nm) took 4 times as much at 0.8 V as at
0.6 V, not 1.8, for which a device has a `supply`. Wires, drivers and clock are counted where a device has `wiring`; a
wire that toggles costs C V^2 / 2, one that rises and falls in each cycle C V^2.

Not counted: writing weights (see `pim.loading`), and moving inputs and outputs to and from the arrays.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs.digital_counts import Counts, areas, counts, registers, stages
from pim.costs.digital_operands import ASSUMED, DigitalOperands, assumed_operands
from pim.costs.ledger import Ledger, ledger_of
from pim.costs.stages import factored, factors_note
from pim.devices.adders import (
    chain_bits,
    multiplier_capacitance,
    place_value_adders,
    product_bits,
    row_adders,
    shortest_cycle,
    sum_bits,
    total_bits,
    trees,
)
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_wiring import CLOCK_PATH, HORN
from pim.devices.errors import DeviceError
from pim.devices.gates import Gates

UNCOUNTED = "moving vectors to and from the arrays is not counted; writing weights stands apart (`cost.loading`)"
UNWIRED = "wires, drivers, clock tree and control are not counted: the device has no wiring"


def matrix_cost(
    macro: DigitalMacro,
    n_in: Any,
    n_out: Any,
    vectors: Any = 1,
    operands: DigitalOperands | None = None,
    operator: str = "product",
) -> Ledger:
    """The ledger of `vectors` products with an [n_in, n_out] matrix that stays in its arrays.

    Args:
        macro: the device.
        n_in, n_out, vectors: integers or arrays that broadcast; one call prices them all.
        operands: statistics of inputs and weights, which broadcast too; the device's own if none are given.
        operator: name for the rows.

    Raises DeviceError where the macro names no gates or no area of its cells.
    """
    _check(macro)
    operands = operands if operands is not None else assumed_operands(macro)
    operands = replace(operands, source="")  # where they come from would compile anew
    figures, source = jax.tree.flatten(operands)
    shape = (jnp.asarray(size, jnp.int32) for size in (n_in, n_out))
    amounts = (jnp.asarray(value, jnp.float32) for value in (vectors, *figures))
    n_in, n_out, vectors, *figures = jnp.broadcast_arrays(*shape, *amounts)
    return _priced(macro, n_in, n_out, vectors, jax.tree.unflatten(source, figures)).named(operator)


def _check(macro: DigitalMacro) -> None:
    if macro.gates is None:
        raise DeviceError("the gates of this digital macro are unknown, and so is its cost: name them, [device.gates]")
    if macro.cell_area is None:
        raise DeviceError("cell_area is unknown for this device; set it, in m^2, to get a cost: cell_area = 2e-13")


@jax.jit
def _priced(macro: DigitalMacro, n_in, n_out, vectors, operands: DigitalOperands) -> Ledger:
    n, inputs = counts(macro, n_in, n_out), n_in.astype(jnp.float32)
    area = areas(macro, n, inputs)
    energies = gate_energies(macro, n, inputs, n_out.astype(jnp.float32), vectors, operands)
    energies |= wiring_energies(macro, n, inputs, n_out.astype(jnp.float32), vectors, operands, area)
    latencies = {
        "adders": (vectors * n.turns * n.cycles + stages(macro, macro.rows)) / macro.frequency(),
        "group_sums": vectors * n.depth / macro.frequency(),
    }
    rows = [(name, energy, latencies.get(name, 0.0), area.get(name, 0.0)) for name, energy in energies.items()]
    leaking = leakage_power(macro, n_in, n_out) * sum(row[2] for row in rows)
    rows = factored(rows, macro.cost_factors)
    named = ((f"adder_{macro.adders}" if name == "adders" else name, *figures) for name, *figures in rows)
    return ledger_of([*named, ("leakage", leaking, 0.0, 0.0)])


def gate_energies(
    macro: DigitalMacro, n: Counts, inputs, outputs, vectors, operands: DigitalOperands
) -> dict[str, Any]:
    """Energy (J) of the gates by component."""
    gates = macro.gates
    assert gates is not None, "checked by `matrix_cost`"
    adder, register = gates.adder_capacitance(), gates.register_capacitance()
    once = vectors * macro.squared()  # what a capacitance that switches once a vector is multiplied by
    each = once * n.cycles
    active = operands.toggle * operands.density
    total = total_bits(macro, inputs)
    products = inputs * outputs * product_bits(macro) * trees(macro)
    summing = (n.groups - 1) * row_adders(macro, macro.rows) + row_adders(macro, n.last)
    passed = (n.groups - 1) * stages(macro, macro.rows) + stages(macro, n.last)
    accumulators = jnp.where(n.cycles > 1, n.groups * outputs * sum_bits(macro), 0.0)
    selected = jnp.where(n.turns > 1, inputs * outputs * macro.weight_bits, 0.0)
    return {
        "cells": once * selected * _selection(macro, gates),
        "multipliers": each * active * products * multiplier_capacitance(macro, gates),
        "adders": each * active * macro.glitches * trees(macro) * outputs * summing * adder,
        "place_value": each * active * n.groups * outputs * place_value_adders(macro) * adder,
        "pipeline": each * trees(macro) * outputs * passed * chain_bits(macro) * register,
        "accumulators": each * accumulators * (adder + register),
        "group_sums": once * (n.groups - 1) * outputs * total * (adder + register),
        "registers": once * (inputs * n.side * macro.input_bits + outputs * total) * register,
    }


def _selection(macro: DigitalMacro, gates: Gates) -> Float[Array, ""]:
    """Capacitance (F) switched by a cell that takes its turn: its select line, and the bit line of its group.

    Half a NAND2 a cell each, after ZigZag-IMC (`get_precharge_energy`).
    """
    return gates.capacitance / 2 * (1 + macro.row_groups)


def wiring_energies(
    macro: DigitalMacro, n: Counts, inputs, outputs, vectors, operands: DigitalOperands, area: dict[str, Any]
) -> dict[str, Any]:
    """Energy (J) of wires between adders, of drivers and wires of input lines, of the clock's tree, and of control."""
    wiring, gates = macro.wiring, macro.gates
    if wiring is None:
        return dict.fromkeys(("wires", "drivers", "clock", "control"), jnp.zeros_like(vectors))
    assert gates is not None, "checked by `matrix_cost`"
    array = sum(area.values()) / n.arrays
    side, pitch = _root(array), _root(array / (macro.rows * macro.outputs))
    each = vectors * n.cycles * macro.squared()
    bits = product_bits(macro) if macro.adders == "tree" else chain_bits(macro)
    pins = inputs * outputs * product_bits(macro) * gates.capacitance / 2  # which count as multipliers
    lines = inputs * (n.side * side * wiring.capacitance + outputs * bits * wiring.line_load * gates.capacitance)
    driven = macro.serial_bits * (lines * (1 + HORN) + pins * HORN)
    between = inputs * outputs * trees(macro) * pitch * _crossings(macro) * wiring.capacitance
    active = operands.toggle * operands.density * macro.glitches
    flip_flops = sum(registers(macro, n, inputs).values())
    clocked = flip_flops * wiring.clock_pin * gates.capacitance
    clocked = clocked + CLOCK_PATH * _root(flip_flops * array) * wiring.capacitance
    return {
        "wires": each / 2 * active * between,
        "drivers": each / 2 * operands.toggle * driven,
        "clock": each * n.turns * n.arrays * clocked * (1 + HORN),
        "control": each * n.turns * n.arrays * wiring.control_gates * gates.capacitance,
    }


def _root(area: Any) -> Any:
    """Square root; where there is no area, zero, with a derivative of zero in place of none."""
    there = area > 0
    return jnp.where(there, jnp.sqrt(jnp.where(there, area, 1.0)), 0.0)


def _crossings(macro: DigitalMacro) -> Any:
    """Pitches of wire behind a row of an output, over all bits of sums.

    In a chain each bit of the sum goes on to the next row, in a square of cells. At level k of an H-tree of n inputs
    n / 2^k sums of p + k bits go half the distance to their neighbour, 2^(k/2) pitches.
    """
    if macro.adders == "chain":
        return jnp.sqrt(chain_bits(macro))
    levels = jnp.arange(np.ceil(np.log2(macro.rows)), dtype=jnp.float32)
    return jnp.sum((product_bits(macro) + levels) * 2.0 ** (-levels / 2) / 2)


@jax.jit
def leakage_power(macro: DigitalMacro, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """Static power (W) of the arrays that hold an [n_in, n_out] matrix: logic by its area, and cells if it is known."""
    assert macro.gates is not None, "checked by `matrix_cost`"
    n_in, n_out = jnp.asarray(n_in, jnp.int32), jnp.asarray(n_out, jnp.int32)
    n = counts(macro, n_in, n_out)
    logic = sum(area for name, area in areas(macro, n, n_in.astype(jnp.float32)).items() if name != "cells")
    power = logic * macro.gates.leakage_density
    if macro.cell_leakage is not None:
        cells = n.arrays * macro.outputs * macro.rows * macro.row_groups * macro.weight_bits
        power = power + cells * macro.cell_leakage
    if macro.cost_factors is not None:
        power = power * macro.cost_factors.energy
    return power


def notes(macro: DigitalMacro, operands: DigitalOperands | None = None) -> tuple[str, ...]:
    """What a cost assumes and leaves out: to be told with every result."""
    told = [UNCOUNTED]
    if operands is None or operands.source == ASSUMED:
        told.insert(
            0,
            f"{float(macro.input_toggle):.0%} of the input bits toggle and {float(macro.weight_density):.0%} of the "
            "weight bits are one (fields of the device, not measured on this model)",
        )
    else:
        told.insert(0, f"operand statistics {operands.source}")
    if macro.wiring is None:
        told.append(UNWIRED)
    elif float(macro.wiring.control_gates) == 0:
        told.append("control and decoders are not counted: wiring.control_gates is 0")
    if macro.cell_leakage is None:
        told.append("the leakage of the cells is unknown and not counted")
    if float(macro.clock * shortest_cycle(macro)) > 1.0 + 1e-3:
        told.append("the clock is faster than the gates' delays allow at the supply for which they are given")
    told += factors_note(macro.cost_factors)
    return tuple(told)
