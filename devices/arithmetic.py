"""The arithmetic of digital units: formats of operands, products and sums, and the order in which they add up."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from pim.devices.errors import DeviceError
from pim.devices.integer_product import LONGEST, integer_product
from pim.devices.number_format import FLOATS, INTEGERS, integer_codes, integer_scale, rounded, sum_to_odd
from pim.devices.record import leaf, part, record, static
from pim.devices.stored_words import code_values, code_words, float_values, float_words

Flip = Callable[[UInt32[Array, "n_in n_out"], str], UInt32[Array, "n_in n_out"]]
"""What a memory makes of the words of a matrix, given their format."""

VECTORS_AT_ONCE = 256
"""Input vectors whose accumulators are in memory at a time."""


@record
class IntegerArithmetic:
    """Integer codes of weights and inputs, and sums in 32 bits: exact up to the rounding to codes."""

    operand: str = static("format of weights and inputs", choices=tuple(INTEGERS), default="int8")
    weight_scale: str = static("what shares one weight scale", choices=("column", "matrix"), default="column")

    def hold(self, weights: Float[Array, "n_in n_out"], flip: Flip | None = None) -> "Codes":
        """The codes of a matrix, as a memory returns them that may flip their bits; scales are kept elsewhere."""
        if weights.shape[0] > LONGEST:
            raise DeviceError(f"a sum over {weights.shape[0]} inputs may leave 32 bits; at most {LONGEST} are exact")
        bits = INTEGERS[self.operand]
        scale = integer_scale(weights, bits, self.weight_scale)
        codes = integer_codes(weights, scale, bits)
        if flip is not None:
            codes = code_values(flip(code_words(codes, self.operand), self.operand), self.operand)
        return Codes(codes=codes, scale=jnp.broadcast_to(scale, (1, weights.shape[1]))[0])

    def multiply(self, held: "Codes", x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The exact product of codes, with the scale of each vector and each column."""
        bits = INTEGERS[self.operand]
        scale = integer_scale(x, bits, "row")
        sums = integer_product(integer_codes(x, scale, bits), held.codes)
        return sums.astype(jnp.float32) * held.scale[None] * scale


@record
class Codes:
    """A matrix of integers."""

    codes: Int8[Array, "*layers n_in n_out"] = leaf("1", "integer weights")
    scale: Float[Array, "*layers n_out"] = leaf("1", "weight that a code of one stands for, by output")


