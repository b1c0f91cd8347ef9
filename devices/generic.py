"""Analog macros that nobody built: what a node, a cell, an array, bits and a supply alone say, with nothing fitted.

Every value follows from the node by rules that are the same for all macros:

- lines: half a NAND2 a cell passed (ZigZag-IMC, 28 nm), its capacitance proportional to the node, and a wire of
  0.2 pF/mm over the cell's pitch;
- what switches in a cell by its kind, see `KINDS`;
- output converters of more than five bits: Murmann's survey, the better ones of their node, a bit lost; others flash,
  ten NAND2 a comparator; input converters of several bits 50 fF a bit (ZigZag-IMC);
- adders behind them: ISAAC's, scaled after Stillmaker and Baas;
- areas of cells in F^2: 426, 400, 1080 and 126 as CiMLoop has them for Jia 2020, Wang 2022, Sinangil 2021 and NeuRRAM,
  53 as NVSim has it for a transistor and a resistor. They set the length of lines.

Chosen, and not fitted: ten NAND2 a comparator, a read of 2 ns of a sensed bit line, 1 ns a level of a pulse (the clock
of HERMES), half of full scale as the bias of a class-A stage, and a quarter where it carries what cells draw.

Buffers, buses and leakage are left away, as published efficiencies of macros leave them away.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pim.devices.device import Device, Source
from pim.devices.errors import DeviceError, nearest
from pim.devices.generic_digital import NAND_AREA, NAND_CAPACITANCE, REFERENCE_NODE, WIRE_CAPACITANCE
from pim.devices.loader import PRESETS, device_of, overlay, read_table
from pim.devices.technology import area_ratio, energy_ratio, supply_range

UNIT_CAPACITOR = 1e-15
"""F: a small metal capacitor over a cell."""

RULES = "Rules of pim.devices.generic: from node, cell, array, bits and supply alone"

T_READ = 1e-9
"""s: a cell's capacitor is charged once in it, C / t and t give its charge; the time itself cancels."""

