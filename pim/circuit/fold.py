"""Wire resistance folded into conductances: the exact effective conductance of every cell of an array.

A linear array with resistive wires is still a linear map from voltages to currents: I = Geff^T V. Geff is found without
iteration by eliminating one row after another, from the far end of the bit lines to their sense amplifiers.

One row. Its cells, with conductances g, hang between the word line, at V less the drop K c of its own currents c, and
bit lines at voltages b (Kirchhoff): c = g (V 1 - K c - b), so

    c = M (V 1 - b),   M = (diag(1/g) + K)^-1 = D - D Z D,   D = diag(g),   Z = (K^-1 + D)^-1.

Z is the resistance between two nodes of a ladder whose rungs g are grounded. With l the resistance of the part towards
the driver, and y the conductance of the part away from it, both seen from node j, and by the chain rule of dividers,

    Z_jj = l_j / (1 + l_j y_j),   Z_jk = Z_jj prod_{i=j+1..k} 1 / (1 + r y_i)   (j < k).

All rows. Seen from a row's bit lines, everything above it is a Norton equivalent: an admittance Y and a current F V. A
segment r in series with every line turns Y into N = (1 + r Y)^-1 Y and F into (1 + r Y)^-1 F = (1 - r N) F, the next
row adds its M to Y and the column M 1 to F (each of its word lines does, if it has several), and the sense amplifiers'
resistance is a last, longer segment.

Wires conduct 10^4 times better than cells, so nodal equations lose 4 of float32's 7 digits. Here nothing is subtracted
that is of the same size: drops enter as r y and r N.

N changes little from row to row, so that (1 + r Y)^-1 is that of the row before times a geometric series in the
difference, of norm at most r max(g); three terms do at 100 uS and 1 Ohm. It costs 2 m n^2 (n + m) operations or so, as
four products of matrices a row: the longer side of the array is eliminated, which by reciprocity is the same circuit
with its two kinds of line exchanged.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.array_wires import ArrayWires, by_distance

SERIES_LIMIT = 0.25  # r max(g) up to which the series is summed; beyond, a segment resists like a cell: solve


class Folded(NamedTuple):
    """Effective conductances (S): the current of each bit line for a volt on each word line.

    The residual says how well they fulfil the equations of the circuit (relative, at the last row).
    """

    conductance: Float[Array, "lines rows columns"]
    residual: Float[Array, ""]


class Lines(NamedTuple):
    """Resistances (Ohm) of a kind of line: of a segment, and of its end."""

    segment: Any
    end: Any


def fold(g: Float[Array, "lines rows columns"], wires: ArrayWires, rows=None, columns=None) -> Folded:
    """The effective conductance of each cell of an array of linear cells: I = sum_l V_l @ conductance[l].

    Args:
        g: conductances (S), zero where there is no cell; one word line a row, or more, whose cells share the bit lines.
        wires: their resistances; inputs must be sources.
        rows: rows that are there (None: all; may be traced). The others, last, count as absent; theirs are g = 0.
        columns: the same of columns.

    Exact to rounding in the precision of `g`, and differentiable. Over many arrays `jax.lax.map` is as fast as it gets.

    >>> fold(jnp.full((1, 128, 128), 50e-6), ArrayWires(word_line=1.0, bit_line=1.0)).conductance[0]
    """
    _, m, n = g.shape
    along = by_distance(n, columns, wires.drive_side)
    down = by_distance(m, rows, wires.sense_side)

    def sorted_cells(cells):
        return cells[..., down, :][..., along]

    word, bit = Lines(wires.word_line, wires.source), Lines(wires.bit_line, wires.sense)
    cells = sorted_cells(g)
    if g.shape[0] == 1 and n > m:  # reciprocity
        folded = _eliminate(cells.swapaxes(1, 2), bit, word)
        folded = folded._replace(conductance=folded.conductance.swapaxes(1, 2))
    else:
        folded = _eliminate(cells, word, bit)
    return folded._replace(conductance=sorted_cells(folded.conductance))


def _eliminate(g: Float[Array, "lines rows columns"], word: Lines, bit: Lines) -> Folded:
    """The same with cells in the order of their distance from driver and sense amplifier: rows go from the last on."""
    lines, m, n = g.shape
    word, bit = jax.tree.map(lambda r: jnp.asarray(r, g.dtype), (word, bit))
    ladders = jax.vmap(partial(_ladder, word))(g)
    bound = jax.lax.stop_gradient(2.0 * bit.segment * jnp.max(g.sum(axis=0)))
    terms = _series_terms(bound, m)
    first = jnp.arange(m) == 0  # behind it there is the sense amplifier too: another admittance than a row before
    segments = bit.segment + jnp.where(first, bit.end, 0.0)
    bounds = jnp.where(first & (bit.end > 0), jnp.inf, bound)

    def row(carry, one):
        behind, transfer, _ = carry
        cells, (diagonal, log_divider), segment, bound, i = one
        own = [_row_admittance(cells[k], diagonal[k], log_divider[k]) for k in range(lines)]
        admittance = behind + sum(own)
        driven = jnp.stack([a.sum(axis=1) for a in own], axis=1)
        transfer = jax.lax.dynamic_update_slice(transfer, driven, (0, i * lines))
        behind = _behind_segment(admittance, behind, segment, bound, terms)
        return (behind, transfer - segment * _product(behind, transfer), admittance), None

    nothing = jnp.zeros((n, n), g.dtype)
    by_row = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (g, ladders))
    start = (nothing, jnp.zeros((n, m * lines), g.dtype), nothing)
    (behind, transfer, last), _ = jax.lax.scan(row, start, (*by_row, segments, bounds, jnp.arange(m)), reverse=True)
    residual = jax.lax.stop_gradient(_residual(last, behind, segments[0]))
    return Folded(jnp.moveaxis(transfer.reshape(n, m, lines), 0, 2).swapaxes(0, 1), residual)


def _residual(admittance: Float[Array, "n n"], behind: Float[Array, "n n"], segment) -> Float[Array, ""]:
    """How far N is from (1 + r Y)^-1 Y, and Y from symmetric (reciprocity), of Y."""
    off = admittance - behind - segment * _product(admittance, behind)
    off = jnp.maximum(jnp.max(jnp.abs(off)), jnp.max(jnp.abs(admittance - admittance.T)))
    largest = jnp.max(jnp.abs(admittance))
    return off / jnp.where(largest == 0, 1.0, largest)


def _ladder(
    word: Lines, g: Float[Array, "rows columns"]
) -> tuple[Float[Array, "rows columns"], Float[Array, "rows columns"]]:
    """Of each node of the word lines: its resistance Z_jj, and the sum of log(1 + r y) up to it."""

    def away(y, rung):
        y = y / (1.0 + word.segment * y) + rung
        return y, y

    def towards(resistance, rung):
        return word.segment + resistance / (1.0 + rung * resistance), resistance

    none = jnp.zeros_like(g[:, 0])
    _, y = jax.lax.scan(away, none, g.T, reverse=True)
    _, resistance = jax.lax.scan(towards, none + (word.end + word.segment), g.T)
    return (resistance / (1.0 + resistance * y)).T, jnp.cumsum(jnp.log1p(word.segment * y), axis=0).T


def _row_admittance(
    g: Float[Array, "columns"], diagonal: Float[Array, "columns"], log_divider: Float[Array, "columns"]
) -> Float[Array, "columns columns"]:
    """M = D - D Z D of one row."""
    along = jnp.arange(g.shape[0])
    nearer = jnp.where(along[:, None] <= along[None, :], diagonal[:, None], diagonal[None, :])
    resistance = nearer * jnp.exp(-jnp.abs(log_divider[:, None] - log_divider[None, :]))
    return jnp.diag(g) - g[:, None] * resistance * g[None, :]


def _series_terms(bound: Float[Array, ""], rows: int):
    """Terms of a series of that ratio after which what is left out, added up over all rows, is below rounding."""
    allowed = jnp.finfo(bound.dtype).eps / (1.0 + 0.5 * rows**2)
    ratio = jnp.clip(bound, jnp.finfo(bound.dtype).tiny, SERIES_LIMIT)
    return jnp.ceil(jnp.log(allowed) / jnp.log(ratio)).astype(jnp.int32) - 1


@jax.custom_jvp
def _behind_segment(
    admittance: Float[Array, "n n"], guess: Float[Array, "n n"], segment, bound, terms
) -> Float[Array, "n n"]:
    """N = (1 + r Y)^-1 Y, the admittance Y behind a segment r, from the N of the row before as a guess.

    (1 + r Y)(1 - r guess) = 1 + r Q with Q = Y - guess - r Y guess, so N = guess + (1 - r guess)(Q - r Q Q + ...).
    """

    def series():
        off = admittance - guess - segment * _product(admittance, guess)

        def add(_, state):
            term, total = state
            term = -segment * _product(off, term)
            return term, total + term

        _, total = jax.lax.fori_loop(1, terms, add, (off, off))
        return guess + total - segment * _product(guess, total)

    def direct():
        return jnp.linalg.solve(jnp.eye(admittance.shape[0], dtype=admittance.dtype) + segment * admittance, admittance)

    return jax.lax.cond(bound <= SERIES_LIMIT, series, direct)


@_behind_segment.defjvp
def _(primals, tangents):
    """dN = (1 - r N) dY (1 - r N) - N N dr, whatever the guess."""
    behind = _behind_segment(*primals)
    segment, (change, _, change_of_segment, *_) = primals[2], tangents
    change = change - segment * _product(behind, change)
    change = change - segment * _product(change, behind)
    return behind, change - change_of_segment * _product(behind, behind)


def _product(a: Float[Array, "n k"], b: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """In full precision, on accelerators too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
