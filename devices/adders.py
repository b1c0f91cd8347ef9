"""How a digital macro sums: its adders and multipliers by the count, and how long they take.

Trees are built as in ZigZag-IMC (Houshmand et al., arXiv 2305.18335; its `DimcArrayUnit.py`), of ripple-carry adders,
each level one bit wider; their adders are counted exactly, where it rounds up. Chains are those of Colonnade (Kim et
al., JSSC 2021): a full adder in each cell, which adds its product to the sum of the rows before it, in a column as wide
as the whole sum.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.components.logic import tree_adders
from pim.devices.digital_macro import DigitalMacro
from pim.devices.gates import Gates


def trees(macro: DigitalMacro) -> int:
    """Trees (or chains) of an output: one for each digit that comes in a cycle."""
    return macro.serial_bits // 2 if macro.recoding == "booth" else macro.serial_bits


def product_bits(macro: DigitalMacro) -> Any:
    """Bits of the product of a weight and one digit; twice a weight is one bit longer."""
    return macro.weight_bits + (1 if macro.recoding == "booth" else 0)


def tree_bits(macro: DigitalMacro) -> Float[Array, ""]:
    """Bits of the sum of an array's rows, for one digit of the inputs."""
    return product_bits(macro) + jnp.ceil(jnp.log2(macro.rows))


def sum_bits(macro: DigitalMacro) -> Float[Array, ""]:
    """Bits of the whole sum of a row group."""
    return macro.input_bits + macro.weight_bits + jnp.ceil(jnp.log2(macro.rows))


def total_bits(macro: DigitalMacro, n_in: Any) -> Float[Array, "..."]:
    """Bits of the sum over all row groups, or as many as the accumulator has."""
    if macro.accumulator_bits is not None:
        return macro.accumulator_bits * jnp.ones(jnp.shape(n_in))
    return macro.input_bits + macro.weight_bits + jnp.ceil(jnp.log2(n_in))


def chain_bits(macro: DigitalMacro) -> Float[Array, ""]:
    """Columns of adders for each output of a chain, those left over at the array's edge shared out."""
    return tree_bits(macro) if macro.columns is None else jnp.asarray(macro.columns / macro.outputs)


def row_adders(macro: DigitalMacro, inputs: Any) -> Float[Array, "..."]:
    """Full adders that sum `inputs` rows for one output and one digit."""
    if macro.adders == "chain":
        return inputs * chain_bits(macro)
    return tree_adders(inputs, product_bits(macro))


def place_value_adders(macro: DigitalMacro) -> Float[Array, ""]:
    """Full adders that sum the trees of the digits of a cycle, each shifted by its place.

    q(B-1) + B(log2 B - 1/2) for B numbers of q bits; digits of two bits are shifted by two.
    """
    digits = trees(macro)
    if digits == 1:
        return jnp.zeros(())
    shift = macro.serial_bits // digits
    return tree_bits(macro) * (digits - 1) + shift * digits * (jnp.log2(digits) - 0.5)


def multiplier_capacitance(macro: DigitalMacro, gates: Gates) -> Float[Array, ""]:
    """Capacitance (F) that a one-bit multiplier switches: half a NAND2, or a selector of Booth's digits.

    The selector is the AND-OR of the weight and its double (two NAND2, of which the digit drives half, and a third) and
    an XOR2 for the sign.
    """
    plain = gates.multiplier_capacitance()
    return plain if macro.recoding == "none" else 2 * plain + (1 + gates.xor_capacitance) * gates.capacitance


def multiplier_area(macro: DigitalMacro, gates: Gates) -> Float[Array, ""]:
    """Area (m^2) of a one-bit multiplier."""
    return gates.area if macro.recoding == "none" else (3 + gates.xor_area) * gates.area


@jax.jit
def shortest_cycle(macro: DigitalMacro) -> Float[Array, ""]:
    """Time (s) from the cells to the accumulator: multiplier, sum of the rows, place values, accumulator, rippling.

    After ZigZag-IMC (`DimcArrayUnit.get_delay`), at the supply for which the gates' delay is given. A chain runs from
    one of its registers to the next, row by row and once along the carries.
    """
    gates = macro.gates
    assert gates is not None, "a macro without gates has no cost"
    if macro.adders == "chain":
        rows = macro.rows if macro.pipeline_rows is None else macro.pipeline_rows
        return gates.delay + rows * gates.to_sum() + (tree_bits(macro) - 1) * gates.ripple()
    tree = (jnp.ceil(jnp.log2(macro.rows)) - 1) * gates.to_sum() + gates.to_carry()
    tree = tree + (tree_bits(macro) - 2) * gates.ripple()
    place, carried, digits = jnp.zeros(()), tree_bits(macro), trees(macro)
    if digits > 1:
        levels = jnp.ceil(jnp.log2(digits))
        place = (levels - 1) * gates.to_sum() + gates.to_carry() + (digits - 1) * gates.ripple()
        carried = carried + macro.serial_bits
    accumulate = jnp.where(
        macro.input_bits > macro.serial_bits, gates.to_carry() + (sum_bits(macro) - carried) * gates.ripple(), 0.0
    )
    return gates.delay + tree + place + accumulate
