"""Energies of real matrices with their own operand statistics, with uniform ones, and cell by cell."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pim
from pim import crossbar as engine
from pim.costs.operands import Operands, measure_operands
from pim.devices.catalogue import preset
from pim.devices.components.adc_counting import CountingADCCost
from pim.devices.device import Device
from pim.devices.macro import AnalogMacro
from pim.llm_workloads import transformer
from pim.llm_workloads.stories import story_text
from pim.tile_programming import program_tiles

DEVICES = ("rram-techC", "rram-techC with adc-cco28", "sram-qs28")
"""By name, some with another cost law of their converters: that of a component."""
OPERATORS = ("attention.q", "ffn.gate", "ffn.up", "ffn.down")
LAYER, TOKENS = 3, 192
"""Which layer, and of how many tokens at most: of a shorter story, all."""


@cache
def operators() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weights [n_in, n_out] and inputs [vectors, n_in] of the matrices of one layer of tiny-stories on a story."""
    model = pim.load_model("tiny-stories")
    x = model.params["embed"][jnp.asarray(model.tokenizer.encode(story_text(4, 1))[:TOKENS])[None]]
    segment, found = model.params["segments"][0], {}

    def observe(operator: str, w: Any, inputs: Any, ids: Any) -> Any:
        found[operator] = np.asarray(w), np.asarray(inputs).reshape(-1, inputs.shape[-1])
        return transformer.digital_matmul(operator, w, inputs, ids)

    for k in range(LAYER + 1):
        empty = jax.tree.map(lambda leaf: leaf[0], transformer.init_cache(model.config, 1, capacity=0))
        x, _ = transformer.layer_step(model.config, {n: leaf[k] for n, leaf in segment.items()}, x, empty, observe)
    return {operator: found[operator] for operator in OPERATORS}


@dataclass(frozen=True)
class Compared:
    """A matrix on a device: energies (J) of all its vectors, of cells, of converters and in all.

    Those of the cells are there one by one too, and those of converters that count their codes; of others None.
    """

    operands: Operands
    vectors: int
    cells: float
    adc: float
    total: float
    fixed_cells: float
    fixed_adc: float
    fixed_total: float
    one_by_one: float
    adc_one_by_one: float | None


@cache
def compared(name: str, operator: str) -> Compared:
    """One row of the comparison."""
    device = device_of(name)
    macro = device.model
    assert isinstance(macro, AnalogMacro)
    w, x = operators()[operator]
    crossbar = program_tiles(jnp.asarray(w), macro, None, None)
    ranges = engine.calibrate(crossbar, macro, jnp.asarray(x))
    operands = measure_operands(replace(crossbar, ranges=ranges), macro, jnp.asarray(x))
    measured, fixed = (_energies(device, w.shape, len(x), given) for given in (operands, None))
    cells = cell_by_cell(macro, w, x, float(ranges.x))
    counting = macro.adc is not None and isinstance(macro.adc.cost, CountingADCCost)
    codes = conversion_by_conversion(macro, w, x, float(ranges.x), np.asarray(ranges.adc)) if counting else None
    return Compared(operands, len(x), *measured, *fixed, cells, codes)


def device_of(name: str) -> Device:
    """A preset, with the converter that is named behind it."""
    name, _, converter = name.partition(" with ")
    return pim.replace(preset(name), {"adc.cost": pim.component(converter)} if converter else {})


def _energies(
    device: Any, shape: tuple[int, int], vectors: int, operands: Operands | None
) -> tuple[float, float, float]:
    """Of cells, of converters and in all."""
    found = pim.cost(device, shape, vectors=vectors, operands=operands)
    of = dict(zip(found.ledger.components, found.ledger.energy, strict=True))
    return float(of["cells"]), float(of["adc"]), float(found.energy)


def cell_by_cell(macro: AnalogMacro, w: np.ndarray, x: np.ndarray, full: float) -> float:
    """V^2 G t of every cell, input vector and step, from weights and inputs alone, in double precision.

    Of differential pairs without errors; a weight of `weight_bits` has a cell a bit of its magnitude.
    """
    assert macro.encoding == "differential" and macro.weight_scale == "column"
    relative = w.astype(np.float64) / np.abs(w).max(axis=0)
    if macro.weight_bits is None:
        shares = [np.abs(relative)]
    else:
        codes = np.round(np.abs(relative) * (2 ** (int(macro.weight_bits) - 1) - 1)).astype(int)
        shares = [(codes >> k) & 1 for k in range(macro.slices)]
    scaled = np.clip(x.astype(np.float64) / full, -1, 1)
    whole = np.round(np.abs(scaled) * (2 ** (int(macro.dac.bits) - 1) - 1)).astype(int)
    top = 2 ** (int(macro.dac.bits) - 1) - 1
    serial = type(macro.dac).__name__ == "BitSerialDAC"
    levels = [(whole >> k) & 1 for k in range(int(macro.dac.bits) - 1)] if serial else [whole / top]
    g_min, window = float(macro.cell.g_min), float(macro.cell.g_max - macro.cell.g_min)
    on_a_line = sum((g_min + window * share).sum(axis=1) + g_min * w.shape[1] for share in shares)  # and the other cell
    squares = sum((level**2).sum(axis=0) for level in levels)
    return float(macro.v_read) ** 2 * float(macro.t_read * macro.duty) * float((squares * on_a_line).sum())


def conversion_by_conversion(macro: AnalogMacro, w: np.ndarray, x: np.ndarray, full: float, reach: np.ndarray) -> float:
    """What converters that count take for every sum by its own code, from weights, inputs and ranges [tiles, 1, 1].

    Of differential pairs of one analog cell each without errors, read in one go.
    """
    adc = macro.adc
    assert adc is not None and adc.code == "sign_magnitude" and isinstance(adc.cost, CountingADCCost)
    law = adc.cost
    assert law.rated_vdd is not None and law.stops == "full"
    assert macro.weight_bits is None and macro.slices == 1 and macro.cell.g_min == 0
    relative = w.astype(np.float64) / np.abs(w).max(axis=0)
    steps = 2 ** (int(macro.dac.bits) - 1) - 1
    levels = np.round(np.clip(x.astype(np.float64) / full, -1, 1) * steps) / steps
    top, counts, rows = 2 ** (int(adc.bits) - 1) - 1, 2 ** int(adc.bits), macro.rows_at_once
    per_count = float(law.count_energy) * (float(macro.vdd) / float(law.rated_vdd)) ** 2
    standing, energy = float(law.static_power) * counts / float(law.frequency), 0.0
    for tile, first in enumerate(range(0, len(w), rows)):
        sums = levels[:, first : first + rows] @ relative[first : first + rows]
        codes = np.abs(np.clip(np.round(sums * top / float(reach[tile, 0, 0])), -top, top))
        energy += float((counts * codes / top * per_count + standing).sum())
    return energy
