"""A digital macro from node, array, bits and supply alone: nothing in it was set from a chip that it is held against.

Gates are those of ZigZag-IMC at 28 nm and 0.9 V (Houshmand et al., arXiv 2305.18335), scaled after Stillmaker and Baas
(Integration 58, 2017). A cell takes 280 F^2 from 28 nm on and 146 F^2 before (6T cells of NeuroSim, which grow as
dimensions shrink less than the node's name says). Wires have 0.2 pF/mm (hwcomponents), leakage is 28 W/m^2 (NeuroSim
V1.4: static power over area of a low-power chip at 22 nm).
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from pim.devices.adders import shortest_cycle
from pim.devices.components.logic import gates_at
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_wiring import DigitalWiring
from pim.devices.errors import DeviceError
from pim.devices.gates import Gates
from pim.devices.record import cast, check, fields_of
from pim.devices.technology import supply_polynomial

REFERENCE_NODE, REFERENCE_VDD = 28e-9, 0.9
"""m, V: for which the gates below are given."""
NAND_CAPACITANCE, NAND_AREA, NAND_DELAY = 0.7e-15, 0.614e-12, 47.8e-12
"""F, m^2, s."""
LEAKAGE_DENSITY = 28.0
"""W/m^2."""
WIRE_CAPACITANCE = 2e-10
"""F/m."""
CHAIN_GLITCHES = 2.5
"""Transitions of eight additions in a chain, over those in a tree (Chandrakasan, Brodersen, Proc. IEEE 83(4), 1995)."""


def scaled_gates(node: float, vdd: float, kind: str = "LP-HP") -> Gates:
    """The gates at a node (m) and supply (V): capacitance by the ratio of energies over that of V^2, delay and area.

    Raises DeviceError for a node or a supply out of the range of `pim.devices.technology`.
    """
    relative = (1.5, 2.4, 2.4, 3.0, 6.0)  # XOR2 in capacitance, area and delay, flip-flop in capacitance and area
    rated = cast(Gates(NAND_CAPACITANCE, NAND_AREA, NAND_DELAY, *relative, LEAKAGE_DENSITY))  # type: ignore[arg-type]
    return gates_at(rated, REFERENCE_NODE, REFERENCE_VDD, node, vdd, kind)


def cell_area(node: float) -> float:
    """Area (m^2) of a 6T cell."""
    return (280.0 if node < 28.5e-9 else 146.0) * node**2


def digital_macro(
    node: float,
    rows: int,
    outputs: int,
    input_bits: float,
    weight_bits: float,
    vdd: float,
    *,
    toggle: float = 0.5,
    density: float = 0.5,
    row_groups: int = 1,
    kind: str = "LP-HP",
    **structure: Any,
) -> DigitalMacro:
    """A digital macro of that shape with gates of the node, as fast as they allow.

    Args:
        node: in m, 7e-9 to 180e-9.
        rows: inputs that are summed at once.
        outputs: of an array.
        input_bits, weight_bits: 1 to 16.
        vdd: in V, in the range of `pim.devices.technology.supply_range`.
        toggle: share of input bits that differ from the one before.
        density: share of weight bits that are one.
        row_groups: weights that share a multiplier and take turns.
        kind: the transistors, see `pim.devices.technology.KINDS`.
        structure: other fields of `DigitalMacro`, such as serial_bits, recoding, adders or clock.

    Raises:
        DeviceError: a node or supply out of range, an unknown field, or a value out of its field's range.

    Example:
        >>> macro = digital_macro(22e-9, 256, 64, input_bits=4, weight_bits=4, vdd=0.72)
        >>> pim.peak(macro).efficiency
    """
    known = fields_of(DigitalMacro)
    for name in structure:
        if name not in known:
            raise DeviceError(f"{name!r} is no field of DigitalMacro; it has {', '.join(known)}")
    area = cell_area(node)
    fields: dict[str, Any] = {
        "rows": rows, "outputs": outputs, "input_bits": input_bits, "weight_bits": weight_bits, "vdd": vdd,
        "row_groups": row_groups, "input_toggle": toggle, "weight_density": density,
        "gates": scaled_gates(node, vdd, kind), "wiring": DigitalWiring(WIRE_CAPACITANCE),  # type: ignore[arg-type]
        "supply": supply_polynomial(node, vdd, kind), "cell_area": area,
        "glitches": CHAIN_GLITCHES if structure.get("adders") == "chain" else 1.0,
        "cell_leakage": LEAKAGE_DENSITY * area, "clock": 1.0,
    }  # fmt: skip
    fields |= structure
    macro = cast(DigitalMacro(**fields))
    if "clock" not in structure:
        macro = replace(macro, clock=jnp.float32(1.0 / float(shortest_cycle(macro))))
    check(macro, "digital_macro")
    return macro.prepare()
