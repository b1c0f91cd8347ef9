"""One array of a chip as a SPICE netlist, at one read of one input vector."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.circuit.arrays import layout, to_arrays
from pim.circuit.netlist import netlist
from pim.devices.array_wires import ArrayWires
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import is_many
from pim.files import atomic_write
from pim.inputs import check_inputs, drive
from pim.mapping.tiles import column_arrays, cut_inputs
from pim.tile_programming import program_tiles

if TYPE_CHECKING:
    from pim.chip import Chip


def export_spice(chip: "Chip", path: Path | str, *, tile: int, array: int, x: Any, read: int) -> None:
    """Write the netlist; see `Chip.export_spice`."""
    if chip.crossbar is None or not isinstance(chip.model, AnalogMacro):
        raise DeviceError("only arrays of analog cells are circuits that can be exported")
    if is_many(chip.key):
        raise DeviceError("one chip is exported at a time: take chips[0].export_spice(...)")
    macro = chip.model
    wires = ArrayWires(*(np.float32(0.0),) * 5) if macro.wires is None else macro.wires  # type: ignore[arg-type]
    n_in, n_out = chip.weights.shape
    active, arrays = macro.rows_at_once, column_arrays(n_out, macro)
    tiles, groups = -(-n_in // active), macro.rows // active
    _check_index("tile", tile, tiles)
    g = _cells(chip, macro, wires)[tile // groups]
    where = layout(wires, (g.shape[0], g.shape[1], g.shape[3]), n_out, arrays)
    _check_index("array", array, len(where.used))

    levels = jnp.ones((1, tiles, active)) if x is None else _levels(chip, macro, x)
    _check_index("read", read, len(levels))
    rows = min(macro.rows, n_in - tile // groups * macro.rows)
    volts = np.zeros(macro.rows)
    first = tile % groups * active
    volts[first : first + active] = np.asarray(levels[read, tile], np.float64) * float(macro.v_read)
    held = to_arrays(g, where)[array, :, :rows, : where.used[array]]
    title = f"array {array} of tile {tile}, {held.shape[1]} x {held.shape[2]} cells, read {read}"
    atomic_write(path, netlist(np.asarray(held), wires, volts[:rows], macro.cell.conduction, title))


def _cells(chip: "Chip", macro: AnalogMacro, wires: ArrayWires) -> jax.Array:
    """The conductances (S) of all cells of a chip, [tiles, pair, slices, rows, columns], means over reads."""
    holding = replace(macro, wires=replace(wires, reads="solved"))  # whose cells are kept as they are
    when = chip.time, chip.temperature
    programmed = jax.jit(lambda w, m, key, cycle: program_tiles(w, m, key, *when, cycle=cycle))
    cells = programmed(chip.weights, holding, chip.key, chip.cycle).cells
    assert cells is not None
    return cells.conductance


def _levels(chip: "Chip", macro: AnalogMacro, x: Any) -> jax.Array:
    """Word-line levels of each read, [reads, tiles, rows], as told to the converters."""
    x = jnp.asarray(x, jnp.float32)
    if x.shape != chip.weights.shape[:1]:
        raise DeviceError(f"x has the shape {x.shape}; give one vector of {chip.weights.shape[0]} inputs")
    check_inputs(macro, x[None], "x")
    assert chip.crossbar is not None
    ranges = chip.crossbar.ranges
    _, planes, _ = drive(macro, x[None], None if ranges is None else ranges.x)
    return jnp.moveaxis(cut_inputs(planes[:, 0], macro.rows_at_once), 0, 1)


def _check_index(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise DeviceError(f"{name} = {index}, but this chip has {count}: give 0 to {count - 1}")
