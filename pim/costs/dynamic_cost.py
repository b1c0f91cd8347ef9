"""What attention costs in arrays: keys and values are written there token by token, and multiplied by what comes.

Each sequence and key head has arrays of its own, which work side by side. The key of a token is an output, as many word
lines long as a head is wide, written one after another; its value is one word line. Where causal queries see a mean
number of tokens, tiles are those of that number rounded up. Arrays have room for the whole context, and leak with it.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs import digital_macro_cost, macro_cost
from pim.costs.ledger import Ledger, join, ledger_of
from pim.costs.matrix_writing import Shape, Written, written
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.llm_workloads.operators import DYNAMIC, Product

WRITE = "write"
"""Component of the rows of writing keys and values."""


class Sizes(NamedTuple):
    """Matrices of keys or of values, of one sequence and head."""

    keys: bool
    dim: int
    seen: Any  # tokens that a query sees, on average
    room: Any  # tokens that are kept
    new: Any  # tokens that are written
    queries: Any  # vectors of a matrix
    copies: Any  # sequences and heads

    def matrix(self, tokens: Any) -> tuple[Any, Any]:
        """Inputs and outputs of a matrix of so many tokens."""
        tokens = np.maximum(np.ceil(tokens), 1)
        return (self.dim, tokens) if self.keys else (tokens, self.dim)


def sizes_of(product: Product) -> Sizes:
    """The sizes of a product of queries and keys, or of weights and values."""
    keys = product.path.endswith(DYNAMIC[0])
    dim, seen = (product.n_in, product.n_out) if keys else (product.n_out, product.n_in)
    each = product.copies * dim
    return Sizes(keys, int(dim), seen, product.held / each, product.written / each, product.vectors, product.copies)


def dynamic_cost(device: Any, product: Product, points: int) -> Ledger:
    """The ledger of a product of activations on an analog or digital macro, over [1, points]; leakage apart.

    Args:
        device: with an AnalogMacro or a DigitalMacro.
        product: whose counts may be arrays of `points`.
        points: steps, or points of a sweep.

    An energy or a time of writing that is not known of the device is NaN: unknown.
    """
    macro, sizes = device.model, sizes_of(product)
    at = lambda value: np.broadcast_to(np.asarray(value, np.float64).reshape(-1), points)
    copies = jnp.asarray(at(sizes.copies), jnp.float32)[None]
    read = _read(macro, *map(at, sizes.matrix(sizes.seen)), at(sizes.queries)).without("leakage")
    there = _read(macro, *map(at, sizes.matrix(sizes.room)), np.ones(points)).without("leakage")
    read = replace(read, energy=read.energy * copies, area=there.area * copies)
    one = written_token(device, sizes)
    new = at(sizes.new)
    spent = ledger_of([(WRITE, at(sizes.copies) * new * one.energy, new * one.time, 0.0)])
    return join([read, spent]).map(lambda figures: figures[:, None])


def written_token(device: Any, sizes: Sizes) -> Written:
    """What writing the key or the value of one token and head takes."""
    n_in, n_out = sizes.matrix(1)
    return written(device, Shape(np.float64(n_in), np.float64(n_out), np.float64(1)))


def standing_power(device: Any, product: Product, points: int) -> Float[Array, "points"]:
    """Static power (W) of the arrays that hold the keys or values."""
    sizes = sizes_of(product)
    n_in, n_out = (np.broadcast_to(np.asarray(size, np.int32).reshape(-1), points) for size in sizes.matrix(sizes.room))
    power = _costs(device.model).leakage_power(device.model, n_in, n_out)
    return power * jnp.asarray(np.broadcast_to(np.asarray(sizes.copies, np.float64).reshape(-1), points), jnp.float32)


def dynamic_notes(device: Any, product: Product) -> tuple[str, ...]:
    """What is assumed of writing keys and values, and left out."""
    sizes = sizes_of(product)
    what = "a key is written word line by word line" if sizes.keys else "a value is written as one word line"
    told = [f"{what}; sequences and heads have arrays of their own, written and read side by side"]
    macro = device.model
    if isinstance(macro, AnalogMacro) and macro.cell.facts is not None and macro.cell.facts.retention is not None:
        kept = float(macro.cell.facts.retention)
        told.append(f"refreshing is not counted: its cells keep what they hold for {kept:.3g} s")
    return (*told, *written_token(device, sizes).notes)


def _read(macro: AnalogMacro | DigitalMacro, n_in: Any, n_out: Any, vectors: Any) -> Ledger:
    return _costs(macro).matrix_cost(macro, n_in, n_out, vectors)


def _costs(macro: AnalogMacro | DigitalMacro) -> Any:
    return macro_cost if isinstance(macro, AnalogMacro) else digital_macro_cost
