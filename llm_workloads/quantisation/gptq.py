"""GPTQ: weights are rounded one input after another, and those not yet rounded make up for the error.

With H = 2 X^T X over a calibration text and U the upper Cholesky factor of its inverse, row i is rounded, its error
divided by U_ii, and U_ij times that taken from each later row j (Frantar et al., arXiv 2210.17323, algorithm 1). All
outputs share H, so that a matrix is rounded as a whole. Updates of later blocks are put off until a block is done,
which changes nothing but the time.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.format import Format, split
from pim.llm_workloads.formats.step import Step

BLOCK = 128
DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean; the value of the paper."""


def hessian(x: Float[Array, "n n_in"]) -> Float[Array, "n_in n_in"]:
    """The second derivative of the squared error of the outputs, over 2 n: the mean of x^T x (its scale is of no
    account)."""
    return jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST) / x.shape[0]


def gptq(
    w: Float[Array, "n_in n_out"],
    h: Float[Array, "n_in n_in"],
    how: Format,
    *,
    damping: float = DAMPING,
    block: int = BLOCK,
    act_order: bool = False,
) -> Float[Array, "n_in n_out"]:
    """A matrix quantised by GPTQ.

    Args:
        w: weights.
        h: see `hessian`.
        how: the format; a group of inputs gets its scale when its first row is due, from the weights as they are then.
        damping: share of the mean of H's diagonal that is added to it.
        block: rows between two updates of all later rows, of formats without groups.
        act_order: round the inputs with the largest H_ii first; scales of groups are then those of the weights given.

    Raises:
        WorkloadError: no damping and inputs that are not independent, so that H cannot be inverted.

    Example:
        >>> gptq(weights, hessian(x), parse_format("int3:channel"))
    """
    silent = jnp.diagonal(h) == 0  # inputs that are always zero: their weights are of no account
    h = h + jnp.diag(jnp.where(silent, 1.0, 0.0))
    w = jnp.where(silent[:, None], 0.0, w)
    h = h + damping * jnp.diagonal(h).mean() * jnp.eye(h.shape[0])
    order = jnp.argsort(-jnp.diagonal(h)) if act_order else jnp.arange(h.shape[0])
    upper = inverse_factor(h[order][:, order])
    if not np.isfinite(np.asarray(upper)).all():
        raise WorkloadError(f"GPTQ: the Hessian cannot be inverted with damping = {damping}; take 0.01 or more text")
    found = _rounded(w, upper, order, how, block, act_order)
    return jnp.zeros_like(w).at[order].set(found)


def inverse_factor(h: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The upper triangular U with U^T U the inverse of a positive definite matrix; not finite for another one."""
    lower = jnp.linalg.cholesky(h)
    inverse = jax.scipy.linalg.cho_solve((lower, True), jnp.eye(h.shape[0]))
    return jnp.linalg.cholesky((inverse + inverse.T) / 2).T


@partial(jax.jit, static_argnames=("how", "block", "act_order"))
def _rounded(
    w: Float[Array, "n_in n_out"],
    upper: Float[Array, "n_in n_in"],
    order: Int[Array, " n_in"],
    how: Format,
    block: int,
    act_order: bool,
) -> Float[Array, "n_in n_out"]:
    """The rows in the given order, rounded."""
    fixed = row_steps(w, how) if act_order or how.size is None else None
    if fixed is not None:
        fixed = jax.tree.map(lambda leaf: leaf[order], fixed)
    rest, done = w[order], []
    size = block if fixed is not None or how.size is None else how.size
    for start in range(0, w.shape[0], size):
        rows = slice(start, min(start + size, w.shape[0]))
        part = rest[: rows.stop - rows.start]
        if fixed is None:
            steps = jax.tree.map(lambda leaf, p=part: jnp.broadcast_to(leaf, p.shape), how.step(part, (-2,)))
        else:
            steps = jax.tree.map(lambda leaf, r=rows: leaf[r], fixed)
        kept, errors = _round_block(part, upper[rows, rows], steps, how)
        done.append(kept)
        later = jnp.matmul(upper[rows, rows.stop :].T, errors, precision=jax.lax.Precision.HIGHEST)
        rest = rest[rows.stop - rows.start :] - later
    return jnp.concatenate(done)


def row_steps(w: Float[Array, "n_in n_out"], how: Format) -> Step:
    """The step of every weight."""
    if how.per == "tensor" or how.size is None:
        step = how.step(w, (-2, -1) if how.per == "tensor" else (-2,))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, w.shape), step)
    groups = split(w, how.size, -2)
    step = how.step(groups, (-2,))
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, groups.shape).reshape(-1, w.shape[1])[: w.shape[0]], step)


def _round_block(
    w: Float[Array, "rows n_out"], upper: Float[Array, "rows rows"], steps: Step, how: Format
) -> tuple[Float[Array, "rows n_out"], Float[Array, "rows n_out"]]:
    """The rows of a block rounded one after another, and their errors over U_ii."""

    def one(rest: Array, row: tuple[Array, Array, Step]) -> tuple[Array, tuple[Array, Array]]:
        index, of_row, step = row
        kept = how.number.nearest(rest[index], step)
        error = (rest[index] - kept) / of_row[index]
        return rest - of_row[:, None] * error[None, :], (kept, error)  # rows before have zeros in U

    rows = (jnp.arange(w.shape[0]), upper, steps)
    return jax.lax.scan(one, w, rows)[1]
