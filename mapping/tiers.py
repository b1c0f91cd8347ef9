"""Tiles of stacked tiers, one tier active at a time: where matrices go, and what has to wait for what.

A tile of three-dimensional memory holds many tiers behind one set of converters (Buechel et al., Nature Computational
Science 5, 2025): it multiplies by one of them at a time. Matrices of a layer that are wanted at once should lie in
different tiles; experts of which a token takes a few can lie on top of one another, or side by side.

Time goes in products: all take as long as one, so that what happens is counted step by step. Attention, norms and
links take none: the simulator's figures for them are placeholders.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import layer_path
from pim.mapping.errors import MappingError
from pim.mapping.expert_parallel import SPREAD

STACKED = "stacked"
EXPERTS = (SPREAD, STACKED)
"""Where the experts of a layer lie: each tile by tile behind the one before, or all on the tiles of the first."""

Placement = Mapping[str, tuple[int, ...]]
"""The tiles of a matrix, one for each of its parts, by the matrix's path."""


@dataclass(frozen=True)
class Stack:
    """Tiles and their tiers; the defaults of a tier are those of that paper's simulator, src/threedsim/accelerator.py.

    Attributes:
        tiles: how many there are.
        tiers: of each.
        rows, columns: inputs and outputs of a tier.
        time: s of a product with a tier.
        energy: J of it.

    Example:
        >>> Stack(tiles=100, tiers=1024).place(known_shape("gpt2"))["layers.0.attention.q"]
        (0, 1, 2, 3)
    """

    tiles: int
    tiers: int
    rows: int = 512
    columns: int = 512
    time: float = 100e-9
    energy: float = 10e-9

    def parts(self, n_in: int, n_out: int) -> int:
        """Tiers that a matrix takes."""
        return -(-n_in // self.rows) * -(-n_out // self.columns)

    def place(self, config: ModelConfig, experts: str = SPREAD) -> Placement:
        """Tiles for every matrix of a model but its head's transform, in the order in which they run.

        Each part goes to the next tile that is least full; the experts of a layer as `experts` says.

        Raises MappingError where there are too few tiers, or for an unknown way to lay experts.
        """
        if experts not in EXPERTS:
            raise MappingError(f"experts = {experts!r}: take one of {', '.join(EXPERTS)}")
        shapes = {layer_path(i, o): s for i in range(config.num_hidden_layers) for o, s in config.matrix_shapes.items()}
        shapes |= dict(config.outer_shapes)
        need, room = sum(self.parts(*shape) for shape in shapes.values()), self.tiles * self.tiers
        if need > room:
            raise MappingError(
                f"the model needs {need:,} tiers of {self.rows} x {self.columns}, has {room:,}: {self.tiles} tiles of "
                f"{self.tiers} tiers; raise one of them"
            )
        full, placed = np.zeros(self.tiles, int), {}
        for path, shape in shapes.items():
            first = _first_expert(path)
            count = self.parts(*shape)
            if experts == STACKED and first != path and (full[list(placed[first])] < self.tiers).all():
                found = placed[first]
                np.add.at(full, list(found), 1)
            else:
                found = tuple(_next(full) for _ in range(count))
            placed[path] = found
        if (full > self.tiers).any():
            raise MappingError(f"{int(full.max())} tiers of a tile are asked for, it has {self.tiers}: spread experts")
        return placed


def _first_expert(path: str) -> str:
    """The same matrix of the first expert of its layer."""
    front, mark, rest = path.partition(".experts.")
    return f"{front}{mark}0.{rest.partition('.')[2]}" if mark else path


def _next(full: np.ndarray) -> int:
    """The first of the tiles that are least full, which then has one more tier in use."""
    tile = int(np.argmin(full))
    full[tile] += 1
    return tile


@dataclass(frozen=True)
class Conflicts:
    """What a trace of tokens took.

    Attributes:
        products: products with a tier.
        conflicts: those that found their tile at work for another.
        waited: steps that they waited for it, all together.
        steps: until the last token was through.
        busy: steps that each tile worked.
    """

    products: int
    conflicts: int
    waited: int
    steps: int
    busy: tuple[int, ...]

    @property
    def share(self) -> float:
        """Share of the products that had to wait."""
        return self.conflicts / self.products

    def latency(self, stack: Stack) -> float:
        """Time (s) of the trace."""
        return self.steps * stack.time

    def energy(self, stack: Stack) -> float:
        """Energy (J) of its products."""
        return self.products * stack.energy


def stages(config: ModelConfig, chosen: Int[Any, "layers experts_per_token"] | None = None) -> list[list[str]]:
    """What one token goes through: the matrices that it meets at once, one such group after another.

    Args:
        config: of the model.
        chosen: the experts that the token takes in each layer; None for a model without.

    Raises MappingError for a trace that is none of this model.

    Example:
        >>> stages(known_shape("mixtral-8x7b"), routing[:, token])[2]  # the experts' first matrices of layer 0
    """
    ffn, shape = config.ffn, (config.num_hidden_layers, config.ffn.experts_per_token)
    taken = np.zeros((config.num_hidden_layers, 0), int) if chosen is None else np.asarray(chosen)
    if ffn.experts and taken.shape != shape:
        raise MappingError(
            f"a token takes {shape[1]} experts in each of {shape[0]} layers: a trace of shape {taken.shape} does not "
            "say which"
        )
    if ffn.experts and not (0 <= taken.min() and taken.max() < ffn.experts):
        raise MappingError(
            f"a trace names experts {taken.min()} to {taken.max()}, but there are {ffn.experts} from 0 on"
        )
    found = []
    for layer in range(config.num_hidden_layers):
        fronts = [f"ffn.experts.{int(e)}" for e in taken[layer]] if ffn.experts else ["ffn"]
        first = ("gate", "up") if ffn.gated else ("up",)
        groups = [
            ["attention.q", "attention.k", "attention.v"],
            ["attention.o"],
            ["ffn.router"] if ffn.experts else [],
            [f"{front}.{name}" for front in fronts for name in first],
            [f"{front}.down" for front in fronts],
        ]
        found += [[layer_path(layer, name) for name in group] for group in groups if group]
    return [*found, *([path] for path in config.outer_shapes)]


def count_conflicts(placement: Placement, tokens: Sequence[Sequence[Sequence[str]]]) -> Conflicts:
    """Run tokens through tiles of which each does one product a step, the token that came first going first.

    Args:
        placement: tiles of each matrix (`Stack.place`).
        tokens: the stages of each; all of them start at the same time.

    Example:
        >>> found = count_conflicts(stack.place(config), [stages(config, routing[:, t]) for t in range(32)])
        >>> found.share, found.latency(stack)
    """
    tiles = 1 + max(tile for found in placement.values() for tile in found)
    waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(tiles)]  # (token, step of arrival) at each tile
    left, at = [0] * len(tokens), [0] * len(tokens)
    busy, products, conflicts, waited, step = [0] * tiles, 0, 0, 0, 0

    def arrive(token: int) -> None:
        for path in tokens[token][at[token]]:
            for tile in placement[path]:
                waiting[tile].append((token, step))
                left[token] += 1

    for token in range(len(tokens)):
        arrive(token)
    while any(waiting):
        done = []
        for tile, queue in enumerate(waiting):
            if not queue:
                continue
            first = min(range(len(queue)), key=lambda i, queue=queue: queue[i][0])
            token, since = queue[first]
            del queue[first]
            busy[tile] += 1
            products += 1
            conflicts += since < step
            waited += step - since
            left[token] -= 1
            done += [token] * (left[token] == 0)
        step += 1
        for token in sorted(done):
            at[token] += 1
            if at[token] < len(tokens[token]):
                arrive(token)
    return Conflicts(products, conflicts, waited, step, tuple(busy))