@record
class FloatArithmetic:
    """Floating-point products and sums, each rounded to its format in the order in which the unit adds.

    A step multiplies `lanes` inputs. Their products go each to the accumulator of its lane, or through a tree of adders
    to the one accumulator of an output; the accumulator is rounded after each step. `tile_steps` steps make a tile. In
    the end the accumulators of the lanes are added up one after another, in the accumulator's format.

    `product` says whether a multiply-accumulate is fused. "fp16" or "bf16": the product is rounded to it and then the
    sum, two roundings, not fused. "fp32", which holds each product of two 16-bit operands exactly: the sum alone is
    rounded, once, as a fused multiply-add does. Behind a tree of adders nothing is fused: 16 products meet in float32.

    Where products and sums are kept in float32 the order is left to the machine: it moves the last bits of float32.

    >>> not_fused = FloatArithmetic("fp16", product="fp16", accumulator="fp16", lane_sums="separate")
    >>> fused = FloatArithmetic("fp16", product="fp32", accumulator="fp16", lane_sums="separate")
    """

    operand: str = static("format of weights and inputs", choices=tuple(FLOATS))
    product: str = static(
        "format that a product is rounded to before it is added; fp32 holds those of 16-bit operands exactly: fused",
        choices=tuple(FLOATS),
        default="fp32",
    )
    accumulator: str = static("format that a running sum is rounded to", choices=tuple(FLOATS), default="fp32")
    result: str = static("format of what is read out", choices=tuple(FLOATS), default="fp32")
    lanes: int = static("inputs that are multiplied in one step", low=1, default=16)
    lane_sums: str = static("who adds up the products of a step", choices=("separate", "tree"), default="tree")
    tile_steps: int = static("steps of a tile", low=1, default=1)
    tile_order: str = static(
        "order of the tiles: as they come, or first the even and then the odd ones",
        choices=("in_turn", "even_odd"),
        default="in_turn",
    )
    piece: int = static(
        "inputs after which sums are read out, to be added in float32 outside; 0: all inputs first", low=0, default=0
    )
    adder_bits: Float[Array, ""] | None = leaf(
        "1",
        "bits of magnitude that an adder tree keeps of products shifted to the largest one's exponent; what is below "
        "is cut off; absent: as exact as float32",
        low=4,
        high=24,
        default=None,
    )

    @property
    def plain(self) -> bool:
        """Whether products and sums are all kept in float32, so that only the operands are rounded."""
        return self.product == self.accumulator == "fp32" and self.adder_bits is None

    @property
    def fused(self) -> bool:
        """Whether product and sum of a lane are rounded once, together, and not each by itself."""
        return self.lane_sums == "separate" and self.product == "fp32" and self.operand != "fp32"

    def hold(self, weights: Float[Array, "n_in n_out"], flip: Flip | None = None) -> Float[Array, "..."]:
        """The rounded matrix, as a memory returns it that may flip bits of its words.

        Where the order matters, in the order of the steps: [pieces, steps, lanes, outputs].
        """
        stored = rounded(weights, self.operand)
        if flip is not None:
            stored = float_values(flip(float_words(stored, self.operand), self.operand), self.operand)
        return stored if self.plain else self._in_order(stored)

    def multiply(self, held: Float[Array, "..."], x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The product of the rounded inputs with the stored matrix."""
        inputs = rounded(x, self.operand)
        if self.plain:
            return rounded(jnp.matmul(inputs, held, precision=jax.lax.Precision.HIGHEST), self.result)

        def one(vector: Float[Array, "n_in"]) -> Float[Array, "n_out"]:
            steps = self._in_order(vector[:, None])[..., 0]
            _, pieces = jax.lax.scan(lambda _, piece: (None, self._sum(*piece)), None, (steps, held))
            return _one_after_another(pieces, "fp32")

        return jax.lax.map(one, inputs, batch_size=VECTORS_AT_ONCE)

    def _in_order(self, matrix: Float[Array, "n_in columns"]) -> Float[Array, "pieces steps lanes columns"]:
        """Rows in the order in which they are multiplied, filled up with zeros, whose products change no sum."""
        n_in, columns = matrix.shape
        tile = self.lanes * self.tile_steps
        pieces = -(-n_in // self.piece) if self.piece else 1
        tiles = -(-(self.piece or n_in) // tile)
        filled = jnp.pad(matrix, ((0, pieces * (self.piece or n_in) - n_in), (0, 0))).reshape(pieces, -1, columns)
        filled = jnp.pad(filled, ((0, 0), (0, tiles * tile - filled.shape[1]), (0, 0)))
        by_tile = filled.reshape(pieces, tiles, tile, columns)
        if self.tile_order == "even_odd":
            by_tile = jnp.concatenate([by_tile[:, 0::2], by_tile[:, 1::2]], axis=1)
        return by_tile.reshape(pieces, tiles * self.tile_steps, self.lanes, columns)

    def _sum(self, x: Float[Array, "steps lanes"], weights: Float[Array, "steps lanes n_out"]) -> Float[Array, "n_out"]:
        """The sum of one piece."""

        def step(total, inputs):
            u, w = inputs
            products = rounded(u[:, None] * w, self.product)
            if self.lane_sums == "tree":
                products = jnp.sum(self._aligned(products), axis=0, keepdims=True)
            sums = sum_to_odd(total, products) if narrow else total + products
            return rounded(sums, self.accumulator), None

        narrow = self.fused and self.accumulator != "fp32"

        accumulators = 1 if self.lane_sums == "tree" else self.lanes
        total, _ = jax.lax.scan(step, jnp.zeros((accumulators, weights.shape[2])), (x, weights))
        return rounded(_one_after_another(total, self.accumulator), self.result)

    def _aligned(self, products: Float[Array, "lanes n_out"]) -> Float[Array, "lanes n_out"]:
        """Products cut off `adder_bits` bits below the exponent of the largest (one mantissa shift for the step)."""
        if self.adder_bits is None:
            return products
        _, exponent = jnp.frexp(jnp.max(jnp.abs(products), axis=0, keepdims=True))
        unit = jnp.ldexp(jnp.ones_like(products[:1]), exponent - self.adder_bits.astype(jnp.int32))
        return jnp.trunc(products / unit) * unit


def _one_after_another(values: Float[Array, "n columns"], name: str) -> Float[Array, "columns"]:
    """The sum over the first axis, from the first to the last, rounded after each addition."""
    total, _ = jax.lax.scan(lambda sum_, value: (rounded(sum_ + value, name), None), values[0], values[1:])
    return total


Arithmetic = IntegerArithmetic | FloatArithmetic


def operand_bits(arithmetic: Arithmetic) -> int:
    """Bits in which a weight or an input is stored."""
    if isinstance(arithmetic, IntegerArithmetic):
        return INTEGERS[arithmetic.operand]
    return 1 + sum(FLOATS[arithmetic.operand])


def arithmetic_part(**default: Any) -> Any:
    """The field of a device that says how it computes."""
    return part("formats of operands, products and sums", **default)
