"""A matrix into arrays of analog cells, tile by tile."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from pim.circuit.arrays import fold_tile
from pim.circuit.sums import HeldCells
from pim.converters import frozen_adcs
from pim.crossbar import Crossbar
from pim.devices.macro import AnalogMacro
from pim.devices.random import CYCLE_USES, cycle_key, site_key
from pim.formulation import ANALOG, Formulation
from pim.inputs import frozen_dacs
from pim.mapping.encoding import encoding_of, lines_of
from pim.mapping.remapped import best_places
from pim.mapping.residual import residual_digits, residual_gains
from pim.mapping.tiles import column_arrays, cut_rows, row_tiles
from pim.mapping.weights import Digits, weight_scale
from pim.ranges import Ranges
from pim.whole_sums import whole_cells, whole_weights

FAINT = 1e-3
"""Of the window: a conductance that shows what a current loses on its way, and changes nothing there."""


OF_THE_CHIP = ("die", "wafer")
"""Uses of keys that are the same for all cells of a chip."""


class Tile(NamedTuple):
    """The programmed cells of a tile: a row of arrays side by side that share their inputs."""

    signal: Float[Array, "terms rows columns"]
    variance: Float[Array, "#rows #columns"] | None
    conductance: Float[Array, "rows"]
    cells: HeldCells | None


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
    site = {"layer": layer, "operator": operator}
    scale = scale_of(weights, macro)
    one_tile = tile_programmer(weights.shape, macro, key, time, temperature, cycle=cycle, **site)
    tiles = jax.lax.map(lambda tile: one_tile(*tile), weight_tiles(weights, scale, macro))
    blank = unprogrammed(weights, scale, macro, key, device=device, ranges=ranges, formulation=formulation, **site)
    programmed = with_tiles(blank, macro, tiles)
    if formulation.kind != "lossless":
        return programmed
    digits = _cut(macro, weights / _by_row(scale, macro.rows, weights.shape[0]))
    return replace(programmed, weights=whole_weights(formulation, macro, digits))


def with_tiles(blank: Crossbar, macro: AnalogMacro, tiles: Tile) -> Crossbar:
    """The crossbar with the cells of its tiles, which have a leading axis; a lossless one is still without weights."""
    n_in, formulation, variance, cells = blank.n_in, blank.formulation, tiles.variance, tiles.cells
    if variance is not None:
        variance = _each_group(macro, n_in, variance) if _alike(macro) else _groups(macro, n_in, variance)
    lossless = formulation.kind == "lossless"
    return replace(
        blank,
        weights=blank.weights if lossless else kept_cells(formulation, macro, _groups(macro, n_in, tiles.signal)),
        variance=variance,
        conductance=_groups(macro, n_in, tiles.conductance[..., None])[..., 0],
        cells=None if cells is None else replace(cells, reference=cells.reference[0]),
    )


def unprogrammed(
    weights: Float[Array, "n_in n_out"],
    scale: Float[Array, "#tiles n_out"],
    macro: AnalogMacro,
    key: Key[Array, ""] | None,
    *,
    layer: Any = 0,
    operator: Any = 0,
    device: str = "",
    ranges: Ranges | None = None,
    formulation: Formulation = ANALOG,
) -> Crossbar:
    """All of a programmed matrix but its cells, which are None: scales, converters, and where it is."""
    n_in, n_out = weights.shape
    cell, digits = macro.cell, _cut(macro, jnp.zeros((1, 1)))
    adcs = frozen_adcs(macro, key, row_tiles(n_in, macro.rows), n_out, layer, operator)
    nothing: Any = None
    return Crossbar(
        weights=nothing,
        variance=None,
        gains=digits.gains,
        offset=None
        if digits.offset is None
        else digits.offset + digits.gains.sum() * cell.g_min / (cell.g_max - cell.g_min),
        scale=scale if len(scale) == 1 else _each_group(macro, n_in, scale),
        conductance=nothing,
        ranges=ranges,
        adcs=None if adcs is None else _each_group(macro, n_in, adcs),
        dacs=frozen_dacs(macro, key, n_in, layer, operator),
        layer=jnp.asarray(layer, jnp.int32),
        n_in=n_in,
        operator=jnp.asarray(operator, jnp.uint32),
        device=device,
        formulation=formulation,
    )


def scale_of(weights: Float[Array, "n_in n_out"], macro: AnalogMacro) -> Float[Array, "#tiles n_out"]:
    """The weight of full conductance, over the whole matrix or of each tile."""
    n_out = weights.shape[1]
    block = -(-n_out // column_arrays(n_out, macro))
    return weight_scale(weights, macro.weight_scale, macro.weight_range, macro.rows, block)


def weight_tiles(
    weights: Float[Array, "n_in n_out"], scale: Float[Array, "#tiles n_out"], macro: AnalogMacro
) -> tuple[Int32[Array, "tiles"], Float[Array, "tiles rows n_out"], Float[Array, "tiles n_out"]]:
    """What `tile_programmer` is given, tile by tile: number, weights (the last tile filled up with zeros) and scale."""
    cut = cut_rows(weights, macro.rows)
    return jnp.arange(len(cut), dtype=jnp.int32), cut, jnp.broadcast_to(scale, (len(cut), weights.shape[1]))


def tile_programmer(
    shape: tuple[int, ...],
    macro: AnalogMacro,
    key: Key[Array, ""] | None,
    time,
    temperature=None,
    *,
    layer: Any = 0,
    operator: Any = 0,
    cycle: Any = None,
    die: Key[Array, ""] | None = None,
) -> Callable[[Array, Array, Array], Tile]:
    """What programs a tile of a matrix of that shape, given its number, its weights and its scale (`weight_tiles`).

    `die` is the key of what all cells of the chip share, where `key` is of one of its matrices alone.
    """
    encoding, lines, cell = encoding_of(macro), lines_of(macro), macro.cell
    site = {"layer": layer, "operator": operator}
    n_in, n_out = shape
    arrays = column_arrays(n_out, macro)
    window = cell.g_max - cell.g_min
    environment = None if key is None else macro.environment
    reference = 1.0 if environment is None else environment.reference(macro.vdd)
    temperature = macro.temperature if temperature is None else temperature

    def one_tile(tile: Int32[Array, ""], weights: Float[Array, "rows n_out"], scale: Float[Array, "n_out"]) -> Tile:
        rows = jnp.minimum(n_in - tile * macro.rows, macro.rows)
        there = (jnp.arange(macro.rows) < rows)[None, :, None]
        digits = jnp.where(there, _cut(macro, weights / scale[None]).digits, 0.0)

        def keys(use):
            assert key is not None
            return cell_key(key if die is None or use not in OF_THE_CHIP else die, cycle, use, tile=tile, **site)

        def targets(digits):
            return cell.targets(jax.vmap(lambda d: encoding.fractions(d, arrays), out_axes=1)(digits))

        def written(digits):
            return targets(digits) if key is None else cell.written(targets(digits), keys, cycle)

        if macro.slicing == "residual":
            digits = residual_digits(digits[0], macro, encoding, arrays, written)
        g = read = targets(digits)
        if key is not None:
            stuck = None
            if macro.remapping is not None and cell.faults is not None:
                states = cell.faults.states(keys("fault"), g.shape, macro.remapping.spare_outputs * arrays)
                share = (g - cell.g_min) / window
                weighing = _cut(macro, jnp.zeros((1, 1))).gains ** 2
                stuck = best_places(macro.remapping, weighing, share, states, there[0, :, 0], arrays).of(states)
            g = _made_once(tile, lambda: cell.program(g, keys, time, temperature, cycle, stuck), g)
            read = cell.read_mean(g)
        variance = cell.read_variance(g)
        held = read
        cells = HeldCells(held, variance, jnp.asarray(reference, jnp.float32)) if macro.solved_at_reads else None
        if macro.wires is not None and cells is None:
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
            variance = variance[:1, :1] if _alike(macro) else variance
        return Tile(jnp.stack(signal) / window, variance, g.sum(axis=(0, 1, 3)), cells)

    return one_tile


def tile_groups(
    tile: Tile, macro: AnalogMacro, formulation: Formulation
) -> tuple[Any, Float[Array, "groups #rows #columns"] | None]:
    """Of one tile, what products need of its cells, and their variance, for each group of rows that is driven at once.

    Where a circuit is solved at each read they are the cells themselves.
    """
    if tile.cells is not None:
        return tile.cells, None
    weights = kept_cells(formulation, macro, _groups(macro, macro.rows, tile.signal[None]))
    if tile.variance is None:
        return weights, None
    spread = _each_group if _alike(macro) else _groups
    return weights, spread(macro, macro.rows, tile.variance[None])


def kept_cells(formulation: Formulation, macro: AnalogMacro, signal: Float[Array, "tiles rows columns"]) -> Array:
    """What a formulation that sums up tile by tile keeps of the signals of cells."""
    return whole_cells(formulation, macro, signal) if formulation.whole else signal


def _made_once(tile: Int32[Array, ""], make: Callable[[], Array], like: Array) -> Array:
    """What `make` gives, as an array.

    A branch that is always taken, since the result of one is kept: XLA on processors would else make it anew, its draws
    too, for each of its uses, in loops so large that they are no longer vectorised (seven times slower, JAX 0.10.1).
    """
    return jax.lax.cond(tile >= 0, make, lambda: like)


def _alike(macro: AnalogMacro) -> bool:
    """Whether one variance is that of all cells."""
    return macro.cell.reads_alike and macro.wires is None


def _by_row(scale: Float[Array, "#tiles n_out"], rows: int, n_in: int) -> Float[Array, "#n_in n_out"]:
    """The scale of each row of the matrix."""
    return scale if len(scale) == 1 else jnp.repeat(scale, rows, axis=0)[:n_in]


def _cut(macro: AnalogMacro, weights: Float[Array, "n_in n_out"]) -> Digits:
    """Weights in slices; residual ones are found when they are programmed, from the weight as it is."""
    if macro.slicing == "residual":
        return Digits(jnp.clip(weights, -1.0, 1.0)[None], residual_gains(macro))
    return encoding_of(macro).digits(weights, macro.weight_bits, macro.slices)


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
    if use in OF_THE_CHIP:
        return site_key(chip, use=use)
    if use in CYCLE_USES and cycle is not None:
        chip = cycle_key(chip, cycle)
    return site_key(chip, use=use, **site)
