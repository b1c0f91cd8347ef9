"""A matrix into arrays of analog cells, tile by tile."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.converters import frozen_adcs
from pim.crossbar import Crossbar
from pim.devices.macro import AnalogMacro
from pim.devices.random import CYCLE_USES, cycle_key, site_key
from pim.inputs import frozen_dacs
from pim.mapping.encoding import ENCODINGS
from pim.mapping.tiles import column_arrays, cut_rows
from pim.mapping.weights import slice_weights, weight_scale
from pim.ranges import Ranges


def program_tiles(
    weights: Float[Array, "n_in n_out"],
    macro: AnalogMacro,
    key: Key[Array, ""] | None,
    time,
    temperature=None,
    *,
    layer: Any = 0,
    operator: Any = 0,
    device: str = "",
    ranges: Ranges | None = None,
    cycle: Any = None,
) -> Crossbar:
    """Program a matrix: tiles one after another, so that only one tile's cells are at hand at a time.

    Without a key it is the nominal matrix, as the designer intends it: targets without write error, drift and faults.
    `cycle` counts how often the chip was written before; None is 0.
    """
    encoding, cell = ENCODINGS[macro.encoding], macro.cell
    n_in, n_out = weights.shape
    arrays = column_arrays(n_out, macro)
    window = cell.g_max - cell.g_min
    scale = weight_scale(weights, macro.weight_scale)
    digits, gains = slice_weights(weights / scale[None], macro.weight_bits, macro.slices)
    environment = None if key is None else macro.environment
    reference = 1.0 if environment is None else environment.reference(macro.vdd)
    temperature = macro.temperature if temperature is None else temperature

    def one_tile(tile_digits):
        tile, part = tile_digits
        targets = cell.targets(jax.vmap(lambda d: encoding.fractions(d, arrays), out_axes=1)(part))
        g = read = targets
        if key is not None:
            keys = partial(cell_key, key, cycle, layer=layer, operator=operator, tile=tile)
            g = cell.program(targets, keys, time, temperature, cycle)
            read = cell.read_mean(g)

        def fold(matrix):  # slices into the columns
            return jnp.moveaxis(matrix, 0, 1).reshape(macro.rows, -1)

        strengths = zip(
            *(cell.strengths(value) for value in (read, reference * cell.g_min, reference * cell.g_max)), strict=True
        )
        signal = [fold(jax.vmap(encoding.signal, in_axes=(1, None, None))(*a)) for a in strengths]
        variance = cell.read_variance(g)
        if variance is not None:
            variance = fold(jax.vmap(encoding.noise, in_axes=1)(variance)) / window**2
        return jnp.concatenate(signal) / window, variance, g.sum(axis=(0, 1, 3))

    tiles = cut_rows(digits, macro.rows)
    signal, variance, conductance = jax.lax.map(one_tile, (jnp.arange(tiles.shape[0]), tiles))
    return Crossbar(
        weights=signal,
        variance=variance,
        gains=gains,
        scale=scale,
        conductance=conductance,
        ranges=ranges,
        adcs=frozen_adcs(macro, key, (tiles.shape[0], signal.shape[2] // macro.slices), n_out, layer, operator),
        dacs=frozen_dacs(macro, key, n_in, layer, operator),
        layer=jnp.asarray(layer, jnp.int32),
        n_in=n_in,
        operator=jnp.asarray(operator, jnp.uint32),
        device=device,
    )


def cell_key(chip: Key[Array, ""], cycle: Any, use: str, **site: Any) -> Key[Array, ""]:
    """The key of the cells of one site for a use: that of the chip, of the site, or of the site at this writing."""
    if use in ("die", "wafer"):
        return site_key(chip, use=use)
    if use in CYCLE_USES and cycle is not None:
        chip = cycle_key(chip, cycle)
    return site_key(chip, use=use, **site)
