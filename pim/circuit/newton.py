"""The currents of an array of non-linear cells with resistive wires, for single vectors.

A cell with voltage u carries I(u), and the drops are linear in the currents (pim/circuit/field.py), so that

    F(u) = u + R I(u) - V = 0.

Newton's method solves (1 + R D) du = -F with D = dI/du, the linear array of the cells' slopes, by the same conjugate
gradients. If currents rise with the voltage there is one solution, and -du is uphill: halving a step until |F| falls
(Armijo's rule) makes it converge from anywhere, so that selectors whose current rises exponentially are no exception.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from pim.circuit.field import Couplings, applied, conjugate_gradients, couplings, drops
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.conduction import Conduction, cell_current

MOST_STEPS = 100
MOST_HALVINGS = 30


class NewtonSolution(NamedTuple):
    """Sensed currents (A), |F| over |V|, Newton's steps, and those of conjugate gradients in all of them."""

    currents: Float[Array, "*batch columns"]
    residual: Float[Array, "*batch"]
    steps: Int32[Array, "*batch"]
    inner_steps: Int32[Array, "*batch"]


def solve_nonlinear(
    g: Float[Array, "*each lines rows columns"],
    volts: Float[Array, "batch rows"],
    wires: ArrayWires,
    law: Conduction | None,
    rows=None,
    columns=None,
) -> NewtonSolution:
    """The sensed currents for each vector of voltages (V), of cells with a law of conduction.

    Args:
        g: low-voltage conductances (S), as in `solve_vectors`; zero where there is no cell.
        volts: of the rows. Where wires.input is "gate", rows at 0 V are off.
        wires: their resistances.
        law: current against voltage; None: a straight line.
        rows: rows that are there (None: all; may be traced).
        columns: the same of columns.

    Each vector stops by itself. Where Newton's method has run out of steps the residual is far above `wires.tolerance`
    (`converged` says so). In float32 a tolerance of 1e-6 gives currents to about 1e-6 too.
    """
    m, n = g.shape[-2:]
    coupled = jax.tree.map(lambda k: k.astype(g.dtype), couplings(wires, m, n, rows, columns))

    def one(cells, v):
        if wires.input == "gate":
            cells = jnp.where((v != 0)[None, :, None], cells, 0.0)

        def current(u):
            return jnp.where(cells > 0, cell_current(law, jnp.where(cells > 0, cells, 1.0), u), 0.0)

        u, residual, steps, inner = _newton(current, applied(v, cells.shape), coupled, wires.tolerance)
        return NewtonSolution(current(u).sum(axis=(0, 1)), residual, steps, inner)

    return jax.vmap(one, in_axes=(0 if g.ndim == 4 else None, 0))(g, volts)


def _newton(current, volts: Float[Array, "lines rows columns"], coupled: Couplings, tolerance):
    """u of F(u) = 0 from the drivers' voltages on, |F| / |V|, and steps."""
    scale = jnp.linalg.norm(volts)
    scale = jnp.where(scale == 0, 1.0, scale)

    def off(u):
        return u + drops(coupled, current(u)) - volts

    def size(f):
        return jnp.linalg.norm(f) / scale

    def unfinished(state):
        _, f, steps, _, stuck = state
        return (size(f) > tolerance) & (steps < MOST_STEPS) & ~stuck

    def step(state):
        u, f, steps, inner, _ = state
        _, slope = jax.jvp(current, (u,), (jnp.ones_like(u),))
        root = jnp.sqrt(jnp.maximum(slope, 0.0))
        enough = jnp.clip(size(f), tolerance, 1e-2)  # keeps Newton's convergence quadratic (Dembo et al., 1982)
        y, _, taken = conjugate_gradients(root, -root * f, coupled, enough)
        move = -f - drops(coupled, root * y)

        def too_far(trial):
            length, f_there, halvings = trial
            return ~(size(f_there) < (1.0 - 1e-4 * length) * size(f)) & (halvings < MOST_HALVINGS)

        def halve(trial):
            length, _, halvings = trial
            return 0.5 * length, off(u + 0.5 * length * move), halvings + 1

        one = jnp.ones((), u.dtype)
        length, f_there, halvings = jax.lax.while_loop(too_far, halve, (one, off(u + move), jnp.int32(0)))
        return u + length * move, f_there, steps + 1, inner + taken, halvings >= MOST_HALVINGS

    start, none = _alone(current, volts, coupled), jnp.int32(0)
    u, f, steps, inner, _ = jax.lax.while_loop(unfinished, step, (start, off(start), none, none, jnp.bool_(False)))
    return u, size(f), steps, inner


def _alone(
    current, volts: Float[Array, "lines rows columns"], coupled: Couplings
) -> Float[Array, "lines rows columns"]:
    """Voltages of the cells, or a bound above, as if each had the wires to itself: u + R_ii I(u) = V, by bisection.

    Where it makes a difference at all, that keeps exponentials from currents that no wire could carry.
    """
    own = jnp.diag(coupled.bit)[None, :, None]
    if coupled.word is not None:
        own = own + jnp.diag(coupled.word)[None, None, :]
    if coupled.source is not None:
        own = own + jnp.diag(coupled.source)[None, :, None]

    def too_large(state):
        _, high, halvings = state
        return jnp.any(~(own * jnp.abs(current(high)) <= jnp.abs(volts))) & (halvings < MOST_HALVINGS)

    def halve(state):
        low, high, halvings = state
        middle = 0.5 * (low + high)
        above = ~(jnp.abs(middle + own * current(middle)) <= jnp.abs(volts))
        return jnp.where(above, low, middle), jnp.where(above, middle, high), halvings + 1

    return jax.lax.while_loop(too_large, halve, (jnp.zeros_like(volts), volts, jnp.int32(0)))[1]
