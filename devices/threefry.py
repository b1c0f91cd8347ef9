"""Threefry-2x32 in 20 rounds, written out: keys and words are those of `jax.random`, but are fused with their use.

Every word is a function of its key and its place alone, so that what is made of it (a normal number, a sum with one) is
one loop that keeps nothing in memory. JAX's own generator goes round by round over arrays on processors: four times
slower once those have left the cache (JAX 0.10.1).

Source: J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011. As in JAX the counter of a word is
its place in the array, and the word is the exclusive or of a block's two (`jax_threefry_partitionable`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)

Pair = tuple[UInt32[Array, "*n"], UInt32[Array, "*n"]]


def words(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random words of a key for an array of that shape.

    >>> words(jax.random.key_data(key), (3, 4))  # jax.random.bits(key, (3, 4))
    """
    return words_at(key, places(shape))


def words_at(key: UInt32[Array, "2"], place: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """The random words of a key at some places."""
    first, second = (jnp.broadcast_to(word, place.shape) for word in key)
    left, right = _block((first, second), (jnp.zeros_like(place), place))
    return left ^ right


def places(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The place of each element of an array, row by row."""
    assert math.prod(shape) <= 1 << 32, "a key has 2^32 words"
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        step = np.uint32(math.prod(shape[axis + 1 :]))
        place = place + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * step
    return place


@jax.jit
def folded(key: UInt32[Array, "2"], numbers: UInt32[Array, "numbers *n"]) -> Pair:
    """The key, as its two words, into which numbers are folded one after another.

    A loop, which is quicker to compile than the same rounds for each number.
    """

    def fold(key: Pair, number: Array) -> tuple[Pair, None]:
        return _block(key, (jnp.zeros_like(number), number)), None

    first, second = (jnp.broadcast_to(word, numbers.shape[1:]) for word in key)
    return jax.lax.scan(fold, (first, second), numbers)[0]


def _block(key: Pair, words: Pair) -> Pair:
    """Two words, enciphered."""
    schedule = (*key, key[0] ^ key[1] ^ PARITY)
    left, right = words[0] + schedule[0], words[1] + schedule[1]
    for group in range(5):
        for by in ROTATIONS[group % 2]:
            left = left + right
            right = left ^ ((right << np.uint32(by)) | (right >> np.uint32(32 - by)))
        left = left + schedule[(group + 1) % 3]
        right = right + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return left, right
