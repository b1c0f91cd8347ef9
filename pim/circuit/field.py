"""The currents of an array for single vectors, where its conductances differ from vector to vector.

One unknown a cell, its voltage u: each wire is a chain that ends at a fixed potential, so that its drop is linear in
the currents c = g u of its cells,

    u = V - R c,   R c = c K_word + K_bit c   (K: devices/array_wires.py; a source line is one more K beside K_bit).

With s = sqrt(g) and y = s u it is (1 + s R s) y = s V, symmetric and positive definite whatever the wires, cells of
zero conductance included, with all but a few eigenvalues near 1: plain conjugate gradients (Hestenes and Stiefel, 1952)
need 4 to 17 steps, in float32 too. An error of y is no larger than the residual, since no eigenvalue is below 1.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from pim.devices.array_wires import ArrayWires, bit_coupling, source_coupling, word_coupling


class Couplings(NamedTuple):
    """Drops (Ohm) that currents of cells make for each other along their lines; None: no such line carries current."""

    word: Float[Array, "columns columns"] | None
    bit: Float[Array, "rows rows"]
    source: Float[Array, "rows rows"] | None


class Solution(NamedTuple):
    """Sensed currents (A), the residual (relative) and the steps of the solver."""

    currents: Float[Array, "*batch columns"]
    residual: Float[Array, "*batch"]
    steps: Int32[Array, "*batch"]


def converged(residual: Float[Array, "*batch"], wires: ArrayWires) -> Bool[Array, "*batch"]:
    """Whether the solver came to an end; rounding may leave a few times the tolerance. NaN has not converged."""
    return residual <= 10.0 * wires.tolerance


def couplings(wires: ArrayWires, m: int, n: int, rows=None, columns=None) -> Couplings:
    """The couplings of an m x n array, of which `rows` and `columns` are there (None: all; may be traced)."""
    if wires.input == "gate":
        return Couplings(None, bit_coupling(wires, m, rows), source_coupling(wires, m, rows))
    return Couplings(word_coupling(wires, n, columns), bit_coupling(wires, m, rows), None)


def solve_vectors(
    g: Float[Array, "*each lines rows columns"],
    volts: Float[Array, "batch rows"],
    wires: ArrayWires,
    rows=None,
    columns=None,
) -> Solution:
    """The sensed currents for each vector of voltages (V), by conjugate gradients.

    Args:
        g: conductances (S), the same for all vectors or with a leading axis for the batch; zero where there is no cell.
            One word line a row, or two, driven at +V and -V, whose cells share the bit lines.
        volts: of the rows. Where wires.input is "gate", rows at 0 V are off.
        wires: their resistances.
        rows: rows that are there (None: all; may be traced). The others, last, count as absent; theirs are g = 0.
        columns: the same of columns.

    Each vector stops by itself: what else is in the batch does not change it. Where it ran out of steps the
    residual is far above `wires.tolerance`; `converged` says so. Differentiable, by one more solution.
    """
    m, n = g.shape[-2:]
    coupled = jax.tree.map(lambda k: k.astype(g.dtype), couplings(wires, m, n, rows, columns))

    def one(cells, v):
        if wires.input == "gate":
            cells = jnp.where((v != 0)[None, :, None], cells, 0.0)
        currents, residual, steps = cell_currents(cells, applied(v, cells.shape), coupled, wires.tolerance)
        return Solution(currents.sum(axis=(0, 1)), residual, steps)

    return jax.vmap(one, in_axes=(0 if g.ndim == 4 else None, 0))(g, volts)


def polarities(lines: int) -> tuple[float, ...]:
    """Signs of the voltages on the word lines of a row: two are driven at +V and -V, for the two cells of a pair."""
    return (1.0, -1.0)[:lines]


def applied(v: Float[Array, "rows"], shape: tuple[int, ...]) -> Float[Array, "lines rows columns"]:
    """Voltages of the drivers, at each cell."""
    signs = jnp.array(polarities(shape[0]), v.dtype)
    return jnp.broadcast_to(signs[:, None, None] * v[None, :, None], shape)


def drops(coupled: Couplings, current: Float[Array, "lines rows columns"]) -> Float[Array, "lines rows columns"]:
    """R c: the drop (V) that currents make at each cell."""
    product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)  # on accelerators too
    drop = product("ik,kj->ij", coupled.bit, current.sum(axis=0))[None]
    if coupled.word is not None:
        drop = drop + product("lik,kj->lij", current, coupled.word)
    if coupled.source is not None:
        drop = drop + product("ik,lkj->lij", coupled.source, current)
    return jnp.broadcast_to(drop, current.shape)


@jax.custom_jvp
def cell_currents(
    g: Float[Array, "lines rows columns"], volts: Float[Array, "lines rows columns"], coupled: Couplings, tolerance
) -> tuple[Float[Array, "lines rows columns"], Float[Array, ""], Int32[Array, ""]]:
    """c = g u (A) of u = V - R c, the relative residual of the symmetric form, and the steps."""
    root = jnp.sqrt(g)
    y, residual, steps = conjugate_gradients(root, root * volts, coupled, tolerance)
    return root * y, residual, steps


@cell_currents.defjvp
def _(primals, tangents) -> Any:
    """dc = dg u + g du with du = (1 + R g)^-1 (dV - dR c - R dg u)."""
    g, volts, coupled, tolerance = primals
    current, residual, steps = cell_currents(*primals)
    u = volts - drops(coupled, current)
    change_of_g, change_of_volts, change_of_coupled, _ = tangents
    own = change_of_g * u
    change = change_of_volts - drops(change_of_coupled, current) - drops(coupled, own)
    moved = own + g * linear_response(g, change, coupled, tolerance)
    return (current, residual, steps), (moved, jnp.zeros_like(residual), np.zeros(steps.shape, jax.dtypes.float0))


def linear_response(
    g: Float[Array, "lines rows columns"], volts: Float[Array, "lines rows columns"], coupled: Couplings, tolerance
) -> Float[Array, "lines rows columns"]:
    """(1 + R g)^-1 V, linear in V (and so differentiable in V alone)."""
    root = jnp.sqrt(g)

    def solve(_, b):
        return conjugate_gradients(root, b, coupled, tolerance)[0]

    operator = lambda y: y + root * drops(coupled, root * y)
    y = jax.lax.custom_linear_solve(operator, root * volts, solve, symmetric=True)
    return volts - drops(coupled, root * y)


def conjugate_gradients(
    root: Float[Array, "lines rows columns"],
    b: Float[Array, "lines rows columns"],
    coupled: Couplings,
    tolerance,
) -> tuple[Float[Array, "lines rows columns"], Float[Array, ""], Int32[Array, ""]]:
    """y of (1 + s R s) y = b, its residual over |y|, which bounds its relative error, and the steps."""
    limit = most_steps(root, coupled, tolerance)

    def unfinished(state):
        y, _, _, square, steps = state
        return (square > tolerance**2 * jnp.vdot(y, y)) & (steps < limit)

    def step(state):
        y, left, direction, square, steps = state
        image = direction + root * drops(coupled, root * direction)
        length = square / jnp.vdot(direction, image)
        y, left = y + length * direction, left - length * image
        now = jnp.vdot(left, left)
        return y, left, left + (now / square) * direction, now, steps + 1

    start = (jnp.zeros_like(b), b, b, jnp.vdot(b, b), jnp.int32(0))
    y, *_, steps = jax.lax.while_loop(unfinished, step, start)
    left = b - y - root * drops(coupled, root * y)  # the true one: that of the recursion drifts
    size = jnp.linalg.norm(y)
    return y, jnp.linalg.norm(left) / jnp.where(size == 0, 1.0, size), steps


def most_steps(root: Float[Array, "lines rows columns"], coupled: Couplings, tolerance) -> Int32[Array, ""]:
    """Steps after which conjugate gradients have converged in theory, sqrt(kappa) / 2 ln(2 / tolerance), twice over.

    The largest eigenvalue is at most 1 + max(g) times the sum of the lines' largest ones, each at most the largest
    sum along a row.
    """
    largest = sum(jnp.max(k.sum(axis=0)) for k in coupled if k is not None)
    condition = 1.0 + root.shape[0] * jnp.max(root) ** 2 * largest
    return jnp.ceil(jnp.sqrt(condition) * jnp.log(2.0 / tolerance)).astype(jnp.int32) + 10
