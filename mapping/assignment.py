"""The assignment problem, in JAX: to each row of costs a column of its own, so that the sum of costs is least.

By shortest augmenting paths: rows enter one by one, and each moves those before it along the cheapest path of changes
(Kuhn, Naval Research Logistics Quarterly 2, 1955; Jonker and Volgenant, Computing 38, 1987). O(rows^2 columns).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

FAR = jnp.float32(jnp.inf)


class Search(NamedTuple):
    """The search for a free column; entry 0 of columns stands for the row that enters."""

    at: Int32[Array, ""]
    least: Float[Array, "places"]  # cost of the cheapest path to each column
    back: Int32[Array, "places"]  # the column before it on that path
    done: Bool[Array, "places"]
    rows: Float[Array, "entries"]  # potentials; the last entry is of no row
    columns: Float[Array, "places"]


@jax.jit
def assigned(costs: Float[Array, "rows columns"]) -> Int32[Array, "rows"]:
    """The column of each row, with the least sum of costs; as they are numbered, if no other order is better.

    There must be at least as many columns as rows, and costs must be finite.

    >>> assigned(jnp.array([[1.0, 0.0, 2.0], [0.0, 5.0, 5.0]]))
    Array([1, 0], dtype=int32)
    """
    count, places = costs.shape
    padded = jnp.concatenate([jnp.full((count, 1), FAR), costs], axis=1)

    def enter(row: Int32[Array, ""], state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        owner, rows, columns = state
        owner = owner.at[0].set(row)

        def step(search: Search) -> Search:
            done = search.done.at[search.at].set(True)
            of = owner[search.at]
            reach = padded[of] - search.rows[of] - search.columns
            nearer = ~done & (reach < search.least)
            least = jnp.where(nearer, reach, search.least)
            back = jnp.where(nearer, search.at, search.back)
            following = jnp.argmin(jnp.where(done, FAR, least)).astype(jnp.int32)
            change = least[following]
            return Search(
                following,
                jnp.where(done, least, least - change),
                back,
                done,
                search.rows.at[jnp.where(done, owner, count)].add(jnp.where(done, change, 0.0)),
                jnp.where(done, search.columns - change, search.columns),
            )

        zero = jnp.int32(0)
        begin = Search(
            zero,
            jnp.full(places + 1, FAR),
            jnp.zeros(places + 1, jnp.int32),
            jnp.zeros(places + 1, bool),
            rows,
            columns,
        )
        found = jax.lax.while_loop(lambda search: owner[search.at] < count, step, begin)

        def move(given: tuple[Array, Array]) -> tuple[Array, Array]:
            at, owner = given
            before = found.back[at]
            return before, owner.at[at].set(owner[before])

        _, owner = jax.lax.while_loop(lambda given: given[0] != 0, move, (found.at, owner))
        return owner.at[0].set(count), found.rows, found.columns

    free = jnp.full(places + 1, count, jnp.int32)
    owner, *_ = jax.lax.fori_loop(0, count, enter, (free, jnp.zeros(count + 1), jnp.zeros(places + 1)))
    column = jnp.zeros(count + 1, jnp.int32).at[owner].set(jnp.arange(-1, places, dtype=jnp.int32))[:count]
    own = jnp.arange(count, dtype=jnp.int32)
    better = costs[own, column].sum() < costs[own, own].sum()
    return jnp.where(better, column, own)
