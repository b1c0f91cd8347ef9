"""Some vectors at a time, where all of them together would take too much memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def in_turns(function: Callable[[Any], Array], vectors: Any, most: int) -> Array:
    """[vectors, ...] of a function of at most `most` vectors: those of each leaf's first axis, the last turn filled up.

    >>> in_turns(lambda each: each[0] @ w, (x,), 32)
    """
    total = jax.tree.leaves(vectors)[0].shape[0]
    turns = -(-total // most)
    most = -(-total // turns)  # as even as they can be: little is filled up

    def cut(leaf):
        filled = jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (turns * most - total, *leaf.shape[1:]))])
        return filled.reshape(turns, most, *leaf.shape[1:])

    found = jax.lax.map(function, jax.tree.map(cut, vectors))
    return found.reshape(turns * most, -1)[:total]
