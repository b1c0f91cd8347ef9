"""What copies of a device that share the work take to hand results to one another: ring collectives over a link.

n copies stand in a ring, each sending to the next over a link of its own while it receives from the one before. A sum
over all copies that each then has (all-reduce) takes n - 1 steps that add up shares of 1/n and n - 1 that pass the sums
on (Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, J. Parallel Distrib. Comput. 69(2), 2009); times are
those of Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, IJHPCA 19(1),
2005: each step waits the latency of the link and passes its share at the link's rate. Energies are those of all links.

Amounts are bytes and may be arrays, as may n: everything broadcasts. One copy alone has nothing to hand over.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.components.link import Link


class Traffic(NamedTuple):
    """What a collective takes.

    Attributes:
        time: time (s) until all copies have what they are to have.
        energy: energy (J) of all links.
        sent: bytes that cross links, of all of them.
    """

    time: Float[Array, "*shape"]
    energy: Float[Array, "*shape"]
    sent: Float[Array, "*shape"]


def all_reduce(link: Link, amount: Any, n: Any) -> Traffic:
    """Each of n copies has `amount` bytes of partial sums, and then the whole sums.

    Example:
        >>> link = pim.component("link-nvlink").model
        >>> all_reduce(link, 2 * 12288, 8).time       # of a vector of 12,288 numbers in FP16, over 8 GPUs
    """
    return _ring(link, amount, n, rounds=2)


def all_gather(link: Link, amount: Any, n: Any) -> Traffic:
    """Each of n copies has its share of `amount` bytes, and then all of them."""
    return _ring(link, amount, n, rounds=1)


def all_to_all(link: Link, amount: Any, n: Any) -> Traffic:
    """Each of n copies has `amount` bytes, a share of 1/n for each of them: tokens on their way to experts.

    Every pair has a way of its own (a switch): n - 1 steps, in each of which a copy sends to one other.
    """
    return _ring(link, amount, n, rounds=1)


def transfer(link: Link, amount: Any, lanes: Any = 1) -> Traffic:
    """Bytes from one device to another, over as many links side by side as there are `lanes`.

    Nothing to send takes no time.
    """
    amount, lanes = _floats(amount, lanes)
    time = jnp.where(amount > 0, link.time(amount / lanes), 0.0)
    return Traffic(time, _energy(link, amount), amount)


def _ring(link: Link, amount: Any, n: Any, rounds: int) -> Traffic:
    """So many rounds of n - 1 steps, in each of which every copy sends a share of 1/n."""
    amount, n = _floats(amount, n)
    steps, share = rounds * (n - 1), amount / n
    sent = n * steps * share
    time = jnp.where(sent > 0, steps * link.time(share), 0.0)
    return Traffic(time, _energy(link, sent), sent)


def _energy(link: Link, sent: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.asarray(link.energy(sent))


def _floats(*values: Any) -> list[Float[Array, "*shape"]]:
    """Values of a common shape, as numbers that a link's figures are."""
    return jnp.broadcast_arrays(*(jnp.asarray(value, jnp.float32) for value in values))
