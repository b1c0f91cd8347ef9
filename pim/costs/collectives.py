"""What moving numbers among devices takes: a transfer, and the collectives that devices which share a product need.

Rings, in which each device sends to the next in every step, are bandwidth-optimal (Patarasuk and Yuan, J. Parallel
Distrib. Comput. 69, 2009): of n devices each sends (n - 1)/n of the numbers to gather, and twice that to add up.
"""

from typing import Any

from jaxtyping import Array, Float

from pim.devices.components.link import Link

Spent = tuple[Float[Array, "..."], Float[Array, "..."]]
"""Time (s), and energy (J) of all links together."""


def transfer(link: Link, amount: Any) -> Spent:
    """So many bytes from one device to another."""
    return link.time(amount), link.energy(amount)


def all_gather(link: Link, amount: Any, devices: int) -> Spent:
    """Parts of so many bytes in all, of which each device has one and is to have all."""
    steps = devices - 1
    return steps * link.time(amount / devices), steps * devices * link.energy(amount / devices)


def all_reduce(link: Link, amount: Any, devices: int) -> Spent:
    """Sums over the devices, so many bytes of which each is to have: parts are added up, then gathered.

    >>> all_reduce(link, 2 * 4096, 8)
    """
    time, energy = all_gather(link, amount, devices)
    return 2 * time, 2 * energy


def all_to_all(link: Link, amount: Any, devices: int, busiest: Any = 1.0) -> Spent:
    """So many bytes, of which every device has as many, and as many of those for each of the others.

    Each sends to one after another; where one is sent more than the mean, by the factor `busiest`, all wait for it.

    >>> all_to_all(link, 64 * 2 * 2 * 4096, 8)
    """
    each = amount / devices**2
    return (devices - 1) * link.time(each * busiest), devices * (devices - 1) * link.energy(each)
