"""What attention costs in arrays: keys and values are written there token by token, and multiplied by what comes.

Each sequence and key head has a matrix of its own in arrays of its own, and all of them work side by side: energy and
area are those of all, time is that of one. Queries of a group share their matrix and take turns.

    keys    [head_dim, tokens]    a token is a column of cells, written word line after word line
    values  [tokens, head_dim]    a token is a word line

What is new is written before it is read, and that time is not hidden. Tokens that are new together share word lines
(keys) or fill arrays that are written side by side (values). Reference columns stay as they are. Reading is that of
weights, over the tokens that are seen; where causal queries see a mean number of them, tiles are those of that number
rounded up, at most one more than the mean of the tiles. Area and leakage are those of all tokens that are kept.

Not counted: refreshing cells that decay, what writing does to cells nearby, arrays that wait for tokens to come, and
moving keys and values to the arrays.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.costs import digital_macro_cost, macro_cost
from pim.costs.digital_operands import assumed_operands
from pim.costs.ledger import UNKNOWN, Ledger, join, ledger_of
from pim.costs.lifetime import noted
from pim.costs.matrix_writing import Shape, Written, written
from pim.costs.operands import uniform_operands
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError
from pim.llm_workloads.operators import DYNAMIC, Product

WRITE = "write"
"""Component of the rows of writing keys and values."""

POINTS = 128
"""Points that are priced in one call, or this times a power of two: one compilation for many numbers of them."""


class Sizes(NamedTuple):
    """Matrices of keys or of values, of one sequence and head; counts may be arrays."""

    keys: bool
    dim: int
    seen: Any  # tokens that a query sees, on average
    room: Any  # tokens that are kept
    new: Any  # tokens that are written
    queries: Any  # vectors of a matrix
    copies: Any  # sequences and heads

    def matrix(self, tokens: Any) -> tuple[Any, Any]:
        """Inputs and outputs of a matrix of so many tokens, rounded up."""
        tokens = np.maximum(np.ceil(tokens), 1)
        return (self.dim, tokens) if self.keys else (tokens, self.dim)


def sizes_of(product: Product) -> Sizes:
    """The sizes of a product of queries and keys, or of weights and values.

    Raises StudyError for a product with a matrix of weights.
    """
    if not product.dynamic:
        raise StudyError(f"{product.path} has a matrix of weights: pim.cost(device, shape) prices it")
    keys = product.path.endswith(DYNAMIC[0])
    dim, seen = (product.n_in, product.n_out) if keys else (product.n_out, product.n_in)
    each = product.copies * dim
    return Sizes(keys, int(dim), seen, product.held / each, product.written / each, product.vectors, product.copies)


def dynamic_cost(device: Device, product: Product, points: int = 1) -> Ledger:
    """The ledger of a product of activations on an analog or digital macro, over [1, points]; leakage apart.

    Rows: those of the macro's `matrix_cost`, and "write". What is multiplied is as the device assumes.

    Args:
        device: with an AnalogMacro or a DigitalMacro.
        product: whose counts may be arrays of `points`.
        points: steps, or points of a sweep.

    Returns:
        Energy (J), latency (s), area (m^2). What writing takes is NaN, unknown, where the device does not say, and of
        a device whose values are traced: facts of cells are none of them.

    Raises:
        StudyError: a product with a matrix of weights.
        DeviceError: a device without the area of its cells.

    Example:
        >>> step = Phase(batch=16, tokens=1, context=np.arange(1, 2049))
        >>> dynamic_cost(pim.preset("rram-wan2022"), products(config, step)[3], 2048).energy.sum(axis=0)
    """
    macro, sizes = device.model, sizes_of(product)
    assumed = uniform_operands(macro) if isinstance(macro, AnalogMacro) else assumed_operands(macro)
    new = _written(device, sizes, sizes.new)
    spent = tuple(_at(value, points) for value in (sizes.copies * new.energy, new.time))
    seen, room = (tuple(_at(n, points, np.int32) for n in sizes.matrix(n)) for n in (sizes.seen, sizes.room))
    counts = (_at(sizes.queries, points), _at(sizes.copies, points))
    priced = _priced(macro, seen, room, *counts, *spent, replace(assumed, source=""))  # it would compile anew
    return priced.map(lambda figures: figures[:, None, :points])


@jax.jit
def _priced(macro: AnalogMacro | DigitalMacro, seen, room, queries, copies, energy, time, operands: Any) -> Ledger:
    """The ledger over points; what is seen and what is kept in one go, which is half to compile."""
    n_in, n_out, vectors = (jnp.concatenate(pair) for pair in (*zip(seen, room, strict=True), (queries, queries)))
    both = _costs(macro).matrix_cost(macro, n_in, n_out, vectors, operands).without("leakage")
    read, there = (both.map(lambda values, half=half: jnp.split(values, 2, axis=1)[half]) for half in (0, 1))
    read = replace(read, energy=read.energy * copies[None], area=there.area * copies[None])
    return join([read, ledger_of([(WRITE, energy, time, 0.0)])])


def written_token(device: Device, sizes: Sizes) -> Written:
    """What writing the key or the value of one token and head takes."""
    return _written(device, sizes, 1)


def _written(device: Device, sizes: Sizes, tokens: Any) -> Written:
    """What writing so many tokens of one head takes."""
    if any(isinstance(value, Tracer) for value in jax.tree.leaves(device.model)):
        return Written(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    n_in, n_out = (np.asarray(size, np.float64) for size in sizes.matrix(tokens))
    return written(device, Shape(n_in, n_out, np.float64(1), activations=True))


def standing_power(device: Device, product: Product, points: int = 1) -> Float[Array, "points"]:
    """Static power (W) of the arrays that hold the keys or values, whether they work or not."""
    sizes = sizes_of(product)
    room = tuple(_at(n, points, np.int32) for n in sizes.matrix(sizes.room))
    return _standing(device.model, *room, _at(sizes.copies, points))[:points]


@jax.jit
def _standing(macro: AnalogMacro | DigitalMacro, n_in, n_out, copies) -> Float[Array, "points"]:
    return _costs(macro).leakage_power(macro, n_in, n_out) * copies


def dynamic_notes(device: Device, product: Product) -> tuple[str, ...]:
    """What is assumed of keys and values in arrays, what is left out, and what is unknown."""
    macro, sizes = device.model, sizes_of(product)
    what = "a key is written word line by word line" if sizes.keys else "a value is written as one word line"
    told = [f"{what}; sequences and heads have arrays of their own, written and then read side by side"]
    if np.any(np.asarray(sizes.seen) % 1):
        told.append("a mean number of tokens that causal queries see is rounded up")
    analog = isinstance(macro, AnalogMacro)
    facts, path = (macro.cell.facts, "cell.facts.retention") if analog else (macro.facts, "facts.retention")
    if facts is not None and facts.retention is not None:
        held = f"its cells keep what they hold for {float(facts.retention):.3g} s{noted(device, path)}"
        told.append(f"refreshing is not counted: {held}")
    if analog:
        assumed, rest = f"operand statistics {uniform_operands(macro).source}", macro_cost.uncounted(macro)
    else:
        assumed, *rest = digital_macro_cost.notes(macro)
    return (*told, *written_token(device, sizes).notes, f"of keys, values and their queries: {assumed}", *rest)


def _costs(macro: AnalogMacro | DigitalMacro) -> Any:
    return macro_cost if isinstance(macro, AnalogMacro) else digital_macro_cost


def _at(value: Any, points: int, kind: Any = np.float32) -> np.ndarray:
    """A count at each point, and the last once more up to a shared length."""
    each = np.broadcast_to(np.asarray(value, kind).reshape(-1), points)
    length = POINTS << max(0, -(-points // POINTS) - 1).bit_length()
    return np.pad(each, (0, length - points), mode="edge")
