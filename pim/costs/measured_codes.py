"""How large the output codes of a product are: some converters take more energy for larger ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim import crossbar as engine
from pim.crossbar import Crossbar
from pim.devices.macro import AnalogMacro
from pim.diagnosis import by_part, converted

VECTORS, SOLVED = 256, 16
"""Input vectors that are looked at, at most; where a circuit is solved for each, so many."""


def mean_code(crossbar: Crossbar, macro: AnalogMacro, x: Float[Array, "batch n_in"]) -> Float[Array, ""] | None:
    """Mean magnitude of the output codes over the largest code, for inputs `x`, at the ranges of the matrix.

    Over all conversions of vectors that are evenly spaced in `x`, without noise. None where no codes are known: without
    converters, and where the product of integers goes past them.
    """
    if macro.adc is None or crossbar.formulation.kind == "lossless":
        return None
    most = SOLVED if crossbar.cells is not None else VECTORS
    x = x[:: -(-x.shape[0] // most)]
    product = engine.by_tiles(crossbar, macro, x, jnp.zeros((x.shape[0], 2), jnp.uint32), None)
    lowest, highest, _ = macro.adc.limits()

    def of_tile(feed) -> Float[Array, ""]:
        codes, _ = converted(macro, by_part(product.sums(feed), macro), feed.span, feed.adcs)
        return jnp.mean(jnp.abs(codes + lowest))

    return jnp.mean(jax.lax.map(of_tile, product.feeds)) / jnp.maximum(jnp.abs(lowest), highest)