Table = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a macro is asked to be: see `generic`."""

    node: float
    rows: int
    columns: int
    input_bits: int
    weight_bits: int
    adc_bits: int
    vdd: float


def line_capacitance(node: float, cell_area: float) -> float:
    """Capacitance (F) of a line over a cell of so many F^2: half a NAND2, and the wire over the cell's pitch.

    >>> line_capacitance(28e-9, 300)
    4.47e-16
    """
    return NAND_CAPACITANCE / 2 * node / REFERENCE_NODE + WIRE_CAPACITANCE * math.sqrt(cell_area) * node


def _lines(c: Asked, cell_area: float, *, input_lines: float, other_lines: float) -> Table:
    """Lines of a cell that rise with an input: those that carry its level, and those that swing fully."""
    line = line_capacitance(c.node, cell_area)
    return {
        "wordline_capacitance": input_lines * line,
        "select_capacitance": other_lines * line,
        "select_voltage": c.vdd,
        "bitline_capacitance": 0.0,
    }


def _divisor(rows: int, most: int) -> int:
    """The largest number of rows, up to so many, in which an array is read in equal groups."""
    return max(group for group in range(1, min(rows, most) + 1) if rows % group == 0)


def _serial(c: Asked) -> Table:
    """Inputs of one bit are -1 or 1; of more, bit by bit with the sign as the polarity."""
    free = {"percentile": 99.99, "capacitance_per_bit": 0.0, "area": 0.0}
    return {"type": "BitSerialDAC", "bits": max(2, c.input_bits), **free}


def _charge(c: Asked) -> Table:
    """A capacitor of 1 fF a cell, charged to the product and joined to its column; inputs bit by bit.

    Four lines pass a cell in a step: one of an input pair rises, both of the switch that joins the capacitor, and the
    reset (as in the 8T1C and 10T1C cells of Jia 2020 and its kin).
    """
    return {
        "slices": c.weight_bits,
        "encoding": "offset_reference",
        "v_read": c.vdd,
        "cell": {"g_max": UNIT_CAPACITOR / T_READ, "levels": 2, "area": 426 * c.node**2},
        "dac": _serial(c),
        "periphery": _lines(c, 426, input_lines=1, other_lines=3),
    }


def _ladder(c: Asked) -> Table:
    """A cell of several bits, each with a capacitor of a C-2C ladder; inputs all bits at once, as voltages (Wang 2022).

    As `charge`, once for every bit. A level is no logic level: a class-A buffer brings its line there in half of a
    cycle, and draws the current for that, C V a half cycle, all the time: 2 C V^2.
    """
    line = c.columns * c.weight_bits * line_capacitance(c.node, 400)
    return {
        "encoding": "offset_reference",
        "v_read": c.vdd,
        "cell": {"g_max": c.weight_bits * UNIT_CAPACITOR / T_READ, "area": c.weight_bits * 400 * c.node**2},
        "dac": {"type": "MultibitDAC", "bits": c.input_bits, "capacitance_per_bit": 50e-15 + 2 * line / c.input_bits},
        "periphery": _lines(c, 400, input_lines=c.weight_bits, other_lines=3 * c.weight_bits),
    }


def _discharge(c: Asked) -> Table:
    """SRAM cells that discharge precharged bit lines while pulses of an input last; a column a weight bit.

    Each pulse charges the read word line; all cells at full input discharge their bit line by the supply. Columns of a
    weight are joined in front of one converter (Sinangil 2021).
    """
    line = line_capacitance(c.node, 1080)
    return {
        "slices": c.weight_bits,
        "encoding": "offset_reference",
        "shift_add": "all",
        "v_read": c.vdd,
        "cell": {"g_max": line / T_READ, "levels": 2, "area": 1080 * c.node**2},
        "dac": {**_serial(c), "code": "unsigned", "slice_bits": c.input_bits, "levels_as": "pulses"},
        "t_read": T_READ / (2**c.input_bits - 1),
        "periphery": _lines(c, 1080, input_lines=1, other_lines=0),
    }


def _voltage(c: Asked) -> Table:
    """Resistive pairs that settle to a voltage: inputs as pulses of three bits at most, which select all rows.

    A pulse lasts as long as a bit line takes to settle; cells are of the window of HfOx, 40 uS (Wan 2022).
    """
    return {
        "encoding": "differential",
        "v_read": 0.1,
        "cell": {"g_max": 40e-6, "area": 126 * c.node**2},
        "dac": {**_serial(c), "slice_bits": min(3, c.input_bits - 1), "levels_as": "pulses"},
        "periphery": _lines(c, 126, input_lines=0, other_lines=1),
    }


def _current(c: Asked) -> Table:
    """Resistive pairs read as currents: pulses of 1 ns a level, a class-A stage a column, biased at half of full scale.

    Full scale is all cells of a column at full conductance; PCM of two devices, 20.7 uS, at 0.2 V.
    """
    g_max, v_read = 20.7e-6, 0.2
    return {
        "encoding": "differential",
        "columns": 2 * c.columns,
        "v_read": v_read,
        "t_read": (2 ** (c.input_bits - 1) - 1) * 1e-9,
        "cell": {"g_max": g_max, "area": 53 * c.node**2},
        "dac": {
            "type": "PulseWidthDAC",
            "bits": c.input_bits,
            "percentile": 99.99,
            "capacitance_per_bit": 0.0,
            "area": 0.0,
        },
        "periphery": {
            **_lines(c, 53, input_lines=1, other_lines=0),
            "amplifier_power": c.vdd * 0.5 * c.rows * g_max * v_read,
        },
    }


def _sensed(c: Asked) -> Table:
    """Resistive cells of one bit, inputs bit by bit, as many rows at once as the converter has codes, sensed at once.

    A bit line is held for a read by a stage that carries its current from the supply; HfOx, 40 uS, at 0.2 V.
    """
    g_max, v_read, active = 40e-6, 0.2, _divisor(c.rows, 2**c.adc_bits)
    return {
        "slices": c.weight_bits,
        "encoding": "offset_reference",
        "active_rows": active,
        "v_read": v_read,
        "t_read": 2e-9,
        "cell": {"g_max": g_max, "levels": 2, "area": 53 * c.node**2},
        "dac": _serial(c),
        "periphery": {
            **_lines(c, 53, input_lines=1, other_lines=0),
            "amplifier_power": c.vdd * 0.25 * active * g_max * v_read,
        },
    }


KINDS: Mapping[str, Callable[[Asked], Table]] = {
    "charge": _charge,
    "ladder": _ladder,
    "discharge": _discharge,
    "voltage": _voltage,
    "current": _current,
    "sensed": _sensed,
}
"""What computes, by its name: each as its function says."""
SEVERAL_BITS = ("ladder", "voltage", "current")


def generic(
    kind: str, *, node: float, rows: int, columns: int, input_bits: int, weight_bits: int, adc_bits: int, vdd: float
) -> Device:
    """An analog macro of a kind, from its node, array, bits and supply: what to expect before there is a design.

    Args:
        kind: "charge", "ladder", "discharge", "voltage", "current" or "sensed", see `KINDS`.
        node: technology node (m), 7e-9 to 180e-9.
        rows: word lines of an array.
        columns: weights side by side of kind "ladder" and "current", else columns of cells.
        input_bits, weight_bits: with sign; 1 for -1 and 1.
        adc_bits: codes of the output converters.
        vdd: supply (V).

    Raises DeviceError for an unknown kind, or a node outside the range.

    Example:
        >>> shape = {"rows": 256, "columns": 256, "input_bits": 4, "weight_bits": 4}
        >>> device = generic("charge", node=65e-9, **shape, adc_bits=8, vdd=1.2)
        >>> pim.peak(device).efficiency
    """
    if kind not in KINDS:
        raise DeviceError(f"no macros of the kind {kind!r} are known; {nearest(kind, KINDS)}")
    if kind in SEVERAL_BITS and input_bits < 2:
        raise DeviceError(f"input_bits = {input_bits}, but macros of the kind {kind!r} take inputs of 2 bits or more")
    asked = Asked(node, rows, columns, input_bits, weight_bits, adc_bits, vdd)
    table = overlay(read_table(PRESETS / "macro-28nm.toml"), {"device": overlay(_common(asked), KINDS[kind](asked))})
    named = {"name": f"generic-{kind}", "family": "generic", "summary": f"{kind} macro at {node * 1e9:g} nm, by rule"}
    device = device_of({**table, **named}, named["name"])
    ruled = {
        path: replace(known, source="rules", grade="derived") if known.source == "user" else known
        for path, known in device.provenance.items()
    }
    return replace(device, provenance=ruled, sources={**device.sources, "rules": Source(RULES)})


def _common(c: Asked) -> Table:
    """What macros of all kinds share: converters, and adders behind them, beyond the range of their law by V^2."""
    low, high = supply_range(c.node)
    known = min(max(c.vdd, low), high)
    logic = float(energy_ratio(32e-9, 0.9, c.node, known)) * (c.vdd / known) ** 2
    return {
        "rows": c.rows,
        "columns": c.columns,
        **({"weight_bits": c.weight_bits} if c.weight_bits > 1 else {}),
        "cell": {"type": "Cell", "g_min": 0.0},
        "environment": "none",
        "vdd": c.vdd,
        "t_read": T_READ,
        "adc": {"bits": c.adc_bits, "columns_per_adc": 1.0, "cost": _converter(c)},
        "periphery": {
            "sample_hold_energy": 0.0,
            "shift_add_energy": 0.021e-12 * logic,
            "shift_add_area": 60e-12 * float(area_ratio(32e-9, c.node)),
            "bus_energy_per_byte": 0.0,
            "bus_area": 0.0,
            "leakage_density": 0.0,
            "buffer": "none",
        },
    }


def _converter(c: Asked) -> Table:
    """Above five bits the survey's better designs; else flash converters."""
    if c.adc_bits > 5:
        return {"type": "SurveyADCCost", "node": c.node, "rate": 1e8, "enob_loss": 1.0, "percentile": "p10"}
    nand2 = NAND_CAPACITANCE * c.node / REFERENCE_NODE
    area = NAND_AREA * float(area_ratio(REFERENCE_NODE, c.node))
    return {
        "type": "FlashADCCost",
        "comparator_capacitance": 10 * nand2,
        "comparator_area": 10 * area,
        "decision_time": 1e-9,
    }
