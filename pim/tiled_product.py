"""A product tile by tile: what each tile of a matrix is given, and what is made of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from pim.arriving import Arriving
from pim.devices.converters.span import Span
from pim.devices.macro import AnalogMacro
from pim.mapping.tiles import cut_inputs


class Feed(NamedTuple):
    """What a product gives to its tiles, with a leading axis of them; to one of them, without."""

    tile: Int32[Array, "*tiles"]
    levels: Float[Array, "*tiles steps batch rows"]
    weights: Any
    variance: Float[Array, "*tiles #rows #columns"] | None
    span: Span
    adcs: Float[Array, "*tiles numbers parts columns"] | None
    offset: Float[Array, "*tiles batch"] | None
    scale: Float[Array, "*tiles n_out"] | None

    def of_vectors(self, first: Any, count: int) -> "Feed":
        """To one tile, what is of some input vectors (`first` may be traced)."""
        some = lambda leaf, axis: jax.lax.dynamic_slice_in_dim(leaf, first, count, axis)
        return self._replace(levels=some(self.levels, 1), offset=None if self.offset is None else some(self.offset, 0))


class TiledProduct(NamedTuple):
    """A product tile by tile; its sums and `Feed.span` are in one unit, cells or smallest products."""

    feeds: Feed
    sums: Callable[[Feed], Arriving]
    convert: Callable[[Feed, Arriving], Float[Array, "batch n_out"]]
    scaled: Callable[[Float[Array, "*tiles batch n_out"]], Float[Array, "*tiles batch n_out"]]
    at_once: bool

    def of_tile(self, feed: Feed) -> Float[Array, "batch n_out"]:
        """What one tile adds to the product, before `scaled`."""
        return self.convert(feed, self.sums(feed))

    def total(self) -> Float[Array, "batch n_out"]:
        """The whole product: its tiles all at once, or one after another."""
        if self.at_once:
            return self.scaled(jax.vmap(self.of_tile)(self.feeds).sum(axis=0))
        first = jax.eval_shape(self.of_tile, jax.tree.map(lambda leaf: leaf[0], self.feeds))
        zero = jnp.zeros(first.shape, first.dtype)
        y, _ = jax.lax.scan(lambda total, feed: (total + self.of_tile(feed), None), zero, self.feeds)
        return self.scaled(y)


def input_sums(
    macro: AnalogMacro, planes: Float[Array, "steps batch n_in"], gains: Float[Array, "steps"]
) -> Float[Array, "tiles batch"]:
    """The digital sum of each tile's inputs, as they are told to the converters."""
    return cut_inputs((gains[:, None, None] * planes).sum(axis=0), macro.rows_at_once).sum(axis=-1)
