"""What a matrix product costs on digital SRAM macros: gates by the count, a closed form in arrays of shapes.

A matrix takes T x A arrays: T along its inputs, each with up to `row_groups` groups of `rows` inputs, A side by side
along its outputs. All work in parallel; in an array the row groups take turns, and each takes as many cycles as an
input has portions of `serial_bits`. Sums of the groups add up in a register, those of the arrays in a tree of adders.

Counts are those of ZigZag-IMC (Houshmand et al., arXiv 2305.18335; its `DimcArrayUnit.py`): ripple-carry adders, energy
C vdd^2 of what switches. Multipliers and trees switch with the data (`input_toggle` times `weight_density`),
accumulators and registers with every cycle. Adders below inputs that the matrix does not have stand still. Silicon can
be steeper in the supply: Colonnade (Kim et al., JSSC 2021, 65 nm) took 4 times as much at 0.8 V as at 0.6 V, not 1.8.

Not counted: writing weights, wires, clock tree, control, and moving inputs and outputs to and from the arrays.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.components.logic import tree_adders
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.gates import Gates
from pim.ledger import Ledger, ledger_of

UNCOUNTED = "writing weights, wires, clock tree, control and moving vectors to and from the arrays are not counted"


class Counts(NamedTuple):
    """How much of a macro a matrix takes, and what happens there for one input vector."""

    groups: Any  # groups of rows along the inputs
    last: Any  # inputs of the last of them
    arrays: Any  # all arrays
    side: Any  # arrays side by side
    turns: Any  # groups of an array, one after another
    cycles: Any  # cycles of one turn
    depth: Any  # additions, one after another, that sum up the arrays


def counts(macro: DigitalMacro, n_in: Any, n_out: Any) -> Counts:
    """The counts of an [n_in, n_out] matrix; both may be integer arrays of one shape."""
    groups = -(-n_in // macro.rows)
    along, side = -(-groups // macro.row_groups), -(-n_out // macro.outputs)
    numbers = (groups, n_in - (groups - 1) * macro.rows, along * side, side, jnp.minimum(groups, macro.row_groups))
    groups, last, arrays, side, turns = (jnp.asarray(number, jnp.float32) for number in numbers)
    cycles = jnp.ceil(macro.input_bits / macro.serial_bits)
    return Counts(groups, last, arrays, side, turns, cycles, depth=32 - jax.lax.clz(along - 1))


def place_value_adders(macro: DigitalMacro) -> Float[Array, ""]:
    """Full adders that sum the trees of `serial_bits` input bits, each shifted by its place.

    q(B-1) + B(log2 B - 1/2) for B numbers of q bits.
    """
    portions = macro.serial_bits
    if portions == 1:
        return jnp.zeros(())
    return _tree_bits(macro) * (portions - 1) + portions * (jnp.log2(portions) - 0.5)


def _tree_bits(macro: DigitalMacro) -> Float[Array, ""]:
    """Bits of what a tree gives."""
    return macro.weight_bits + jnp.ceil(jnp.log2(macro.rows))


def _sum_bits(macro: DigitalMacro) -> Float[Array, ""]:
    """Bits of the whole sum of a row group."""
    return macro.input_bits + _tree_bits(macro)


def _total_bits(macro: DigitalMacro, n_in: Any) -> Float[Array, "..."]:
    """Bits of the sum over all row groups, or as many as the accumulator has."""
    if macro.accumulator_bits is not None:
        return macro.accumulator_bits * jnp.ones(jnp.shape(n_in))
    return macro.input_bits + macro.weight_bits + jnp.ceil(jnp.log2(n_in))


def matrix_cost(macro: DigitalMacro, n_in: Any, n_out: Any, vectors: Any = 1, operator: str = "product") -> Ledger:
    """The ledger of `vectors` products with an [n_in, n_out] matrix that stays in its arrays.

    `n_in`, `n_out` and `vectors` may be arrays that broadcast.

    Raises DeviceError where the macro names no gates or no area of its cells.
    """
    _check(macro)
    shape = (jnp.asarray(size, jnp.int32) for size in (n_in, n_out))
    sizes = jnp.broadcast_arrays(*shape, jnp.asarray(vectors, jnp.float32))
    return _priced(macro, *sizes).named(operator)


def _check(macro: DigitalMacro) -> None:
    if macro.gates is None:
        raise DeviceError("the gates of this digital macro are unknown, and so is its cost: name them, [device.gates]")
    if macro.cell_area is None:
        raise DeviceError("cell_area is unknown for this device; set it, in m^2, to get a cost: cell_area = 2e-13")


@jax.jit
def _priced(macro: DigitalMacro, n_in, n_out, vectors) -> Ledger:
    assert macro.gates is not None, "checked by `matrix_cost`"
    n, gates = counts(macro, n_in, n_out), macro.gates
    inputs, outputs = n_in.astype(jnp.float32), n_out.astype(jnp.float32)
    cycles = vectors * n.cycles * macro.vdd**2  # each cycle of each vector, times V^2: capacitances become energies
    active = cycles * macro.input_toggle * macro.weight_density
    trees = (n.groups - 1) * tree_adders(macro.rows, macro.weight_bits) + tree_adders(n.last, macro.weight_bits)
    serial, many = macro.serial_bits, n.cycles > 1
    adder, register = gates.adder_capacitance(), gates.register_capacitance()
    accumulators = jnp.where(many, n.groups * outputs * _sum_bits(macro), 0.0)
    total_bits = _total_bits(macro, inputs)
    stored = inputs * n.side * macro.input_bits + outputs * total_bits
    weights = inputs * outputs * macro.weight_bits
    area = areas(macro, n, inputs)
    energies = {
        "cells": vectors * macro.vdd**2 * jnp.where(n.turns > 1, weights, 0.0) * _selection(macro, gates),
        "multipliers": active * serial * weights * gates.multiplier_capacitance(),
        "adder_tree": active * serial * outputs * trees * adder,
        "place_value": active * n.groups * outputs * place_value_adders(macro) * adder,
        "accumulators": cycles * accumulators * (adder + register),
        "group_sums": vectors * macro.vdd**2 * (n.groups - 1) * outputs * total_bits * (adder + register),
        "registers": vectors * macro.vdd**2 * stored * register,
    }
    latencies = {
        "adder_tree": vectors * n.turns * n.cycles / macro.clock,
        "group_sums": vectors * n.depth / macro.clock,
    }
    rows = [(name, energy, latencies.get(name, 0.0), area[name]) for name, energy in energies.items()]
    leaking = leakage_power(macro, n_in, n_out) * sum(latencies.values())
    return ledger_of([*rows, ("leakage", leaking, 0.0, 0.0)])


def _selection(macro: DigitalMacro, gates: Gates) -> Float[Array, ""]:
    """Capacitance (F) switched by a cell that takes its turn: its select line, and the bit line of its group.

    Half a NAND2 a cell each, after ZigZag-IMC (`get_precharge_energy`).
    """
    return gates.capacitance / 2 * (1 + macro.row_groups)


def areas(macro: DigitalMacro, n: Counts, n_in: Any) -> dict[str, Any]:
    """Area (m^2) by component, of whole arrays."""
    assert macro.gates is not None and macro.cell_area is not None, "checked by `matrix_cost`"
    gates, serial = macro.gates, macro.serial_bits
    adder, register = gates.adder_area(), gates.register_area()
    columns = n.arrays * macro.outputs
    weights = columns * macro.rows * macro.weight_bits
    total_bits = _total_bits(macro, n_in)
    return {
        "cells": weights * macro.row_groups * macro.cell_area,
        "multipliers": weights * serial * gates.area,
        "adder_tree": columns * serial * tree_adders(macro.rows, macro.weight_bits) * adder,
        "place_value": columns * place_value_adders(macro) * adder,
        "accumulators": jnp.where(n.cycles > 1, columns * _sum_bits(macro), 0.0) * (adder + register),
        "group_sums": jnp.where(n.groups > 1, columns * total_bits, 0.0) * (adder + register),
        "registers": (n.arrays * macro.rows * macro.input_bits + columns * total_bits) * register,
    }


@jax.jit
def leakage_power(macro: DigitalMacro, n_in: Any, n_out: Any) -> Float[Array, "..."]:
    """Static power (W) of the arrays that hold an [n_in, n_out] matrix: logic by its area, and cells if it is known."""
    assert macro.gates is not None, "checked by `matrix_cost`"
    n_in, n_out = jnp.asarray(n_in, jnp.int32), jnp.asarray(n_out, jnp.int32)
    n = counts(macro, n_in, n_out)
    logic = sum(area for name, area in areas(macro, n, n_in.astype(jnp.float32)).items() if name != "cells")
    power = logic * macro.gates.leakage_density
    if macro.facts is not None and macro.facts.leakage is not None:
        cells = n.arrays * macro.outputs * macro.rows * macro.row_groups * macro.weight_bits
        power = power + cells * macro.facts.leakage
    return power


@jax.jit
def shortest_cycle(macro: DigitalMacro) -> Float[Array, ""]:
    """Time (s) from the cells to the accumulator: multiplier, tree, place values, accumulator, all carries rippling.

    After ZigZag-IMC (`DimcArrayUnit.get_delay`), at the supply for which the gates' delay is given.
    """
    gates = macro.gates
    assert gates is not None, "checked by `matrix_cost`"
    depth = jnp.ceil(jnp.log2(macro.rows))
    tree = (depth - 1) * gates.to_sum() + gates.to_carry() + (_tree_bits(macro) - 2) * gates.ripple()
    place, carried = jnp.zeros(()), _tree_bits(macro)
    if macro.serial_bits > 1:
        levels = jnp.ceil(jnp.log2(macro.serial_bits))
        place = (levels - 1) * gates.to_sum() + gates.to_carry() + (macro.serial_bits - 1) * gates.ripple()
        carried = carried + macro.serial_bits
    accumulate = jnp.where(
        macro.input_bits > macro.serial_bits, gates.to_carry() + (_sum_bits(macro) - carried) * gates.ripple(), 0.0
    )
    return gates.delay + tree + place + accumulate


def notes(macro: DigitalMacro) -> tuple[str, ...]:
    """What a cost assumes and leaves out: to be told with every result."""
    told = [
        f"{float(macro.input_toggle):.0%} of the input bits toggle and {float(macro.weight_density):.0%} of the weight "
        "bits are one (fields of the device, not measured on this model)",
        UNCOUNTED,
    ]
    if macro.facts is None or macro.facts.leakage is None:
        told.append("the leakage of the cells is unknown and not counted")
    if float(macro.clock * shortest_cycle(macro)) > 1.0 + 1e-3:
        told.append("the clock is faster than the gates' delays allow at the supply for which they are given")
    return tuple(told)
