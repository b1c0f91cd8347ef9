"""Figures of many operators at many points at once, priced in one call, and the ledgers that are made of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.costs.ledger import Ledger, kind


class Block(NamedTuple):
    """Rows of a ledger for several operators: its figures are [components, operators, points].

    The points are steps of a phase, or those of a sweep; a single one stands for all where nothing differs.
    """

    ledger: Ledger
    members: Sequence[Sequence[str]]
    """The operators for each of which a figure stands."""

    @property
    def time(self) -> Float[Array, "points"]:
        """Time (s) that all of them take, one after another."""
        return (self.ledger.latency.sum(axis=0) * self._each()).sum(axis=0)

    def _each(self) -> Float[Array, "operators 1"]:
        return jnp.asarray([len(paths) for paths in self.members], jnp.float32)[:, None]

    def times(self, points: int) -> list[tuple[str, Float[Array, "points"]]]:
        """The time (s) of each operator."""
        if not self.members:
            return []
        each = jnp.broadcast_to(self.ledger.latency.sum(axis=0), (len(self.members), points))
        rows = [each[i] for i in range(len(self.members))]
        return [(path, row) for row, paths in zip(rows, self.members, strict=True) for path in paths]

    def times_over(self, times: int, slower: Float[Array, "points"]) -> "Block":
        """The same work done so many times, in that many times the time of one."""
        ledger = self.ledger
        done = replace(ledger, energy=ledger.energy * times, latency=ledger.latency * slower[None, None])
        return self._replace(ledger=done)

    def summed(self, steps: int) -> Ledger:
        """The rows of every operator, summed over so many steps; its area is the largest."""
        if not self.members:
            return EMPTY
        once = self.ledger.energy.shape[-1] == 1
        add = (lambda figures: figures[..., 0] * steps) if once else (lambda figures: figures.sum(axis=-1))
        ledger = self.ledger
        total = Ledger(
            ledger.operators, ledger.components, add(ledger.energy), add(ledger.latency), ledger.area.max(axis=-1)
        )
        paths = [path for group in self.members for path in group]
        column = jnp.asarray([i for i, group in enumerate(self.members) for _ in group], jnp.int32)
        return total.map(lambda figures: figures[:, column]).spread(paths)

    def by_kind(self, points: int) -> Ledger:
        """The rows of every kind of operator at each point, layers summed."""
        if not self.members:
            return EMPTY.map(lambda figures: jnp.zeros((0, points)))
        each, shape = self._each(), (len(self.ledger.components), len(self.members), points)
        ledger = self.ledger.map(lambda f: jnp.broadcast_to(f * each[None], shape).reshape(-1, points))
        names = [kind(group[0]) for group in self.members]
        rows = [(component, name) for component in self.ledger.components for name in names]
        return Ledger(tuple(name for _, name in rows), tuple(component for component, _ in rows), *_figures(ledger))


def beside(one: Block, other: Block) -> Block:
    """Both, operators side by side; a component that only one of them has is nothing in the other."""
    components = tuple(dict.fromkeys([*one.ledger.components, *other.ledger.components]))
    points = max(block.ledger.energy.shape[-1] for block in (one, other))

    def widened(block: Block, figures: Array) -> Array:
        rows = dict(zip(block.ledger.components, figures, strict=True))
        nothing = jnp.zeros((len(block.members), points))
        return jnp.stack(
            [jnp.broadcast_to(rows[name], nothing.shape) if name in rows else nothing for name in components]
        )

    figures = [
        jnp.concatenate([widened(one, mine), widened(other, theirs)], axis=1)
        for mine, theirs in zip(_figures(one.ledger), _figures(other.ledger), strict=True)
    ]
    return Block(Ledger(components, components, *figures), [*one.members, *other.members])


def _figures(ledger: Ledger) -> tuple[Any, Any, Any]:
    return ledger.energy, ledger.latency, ledger.area


def block_of(ledger: Ledger, name: str) -> Block:
    """A block of one operator from its ledger over points, or over none."""
    return Block(ledger.map(lambda figures: figures.reshape(figures.shape[0], 1, -1)), [[name]])


EMPTY = Ledger((), (), *(jnp.zeros(0) for _ in range(3)))
NOTHING = Block(EMPTY.map(lambda figures: jnp.zeros((0, 0, 1))), [])
