"""The currents of an array whose inputs switch transistors: each column is a circuit of its own, solved exactly.

The word lines carry no current. A column is a ladder: its source lines (one, or one for each cell of a pair), fed at
one end, its bit line, sensed at the other, and between them the cells that are switched on. It is eliminated row by row
from the fed end: what lies behind a row is a mesh of conductances between the row's nodes and ground, with a current
into each node (Norton). A resistor in series with a node makes the node internal, and the star-mesh transformation
takes it out (Rosen, 1924): every conductance that remains is a sum of positive products, and float32 loses nothing.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.circuit.field import polarities
from pim.devices.array_wires import ArrayWires, by_distance

SHORT = 1e-9  # Ohm: of a source without resistance


def gate_currents(
    g: Float[Array, "*each lines rows columns"], volts: Float[Array, "batch rows"], wires: ArrayWires, rows=None
) -> Float[Array, "batch columns"]:
    """The sensed currents (A) for each vector of voltages that the inputs let through; rows at 0 V are off.

    Args:
        g: conductances (S), the same for all vectors or with a leading axis for the batch; zero where there is no cell.
            One source line a column, or two, fed with +V and -V.
        volts: of the rows.
        wires: resistances of bit and source lines; the source lines are fed where the bit lines are not sensed.
        rows: rows that are there (None: all; may be traced).

    Differentiable, and independent of what else is in the batch.
    """
    m = g.shape[-2]
    down = by_distance(m, rows, wires.sense_side)
    there = jnp.ones(m, bool) if rows is None else jnp.arange(m) < rows
    supply = jnp.where(there, wires.source_line, 0.0).astype(g.dtype)  # segments of rows that are not there: none

    def one(cells, v):
        return _column_currents(cells[:, down], v[down], supply, wires)

    return jax.vmap(one, in_axes=(0 if g.ndim == 4 else None, 0))(g, volts)


def _column_currents(
    g: Float[Array, "lines rows columns"], v: Float[Array, "rows"], supply: Float[Array, "rows"], wires: ArrayWires
) -> Float[Array, "columns"]:
    """Rows in the order of their distance from the sense amplifier."""
    lines, _, columns = g.shape
    bit, ground = lines, lines + 1  # nodes: the source lines, the bit line, ground
    signs = jnp.array(polarities(lines), g.dtype)
    bit_line, sense, source = (jnp.asarray(r, g.dtype) for r in (wires.bit_line, wires.sense, wires.source))
    mesh = jnp.zeros((lines + 2, lines + 2, columns), g.dtype)
    for line in range(lines):
        mesh = _between(mesh, line, ground, 1.0 / jnp.maximum(source, SHORT))

    def row(state, one):
        mesh, current = state
        cells, volt, segment = one
        cells = jnp.where(volt != 0, cells, 0.0)
        for line in range(lines):
            mesh, current = _in_series(mesh, current, line, segment)
        for line in range(lines):
            mesh = _between(mesh, line, bit, cells[line])
            own = signs[line] * volt * cells[line]
            current = current.at[bit].add(own).at[line].add(-own)
        return _in_series(mesh, current, bit, bit_line), None

    start = (mesh, jnp.zeros((lines + 2, columns), g.dtype))
    (mesh, current), _ = jax.lax.scan(row, start, (jnp.moveaxis(g, 1, 0), v, supply), reverse=True)
    mesh, current = _in_series(mesh, current, bit, sense)
    for line in range(lines):  # the ends of the source lines are open: their nodes are internal too
        mesh, current = _internal(mesh, current, line)
    return current[bit]


def _between(mesh: Float[Array, "n n columns"], a: int, b: int, conductance) -> Float[Array, "n n columns"]:
    """One more conductance between two nodes."""
    return mesh.at[a, b].add(conductance).at[b, a].add(conductance)


def _in_series(
    mesh: Float[Array, "n n columns"], current: Float[Array, "n columns"], node: int, resistance
) -> tuple[Float[Array, "n n columns"], Float[Array, "n columns"]]:
    """The mesh seen through a resistor (Ohm) in series with a node."""
    arms = mesh[node].at[node].set(0.0)
    reached = 1.0 / (1.0 + resistance * arms.sum(axis=0))
    away = arms * (resistance * reached)[None]
    mesh = mesh + away[:, None] * arms[None, :]
    mesh = mesh.at[node].set(arms * reached[None]).at[:, node].set(arms * reached[None])
    inner = current[node]
    return mesh, (current + away * inner[None]).at[node].set(inner * reached)


def _internal(
    mesh: Float[Array, "n n columns"], current: Float[Array, "n columns"], node: int
) -> tuple[Float[Array, "n n columns"], Float[Array, "n columns"]]:
    """The mesh without a node to which nothing more is connected."""
    arms = mesh[node].at[node].set(0.0)
    share = arms / arms.sum(axis=0)[None]
    mesh = mesh + share[:, None] * arms[None, :]
    mesh = mesh.at[node].set(0.0).at[:, node].set(0.0)
    return mesh, (current + share * current[node][None]).at[node].set(0.0)
