"""The sums of a tile's columns where wires resist and no effective conductance will do: one circuit for each vector.

That is so where inputs switch cells on and off, where cells are not ohmic, and where the noise of reads is wanted as it
is and not to first order (`ArrayWires.reads`). Read noise is then drawn for every cell
and read, where no conductance can be below zero, and a vector for which no solution was found has the sums NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from pim.circuit.arrays import Layout, layout, to_arrays
from pim.circuit.field import converged, solve_vectors
from pim.circuit.gate import gate_currents
from pim.circuit.newton import solve_nonlinear
from pim.devices.array_wires import ArrayWires
from pim.devices.macro import AnalogMacro
from pim.devices.random import fold, normal, row_keys
from pim.devices.record import leaf, record
from pim.mapping.encoding import encoding_of
from pim.turns import in_turns

VECTORS = 32  # solved side by side: 17 MB of cells of a pair of 256 x 256 arrays


@record
class HeldCells:
    """The cells of a matrix as its arrays hold them."""

    conductance: Float[Array, "*layers arrays pair slices rows columns"] = leaf("S", "mean over reads")
    variance: Float[Array, "*layers arrays pair slices rows columns"] | None = leaf("S^2", "of reads; None: no noise")
    reference: Float[Array, "*layers"] = leaf("1", "what reference currents are of their nominal ones")

    def of_array(self, array: Any) -> "HeldCells":
        """Those of one array of a matrix (may be traced)."""
        one = lambda held: held[array]
        return HeldCells(one(self.conductance), jax.tree.map(one, self.variance), self.reference)


def circuit_sums(
    macro: AnalogMacro,
    cells: HeldCells,
    tile: Any,
    levels: Float[Array, "steps batch active_rows"],
    n_in: int,
    n_out: int,
    arrays: int,
    noise: tuple[Key[Array, ""], UInt32[Array, "batch 2"]] | None,
) -> Float[Array, "steps batch slices signals"]:
    """Sums in cells of full conductance and input, as `column_sums.exact_sums` has them without wires.

    Args:
        macro: the device, with wires.
        cells: of the array that has these rows.
        tile: number of the group of rows that is driven (may be traced); the other rows of its array are at 0 V.
        levels: of the word lines, a plane a step.
        n_in: inputs of the matrix.
        n_out: its outputs.
        arrays: how many stand side by side.
        noise: key of the tile's reads, and (document, position) of each input vector; None: no noise.
    """
    steps, batch, active = levels.shape
    groups = macro.rows // active
    array, group = tile // groups, tile % groups
    g, variance = cells.conductance, cells.variance
    pair, slices, _, columns = g.shape
    wires = macro.wires
    assert wires is not None
    where = layout(wires, (pair, slices, columns), n_out, arrays)
    rows = jnp.clip(n_in - array * macro.rows, 0, macro.rows)
    there = (jnp.arange(macro.rows) < rows)[None, None, :, None]
    g = jnp.where(there, g, 0.0)

    # a transistor is on or off, whatever its gate's driver adds
    shares = jnp.round(levels) if wires.input == "gate" else macro.dac.pulse(levels)[0]
    volts = jnp.zeros((steps * batch, macro.rows)).at[:, :active].set(shares.reshape(-1, active) * macro.v_read)
    volts = jnp.roll(volts, group * active, axis=1)

    def one(vector):
        v, key = vector
        read = g
        if key is not None and variance is not None:
            sigma = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
            read = jnp.where((variance > 0) & there, jnp.maximum(g + sigma * normal(key, g.shape), 0.0), g)
        return _currents(macro, wires, to_arrays(read, where), v, rows, where)

    keys = None
    if noise is not None and variance is not None:
        own = row_keys(*noise)
        keys = jax.vmap(lambda step: jax.vmap(lambda key: fold(key, step))(own))(jnp.arange(steps)).reshape(-1)
    currents = in_turns(jax.vmap(one), (volts, keys), VECTORS)  # [vectors, places]
    currents = currents[:, where.place].reshape(-1, pair, slices, columns)
    return _signals(macro, currents, volts, cells.reference).reshape(steps, batch, slices, -1)


def _currents(
    macro: AnalogMacro,
    wires: ArrayWires,
    g: Float[Array, "arrays lines rows width"],
    v: Float[Array, "rows"],
    rows,
    where: Layout,
) -> Float[Array, "places"]:
    """Current (A) at each place of all arrays for one vector; lines that share a bit line have it on the first."""

    def one_array(cells, used):
        law = macro.cell.conduction
        if wires.input == "gate" and law is None:
            return gate_currents(cells, v[None], wires, rows)[0]
        if law is None:
            found = solve_vectors(cells, v[None], wires, rows, used)
        else:
            found = solve_nonlinear(cells, v[None], wires, law, rows, used)
        return jnp.where(converged(found.residual, wires)[0], found.currents[0], jnp.nan)

    sensed = jax.vmap(one_array)(g, jnp.asarray(where.used))
    lines = g.shape[1]
    return jnp.pad(sensed[:, None], [(0, 0), (0, lines - 1), (0, 0)]).reshape(-1)


def _signals(
    macro: AnalogMacro,
    currents: Float[Array, "vectors pair slices columns"],
    volts: Float[Array, "vectors rows"],
    reference: Float[Array, ""],
) -> Float[Array, "vectors slices signals"]:
    """What the converters see: the encoding's signal of the currents, and of those of reference cells without wires."""
    cell, encoding = macro.cell, encoding_of(macro)
    drives = [volts] if cell.conduction is None else cell.conduction.drives(volts)

    def nominal(g):
        terms = [a * b.sum(axis=1, keepdims=True) for a, b in zip(cell.strengths(g), drives, strict=True)]
        return sum(terms[1:], terms[0])

    ends = nominal(reference * cell.g_min), nominal(reference * cell.g_max)
    signal = jax.vmap(lambda i: encoding.signal(i, *ends), in_axes=2, out_axes=1)(jnp.moveaxis(currents, 0, 1))
    return signal / ((cell.g_max - cell.g_min) * macro.v_read)
