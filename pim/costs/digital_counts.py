"""How much of a digital macro a matrix takes, and what happens there for one input vector."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pim.devices.adders import (
    chain_bits,
    multiplier_area,
    place_value_adders,
    product_bits,
    row_adders,
    sum_bits,
    total_bits,
    trees,
)
from pim.devices.digital_macro import DigitalMacro


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


def stages(macro: DigitalMacro, rows: Any) -> Any:
    """Registers that a sum passes on its way down a chain of `rows` rows."""
    if macro.adders != "chain" or macro.pipeline_rows is None:
        return jnp.zeros_like(jnp.asarray(rows, jnp.float32))
    return jnp.ceil(rows / macro.pipeline_rows)


def registers(macro: DigitalMacro, n: Counts, n_in: Any) -> dict[str, Any]:
    """Flip-flops of one array by component."""
    columns = macro.outputs
    total = total_bits(macro, n_in)
    return {
        "pipeline": columns * stages(macro, macro.rows) * trees(macro) * chain_bits(macro),
        "accumulators": jnp.where(n.cycles > 1, columns * sum_bits(macro), 0.0),
        "group_sums": jnp.where(n.groups > 1, columns * total, 0.0),
        "registers": macro.rows * macro.input_bits + columns * total,
    }


def areas(macro: DigitalMacro, n: Counts, n_in: Any) -> dict[str, Any]:
    """Area (m^2) by component, of whole arrays; wires lie above the gates and take none."""
    assert macro.gates is not None and macro.cell_area is not None, "checked by `matrix_cost`"
    gates, columns = macro.gates, n.arrays * macro.outputs
    adder, flip_flop = gates.adder_area(), gates.register_area()
    whole = None if macro.columns is None else chain_bits(macro)  # all columns of an array are built alike
    cells, multipliers = (
        columns * macro.rows * (bits if whole is None else whole) for bits in (macro.weight_bits, product_bits(macro))
    )
    stored = {name: n.arrays * count * flip_flop for name, count in registers(macro, n, n_in).items()}
    control = 0.0 if macro.wiring is None else n.arrays * macro.wiring.control_gates * gates.area
    return {
        "cells": cells * macro.row_groups * macro.cell_area,
        "multipliers": multipliers * trees(macro) * multiplier_area(macro, gates),
        "adders": columns * trees(macro) * row_adders(macro, macro.rows) * adder,
        "place_value": columns * place_value_adders(macro) * adder,
        "pipeline": stored["pipeline"],
        "accumulators": jnp.where(n.cycles > 1, columns * sum_bits(macro), 0.0) * adder + stored["accumulators"],
        "group_sums": jnp.where(n.groups > 1, columns * total_bits(macro, n_in), 0.0) * adder + stored["group_sums"],
        "registers": stored["registers"],
        "control": control,
    }
