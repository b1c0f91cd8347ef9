"""A matrix into arrays of analog cells, tile by tile."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pim.circuit.arrays import fold_tile
from pim.circuit.sums import HeldCells
from pim.converters import frozen_adcs
from pim.crossbar import Crossbar
from pim.devices.macro import AnalogMacro
from pim.devices.random import CYCLE_USES, cycle_key, site_key
from pim.formulation import ANALOG, Formulation
from pim.inputs import frozen_dacs
from pim.mapping.encoding import Encoding, encoding_of, lines_of
from pim.mapping.residual import residual_digits, residual_gains
from pim.mapping.tiles import column_arrays, cut_rows, row_tiles
from pim.mapping.weights import Digits, weight_scale
from pim.ranges import Ranges
from pim.whole_sums import whole_cells, whole_weights

FAINT = 1e-3
"""Of the window: a conductance that shows what a current loses on its way, and changes nothing there."""


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
    formulation: Formulation = ANALOG,
) -> Crossbar:
    """Program a matrix: tiles one after another, so that only one tile's cells are at hand at a time.

    Without a key it is the nominal matrix, as the designer intends it: targets without write error, drift and faults.
    `cycle` counts how often the chip was written before; None is 0. `formulation` says what is kept of the cells, and
    how products with them are computed.
    """
    encoding, lines, cell = encoding_of(macro), lines_of(macro), macro.cell
    n_in, n_out = weights.shape
    arrays = column_arrays(n_out, macro)
    window = cell.g_max - cell.g_min
    scale = weight_scale(weights, macro.weight_scale, macro.weight_range, macro.rows, -(-n_out // arrays))
    cut = _cut(macro, encoding, weights / _by_row(scale, macro.rows, n_in))
    environment = None if key is None else macro.environment
    reference = 1.0 if environment is None else environment.reference(macro.vdd)
    temperature = macro.temperature if temperature is None else temperature

    alike = cell.reads_alike and macro.wires is None  # one variance for all cells

    def one_tile(tile_digits):
        tile, digits = tile_digits

        def keys(use):
            assert key is not None
            return cell_key(key, cycle, use, layer=layer, operator=operator, tile=tile)

        def targets(digits):
            return cell.targets(jax.vmap(lambda d: encoding.fractions(d, arrays), out_axes=1)(digits))

        def written(digits):
            return targets(digits) if key is None else cell.written(targets(digits), keys, cycle)

        if macro.slicing == "residual":
            digits = residual_digits(digits[0], macro, encoding, arrays, written)
        g = read = targets(digits)
        if key is not None:
            g = cell.program(g, keys, time, temperature, cycle)
            read = cell.read_mean(g)
        variance = cell.read_variance(g)
        held = read
        cells = HeldCells(held, variance, jnp.asarray(reference, jnp.float32)) if macro.solved_at_reads else None
        if macro.wires is not None and cells is None:
            rows = jnp.minimum(n_in - tile * macro.rows, macro.rows)
            read = fold_tile(held, macro.wires, n_out, arrays, rows)
            if variance is not None:  # to first order what a cell's noise loses on its way is what its current does
                some = jnp.maximum(held, FAINT * window)  # cells of no conductance have noise too
                variance = variance * (fold_tile(some, macro.wires, n_out, arrays, rows) / some) ** 2

        def fold(matrix):  # slices into the columns
            return jnp.moveaxis(matrix, 0, 1).reshape(macro.rows, -1)

        strengths = zip(
            *(cell.strengths(value) for value in (read, reference * cell.g_min, reference * cell.g_max)), strict=True
        )
        signal = [fold(jax.vmap(lines.signal, in_axes=(1, None, None))(*a)) for a in strengths]
        if variance is not None:
            variance = fold(jax.vmap(lines.noise, in_axes=1)(variance)) / window**2
            variance = variance[:1, :1] if alike else variance
        return jnp.stack(signal) / window, variance, g.sum(axis=(0, 1, 3)), cells

    tiles = cut_rows(cut.digits, macro.rows)
    signal, variance, conductance, cells = jax.lax.map(one_tile, (jnp.arange(tiles.shape[0]), tiles))
    grouped = partial(_groups, macro, n_in)
    adcs = frozen_adcs(macro, key, tiles.shape[0], n_out, layer, operator)

    def kept():
        if formulation.kind == "lossless":
            return whole_weights(formulation, macro, cut)
        cells = grouped(signal)
        return whole_cells(formulation, macro, cells) if formulation.whole else cells

    return Crossbar(
        weights=kept(),
        variance=None if variance is None else (_each_group(macro, n_in, variance) if alike else grouped(variance)),
        gains=cut.gains,
        offset=None if cut.offset is None else cut.offset + cut.gains.sum() * cell.g_min / window,
        scale=scale if len(scale) == 1 else _each_group(macro, n_in, scale),
        conductance=grouped(conductance[..., None])[..., 0],
        ranges=ranges,
        cells=None if cells is None else replace(cells, reference=cells.reference[0]),
        adcs=None if adcs is None else _each_group(macro, n_in, adcs),
        dacs=frozen_dacs(macro, key, n_in, layer, operator),
        layer=jnp.asarray(layer, jnp.int32),
        n_in=n_in,
        operator=jnp.asarray(operator, jnp.uint32),
        device=device,
        formulation=formulation,
    )


def _by_row(scale: Float[Array, "#tiles n_out"], rows: int, n_in: int) -> Float[Array, "#n_in n_out"]:
    """The scale of each row of the matrix."""
    return scale if len(scale) == 1 else jnp.repeat(scale, rows, axis=0)[:n_in]


def _cut(macro: AnalogMacro, encoding: Encoding, weights: Float[Array, "n_in n_out"]) -> Digits:
    """Weights in slices; residual ones are found when they are programmed, from the weight as it is."""
    if macro.slicing == "residual":
        return Digits(jnp.clip(weights, -1.0, 1.0)[None], residual_gains(macro))
    return encoding.digits(weights, macro.weight_bits, macro.slices)


def _groups(
    macro: AnalogMacro, n_in: int, tiles: Float[Array, "arrays *terms rows columns"]
) -> Float[Array, "tiles driven_rows columns"]:
    """Arrays cut into the groups of rows that are driven at once, each with all terms of its cells' current."""
    arrays, columns, active = tiles.shape[0], tiles.shape[-1], macro.rows_at_once
    groups = tiles.reshape(arrays, -1, macro.rows // active, active, columns)
    return jnp.moveaxis(groups, 2, 1).reshape(-1, groups.shape[1] * active, columns)[: row_tiles(n_in, active)]


def _each_group(macro: AnalogMacro, n_in: int, arrays: Float[Array, "arrays *rest"]) -> Float[Array, "tiles *rest"]:
    """What arrays have, for each group of their rows."""
    active = macro.rows_at_once
    return jnp.repeat(arrays, macro.rows // active, axis=0)[: row_tiles(n_in, active)]


def cell_key(chip: Key[Array, ""], cycle: Any, use: str, **site: Any) -> Key[Array, ""]:
    """The key of the cells of one site for a use: that of the chip, of the site, or of the site at this writing."""
    if use in ("die", "wafer"):
        return site_key(chip, use=use)
    if use in CYCLE_USES and cycle is not None:
        chip = cycle_key(chip, cycle)
    return site_key(chip, use=use, **site)
