"""Digital SRAM compute-in-memory: one-bit multipliers at the cells and an exact tree of adders below them.

Inputs come in bit by bit, or a few bits at a time; each bit is multiplied by all weights of a column, the tree adds the
products up, and an accumulator shifts and adds over the bits. The sum is the integer product, whatever the order. What
is lost is lost in the rounding to codes, in an accumulator that is too narrow, and in cells that fail at a low supply.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int8, Int32

from pim.devices.arithmetic import Codes
from pim.devices.bit_errors import BitErrorTable
from pim.devices.cells.cell_facts import CellFacts
from pim.devices.cost_factors import CostFactors
from pim.devices.digital_wiring import DigitalWiring
from pim.devices.errors import DeviceError
from pim.devices.gates import Gates
from pim.devices.holder import KeyFor
from pim.devices.integer_product import LONGEST, integer_product, row_groups
from pim.devices.number_format import integer_codes, integer_scale
from pim.devices.random import fold
from pim.devices.record import leaf, part, record, static, told
from pim.devices.supply import Supply

MOST_BITS = 8
"""Bits of a code that is computed with."""
MOST_PRICED_BITS = 16
"""Bits of a code whose cost is known."""


@record
class DigitalMacro:
    """Arrays of `rows` inputs by `outputs`, with `row_groups` weights behind each multiplier, which take turns.

    Weights and inputs are signed integers in two's complement, symmetric about zero, with one scale for each column (or
    the matrix) and for each input vector. Codes of 2 to 8 bits are computed with; costs are known for 1 to 16.
    """

    rows: int = static("inputs that a tree of adders sums at once", low=1)
    outputs: int = static("columns of an array, each with a tree: outputs", low=1)
    weight_bits: Float[Array, ""] = leaf("1", "bits of a weight, sign included", low=1, high=MOST_PRICED_BITS)
    input_bits: Float[Array, ""] = leaf("1", "bits of an input, sign included", low=1, high=MOST_PRICED_BITS)
    clock: Float[Array, ""] = leaf("1/s", "cycles a second, at the supply's nominal voltage if it has one", low=1)
    vdd: Float[Array, ""] = leaf("V", "supply of cells and logic", low=0.1, high=5)
    row_groups: int = static("weights that share a multiplier and take turns", low=1, default=1)
    serial_bits: int = static("bits of an input that come in a cycle", low=1, default=1)
    adders: str = static(
        "how the rows of an array are summed",
        choices=("tree", "chain"),
        meanings={
            "tree": "by a tree of adders below each column",
            "chain": "by an adder in each cell, which adds its product to the sum of the rows before it",
        },
        default="tree",
    )
    columns: int | None = static(
        "bits across an array with chains, which weights and their sums share; absent: as many as the outputs need",
        low=1,
        default=None,
    )
    pipeline_rows: int | None = static(
        "rows of a chain from one register to the next; absent: no registers", low=1, default=None
    )
    recoding: str = static(
        "how inputs are recoded",
        choices=("none", "booth"),
        meanings={"none": "not at all", "booth": "pairs of bits become digits from -2 to 2: one tree for two bits"},
        default="none",
    )
    weight_scale: str = static("what shares one weight scale", choices=("column", "matrix"), default="column")
    input_toggle: Float[Array, ""] = leaf(
        "1", "share of input bits that differ from the bit before", low=0, high=1, default=0.5
    )
    weight_density: Float[Array, ""] = leaf("1", "share of weight bits that are one", low=0, high=1, default=0.5)
    glitches: Float[Array, ""] = leaf(
        "1", "how often an adder switches, over how often the products do", low=1, high=100, default=1.0
    )
    gates: Gates | None = part("the process; absent: cost unknown", default=None)
    wiring: DigitalWiring | None = part("wires, drivers, clock and control; absent: not counted", default=None)
    supply: Supply | None = part(
        "what another supply does to energy and delay; absent: energy follows vdd^2, and the clock stays", default=None
    )
    cost_factors: CostFactors | None = part("factors on every row of its cost; absent: none", default=None)
    accumulator_bits: Float[Array, ""] | None = leaf(
        "1",
        "bits of the register in which the sums of the row groups add up, sign included; absent: as many as they need",
        low=2,
        high=31,
        default=None,
    )
    overflow: str = static(
        "what the accumulator does with a sum that does not fit: stays at its bound, or drops the upper bits",
        choices=("saturate", "wrap"),
        default="saturate",
    )
    bit_errors: BitErrorTable | None = part("cells that fail at a low supply; absent: none does", default=None)
    cell_area: Float[Array, ""] | None = leaf("m^2", "area of one SRAM cell; absent: unknown", low=0, default=None)
    cell_leakage: Float[Array, ""] | None = leaf(
        "W", "static power of one SRAM cell; absent: unknown", low=0, default=None
    )
    facts: CellFacts | None = told("what the field's survey tables list of its cell; absent: unknown", default=None)

    @property
    def levels(self) -> float:
        """States of a cell: a bit."""
        return 2.0

    def prepare(self) -> "DigitalMacro":
        """The macro itself, if its supply is one that its tables know, and if what it is made of fits together."""
        if self.recoding == "booth" and self.serial_bits % 2:
            raise DeviceError(
                f"recoding = 'booth' makes digits of two bits, but serial_bits = {self.serial_bits}: make it even"
            )
        if self.adders == "chain" and self.recoding != "none":
            raise DeviceError("recoding is for adders = 'tree': a chain adds single bits")
        if self.adders != "chain" and (self.columns is not None or self.pipeline_rows is not None):
            raise DeviceError("columns and pipeline_rows are for adders = 'chain': leave them away for a tree")
        if any(isinstance(value, Tracer) for value in (self.vdd, self.weight_bits)):
            return self
        width = float(self.weight_bits) + math.ceil(math.log2(self.rows))
        if self.columns is not None and self.outputs * width > self.columns:
            raise DeviceError(
                f"{self.outputs} outputs of {width:g} bits do not fit into columns = {self.columns}: at most "
                f"{int(self.columns // width)}; set outputs together with weight_bits"
            )
        if self.bit_errors is not None:
            self.bit_errors.check(self.vdd)
        if self.supply is not None:
            if self.supply.nominal is None:
                raise DeviceError("supply.nominal is missing: the voltage at which both of its factors are 1")
            self.supply.check(self.vdd)
        return self

    def squared(self) -> Float[Array, ""]:
        """What a switched capacitance is multiplied by, in V^2: V^2, or that at the nominal supply and its law."""
        if self.supply is None:
            return self.vdd**2
        assert self.supply.nominal is not None, "checked by `prepare`"
        return self.supply.nominal**2 * self.supply.energy(self.vdd)

    def frequency(self) -> Float[Array, ""]:
        """Cycles a second (1/s) at the supply."""
        return self.clock if self.supply is None else self.clock / self.supply.delay(self.vdd)

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Codes:
        """The codes that the cells return; with a chip's key, some bits are wrong for good at a low supply."""
        if weights.shape[0] > LONGEST:
            raise DeviceError(f"a sum over {weights.shape[0]} inputs may leave 32 bits; at most {LONGEST} are exact")
        self.check_bits()
        scale = integer_scale(weights, self.weight_bits, self.weight_scale)
        codes = self.stored(integer_codes(weights, scale, self.weight_bits), key_for)
        scale = scale if key_for is None else self.supplied(scale)
        return Codes(codes=codes, scale=jnp.broadcast_to(scale, (1, weights.shape[1]))[0])

    def stored(self, codes: Int8[Array, "n_in n_out"], key_for: KeyFor | None) -> Int8[Array, "n_in n_out"]:
        """The codes that cells return which are given these."""
        if key_for is None or self.bit_errors is None:
            return codes
        key, table = key_for("bits"), self.bit_errors
        return flipped(codes, lambda bit: table.failing(fold(key, bit), codes.shape, self.vdd), self.weight_bits)

    def supplied(self, values: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The values, or NaN where a traced supply lies outside the table of bit errors."""
        return values if self.bit_errors is None else values + 0.0 * self.bit_errors.rate(self.vdd)

    def check_bits(self) -> None:
        """Raise DeviceError for codes that are not computed with; what is traced is not checked."""
        for name in ("weight_bits", "input_bits"):
            bits = getattr(self, name)
            if not isinstance(bits, Tracer) and not 2 <= float(bits) <= MOST_BITS:
                raise DeviceError(
                    f"{name} = {float(bits):g}: products are computed with codes of 2 to {MOST_BITS} bits; others are "
                    "for costs alone (pim.cost)"
                )

    def multiply(self, held: Codes, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product of the codes, with the scale of each vector and each column."""
        scale = integer_scale(x, self.input_bits, "row")
        sums = self.sums(integer_codes(x, scale, self.input_bits), held.codes)
        return sums.astype(jnp.float32) * held.scale[None] * scale

    def sums(self, x: Int8[Array, "batch n_in"], codes: Int8[Array, "n_in n_out"]) -> Int32[Array, "batch n_out"]:
        """The sums of products of codes as the accumulators hold them: if narrow, row group after row group."""
        if self.accumulator_bits is None:
            return integer_product(x, codes)
        keep = partial(self._keep, bits=self.accumulator_bits)
        zero = jnp.zeros((x.shape[0], codes.shape[1]), jnp.int32)
        groups = row_groups(x, codes, self.rows)
        total, _ = jax.lax.scan(lambda sum_, group: (keep(sum_ + keep(integer_product(*group))), None), zero, groups)
        return total

    def _keep(self, value: Int32[Array, "batch n_out"], bits: Any) -> Int32[Array, "batch n_out"]:
        """What a register of so many bits keeps of a value."""
        half = jnp.left_shift(1, bits.astype(jnp.int32) - 1)
        if self.overflow == "saturate":
            return jnp.clip(value, -half, half - 1)
        return jnp.bitwise_and(value + half, 2 * half - 1) - half


def flipped(
    codes: Int8[Array, "n_in n_out"], fails: Callable[[Any], Bool[Array, "n_in n_out"]], bits: Any
) -> Int8[Array, "n_in n_out"]:
    """Codes in two's complement of so many bits (may be traced), with the bits that fail turned over.

    `fails` tells of a bit, 0 the lowest, in which codes it fails; bits beyond `bits` are not stored.
    """
    width = jnp.asarray(bits).astype(jnp.int32)

    def turn(stored, bit):
        turned = jnp.bitwise_xor(stored, jnp.left_shift(1, bit))
        return jnp.where(fails(bit) & (bit < width), turned, stored), None

    stored, _ = jax.lax.scan(turn, codes.astype(jnp.int32), jnp.arange(MOST_BITS))
    half = jnp.left_shift(1, width - 1)  # the top bit counts -half: sign-extend from it
    return (jnp.bitwise_and(stored + half, 2 * half - 1) - half).astype(jnp.int8)
