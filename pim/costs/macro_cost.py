"""What a matrix product costs on analog arrays: a closed form in arrays of shapes.

A matrix takes T x A arrays: T tiles along its inputs, A side by side along its outputs. All of them work in parallel.
An input vector takes one read a step of the DAC (one in all with a multi-bit one), and as many again for each phase by
the sign of input or weight. A read runs

    settle -> read for t_read -> the columns of each ADC, one after another -> shift-and-add

without overlap between reads or vectors, or, in a macro with a `pipeline` of stages, each stage on the next sum while
the others are still on; where steps are added in front of the converters, these and what follows come
once a phase, and where rows are read in groups (`active_rows`), all of it once a group. The sums of the T tiles then
meet in a tree of adders. Buffers and bus work behind the converters' backs, so that their latency is 0. Area counts
whole arrays, full or not. Arrays of a macro with a `hierarchy` also pay their shares of what stands around them on a
chip, while they work.

Not counted: writing the cells (see `pim.loading`), what the drivers burn beyond the charge they deliver
at the read voltage, and clock and control.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.costs.hierarchy_cost import shared_leakage, shared_rows
from pim.costs.ledger import Ledger, ledger_of
from pim.costs.operands import Operands, uniform_operands
from pim.costs.stages import Row, factored, factors_note, overlapped
from pim.devices.converters.adc import ADC
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.reach import extrapolations
from pim.mapping.encoding import encoding_of
from pim.mapping.tiles import column_arrays


class Counts(NamedTuple):
    """How much of a macro a matrix takes, and what happens there for one input vector."""

    tiles: Any  # row tiles, T
    groups: Any  # groups of rows of an array, read one after another
    arrays: Any  # all arrays, T x A
    lines: Any  # word lines driven, in all arrays
    cells: Any  # cells that carry current
    columns: Any  # columns of cells in use, in all arrays, for each group of rows
    sums: Any  # sums that are held a read, of all groups
    conversions: Any  # conversions each time that sums are converted
    turns: Any  # conversions that one ADC makes each time, one after another
    adcs: Any  # converters of an array
    signals: int  # sums that are held in a full array
    partial_sums: Any  # digital results that leave the arrays
    depth: Any  # additions, one after another, that sum up the tiles


def counts(macro: AnalogMacro, n_in, n_out) -> Counts:
    """The counts of an [n_in, n_out] matrix; both may be integer arrays of one shape."""
    encoding = encoding_of(macro)
    column_arrays(1, macro)  # raises where an array cannot hold a weight
    per_array = encoding.outputs_per_array(macro.columns, macro.slices)
    whole = -(-n_in // macro.rows)
    read, longest = (-(-size // macro.rows_at_once) for size in (n_in, jnp.minimum(n_in, macro.rows)))
    n_in, n_out, tiles, side, read, longest = (
        jnp.asarray(count, jnp.float32) for count in (n_in, n_out, whole, -(-n_out // per_array), read, longest)
    )  # floats from here on: products of counts overflow int32
    columns = encoding.cell_columns(n_out, side) * macro.slices
    signals, converted = int(encoding.converted(per_array, 1)), macro.converted_slices
    in_use = encoding.converted(jnp.minimum(n_out, per_array), 1) * converted
    outputs = read * encoding.converted(n_out, side)
    shared = macro.adc.columns_per_adc if macro.adc is not None else 1.0
    return Counts(
        tiles=tiles,
        groups=longest,
        arrays=tiles * side,
        lines=n_in * side,
        cells=n_in * columns,
        columns=read * columns,
        sums=outputs * macro.slices,
        conversions=outputs * converted,
        turns=jnp.minimum(shared, in_use),
        adcs=jnp.ceil(signals * converted / shared),
        signals=signals * macro.slices,
        partial_sums=tiles * n_out,
        depth=32 - jax.lax.clz(whole - 1),  # ceil(log2(tiles)), exactly
    )


def matrix_cost(
    macro: AnalogMacro,
    n_in: Any,
    n_out: Any,
    vectors: Any = 1,
    operands: Operands | None = None,
    operator: str = "product",
) -> Ledger:
    """The ledger of `vectors` products with an [n_in, n_out] matrix that stays in its arrays.

    Args:
        macro: the device.
        n_in, n_out, vectors: integers or arrays that broadcast; one call prices them all.
        operands: statistics of inputs and cells; uniform ones if none are given (an assumption, and a high one).
        operator: name for the rows.

    Example:
        >>> matrix_cost(macro, np.array([128, 4096]), 128).energy.sum(axis=0)
    """
    if macro.cell.area is None:
        raise DeviceError("cell.area is unknown for this device; set it, in m^2, to get a cost: cell.area = 1e-13")
    operands = operands if operands is not None else uniform_operands(macro)
    figures, source = jax.tree.flatten(replace(operands, source=""))  # where they come from compiles nothing anew
    shape = (jnp.asarray(size, jnp.int32) for size in (n_in, n_out))
    amounts = (jnp.asarray(value, jnp.float32) for value in (vectors, *figures))
    n_in, n_out, vectors, *figures = jnp.broadcast_arrays(*shape, *amounts)
    return _priced(macro, n_in, n_out, vectors, jax.tree.unflatten(source, figures)).named(operator)


@jax.jit
def _priced(macro: AnalogMacro, n_in, n_out, vectors, operands: Operands) -> Ledger:
    n = counts(macro, n_in, n_out)
    rows = [
        cells_cost(macro, n, vectors, operands),
        lines_cost(macro, n, vectors, operands),
        dac_cost(macro, n, vectors, operands),
        *columns_cost(macro, n, vectors, operands),
        *digital_rows(macro, n, n_in, vectors),
    ]
    if macro.pipeline == "stages":
        rows = overlapped(rows, vectors * macro.conversion_times * n.groups)
    latency = sum(row[2] for row in rows)
    rows += shared_rows(macro.hierarchy, n.arrays, latency * scaling(macro) / slowdown(macro))
    rows = factored(rows, macro.cost_factors)
    rows.append(("leakage", leakage_power(macro, n_in, n_out) * latency, 0.0, 0.0))
    return ledger_of(rows)


def cells_cost(macro: AnalogMacro, n: Counts, vectors, operands: Operands) -> Row:
    """Current through the cells: time of all reads * sum over cells of v_read^2 u^2 G.

    In reads by the sign of the weight half of the columns carry it at a time.
    """
    assert macro.cell.area is not None, "checked by `matrix_cost`"
    time = vectors * macro.read_durations * macro.t_read
    driven = macro.duty * time / macro.weight_phases * (macro.dac.full_duration / macro.dac.durations)
    energy = driven * macro.v_read**2 * operands.u2 * operands.g * n.cells
    return "cells", energy, time * n.groups * slowdown(macro), n.arrays * (macro.rows * macro.columns * macro.cell.area)


def lines_cost(macro: AnalogMacro, n: Counts, vectors, operands: Operands) -> Row:
    """Charging lines, C V^2 a pulse: word lines to their level, select lines by their full swing, and bit lines.

    A bit line settles at a weighted mean of the levels, whose square is at most their mean square: that is taken. Of
    the reads by the sign of an input its word line takes part in one. A row whose input is zero is not selected.
    """
    around = macro.periphery
    if around is None:
        return "lines", 0.0, 0.0, 0.0
    active = operands.active / macro.input_phases
    exposure = operands.u2 * (macro.dac.full_duration / macro.dac.durations)  # steps of fewer pulses are shorter
    level = macro.v_read**2 * jnp.minimum(macro.dac.charged(exposure), active)
    wordlines = n.lines * macro.columns * around.wordline_capacitance * level
    selects = n.lines * macro.columns * around.select_capacitance * around.select_voltage**2 * active
    bitlines = n.columns / macro.weight_phases * macro.rows * around.bitline_capacitance * level
    return "lines", vectors * macro.read_durations * (wordlines + selects + bitlines), 0.0, 0.0


def dac_cost(macro: AnalogMacro, n: Counts, vectors, operands: Operands) -> Row:
    """Input conversion: one a word line and vector, for every array that the line's input goes to.

    It is made again for the reads by the sign of the weight, and once for those by the sign of the input.
    """
    settle = macro.periphery.settle * macro.reads * n.groups if macro.periphery is not None else 0.0
    energy = vectors * macro.weight_phases * n.lines * macro.dac.energy(macro.vdd, operands.active)
    return "dac", energy, vectors * settle * slowdown(macro), n.arrays * macro.rows * macro.dac.area


def columns_cost(macro: AnalogMacro, n: Counts, vectors, operands: Operands) -> list[Row]:
    """Holding bit lines while they are read and converted, an amplifier a sum; holding and converting their sums."""
    around, adc = macro.periphery, macro.adc
    events = vectors * macro.conversion_times
    converting, rows = 0.0, [("adc", 0.0, 0.0, 0.0)]
    if adc is not None and adc.cost is not None:
        energy = events * n.conversions * adc.cost.energy(adc.bits, macro.vdd, operands.code)
        converting = n.turns * adc.cost.latency(adc.bits, macro.rows) * slowdown(macro)
        rows = [("adc", energy, events * n.groups * converting, n.arrays * n.adcs * adc.cost.area(adc.bits))]
    if around is None:
        return [("amplifiers", 0.0, 0.0, 0.0), ("sample_hold", 0.0, 0.0, 0.0), *rows]
    reading = (macro.read_durations * macro.t_read + macro.reads * around.settle) * slowdown(macro)
    on = vectors * n.sums * (reading + macro.conversion_times * converting)
    held = vectors * macro.reads * n.sums * around.sample_hold_energy * scaling(macro)
    return [
        ("amplifiers", on * around.amplifier_power, 0.0, n.arrays * n.signals * around.amplifier_area),
        ("sample_hold", held, 0.0, n.arrays * n.signals * around.sample_hold_area),
        *rows,
    ]


def digital_rows(macro: AnalogMacro, n: Counts, n_in, vectors) -> list[Row]:
    """Shift-and-add (one a conversion: reads, slices and tiles are all summed by it), buffers and bus.

    A digital offset takes one addition an input too.
    """
    around = macro.periphery
    if around is None:
        return [(name, 0.0, 0.0, 0.0) for name in ("shift_add", "buffer", "bus")]
    times = macro.conversion_times
    adds = vectors * (times * n.conversions + (n_in if macro.encoding == "offset_digital" else 0.0))
    inputs = n.lines * around.input_bytes
    outputs = n.partial_sums * around.output_bytes
    stored = around.buffer.energy_per_byte() if around.buffer is not None else 0.0
    brought = n_in * around.input_bytes  # to all arrays of a tile at once
    if around.htree is None:
        moving = (brought + outputs) * around.bus_energy_per_byte * scaling(macro)
    else:
        tree = around.htree
        moving = 8.0 * (brought * tree.broadcast_per_bit(macro.vdd) + outputs * tree.energy_per_bit(macro.vdd))
    return [
        (
            "shift_add",
            adds * around.shift_add_energy * scaling(macro),
            vectors * (times * n.groups + n.depth) * around.shift_add_latency * slowdown(macro),
            n.arrays * n.adcs * around.shift_add_area,
        ),
        (
            "buffer",  # each byte is written and read
            vectors * 2 * (inputs + outputs) * stored * scaling(macro),
            0.0,
            n.arrays * (around.buffer.area() if around.buffer is not None else 0.0),
        ),
        ("bus", vectors * moving, 0.0, n.arrays * around.bus_area),
    ]


def scaling(macro: AnalogMacro) -> Any:
    """Factor that the supply puts on energies that are given in J."""
    return 1.0 if macro.supply is None else macro.supply.energy(macro.vdd)


def slowdown(macro: AnalogMacro) -> Any:
    """Factor that the supply puts on times."""
    return 1.0 if macro.supply is None else macro.supply.delay(macro.vdd)


def leakage_power(macro: AnalogMacro, n_in, n_out) -> Float[Array, "..."]:
    """Static power (W) of the arrays that hold an [n_in, n_out] matrix: circuits by their area, buffers, shared blocks.

    Resistive cells hold their state without power, and capacitor DACs do not leak.
    """
    around = macro.periphery
    n = counts(macro, jnp.asarray(n_in, jnp.int32), jnp.asarray(n_out, jnp.int32))
    power = jnp.zeros(jnp.shape(n.arrays))
    if around is not None:
        converter = _adc_area(macro.adc) + around.shift_add_area
        circuits = n.adcs * converter + n.signals * around.sample_hold_area + n.signals * around.amplifier_area
        stored = around.buffer.leakage() if around.buffer is not None else 0.0
        power = n.arrays * (circuits * around.leakage_density + stored)
    if macro.hierarchy is not None:
        power = power + shared_leakage(macro.hierarchy, n.arrays)
    if macro.cost_factors is not None:
        power = power * macro.cost_factors.energy
    return power if macro.environment is None else power * macro.environment.leakage(macro.vdd)


def _adc_area(adc: ADC | None) -> Any:
    return adc.cost.area(adc.bits) if adc is not None and adc.cost is not None else 0.0


def uncounted(macro: AnalogMacro) -> tuple[str, ...]:
    """What a macro's description leaves out, so that its cost is 0 here: to be told with every result."""
    notes = []
    if macro.adc is None:
        notes.append("no ADC: sums are read exactly and free of charge")
    elif macro.adc.cost is None:
        notes.append("the ADC has no cost law: conversions are free of charge")
    if macro.periphery is None:
        notes.append("no periphery: lines, sample-and-hold, shift-and-add, buffers, bus and leakage are left out")
    if macro.remapping is not None:
        notes.append("what puts inputs or outputs in order around stuck cells, and spare outputs, are free of charge")
    notes += factors_note(macro.cost_factors)
    if macro.hierarchy is not None:
        notes.append(
            f"each array pays its share of what {float(macro.hierarchy.arrays()):,.0f} arrays have in common, for as "
            "long as it works: what others leave idle is not counted"
        )
    if macro.supply is not None and not jnp.isclose(macro.v_read, macro.vdd):
        notes.append(
            f"v_read = {float(macro.v_read):g} V stays where vdd is {float(macro.vdd):g} V: set both where the supply "
            "drives the cells"
        )
    if macro.shift_add != "digital":
        notes.append(f"shift_add = {macro.shift_add!r}: what adds sums in front of the converters is free of charge")
    return (*notes, *extrapolations(macro))
