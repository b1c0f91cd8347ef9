"""An array as a SPICE netlist: any circuit simulator can check what is computed here."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from pim.circuit.field import polarities
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.conduction import Conduction, Cubic, Sinh
from pim.devices.errors import DeviceError


def netlist(
    g: Float[ArrayLike, "lines rows columns"],
    wires: ArrayWires,
    volts: Float[ArrayLike, "rows"],
    conduction: Conduction | None = None,
    title: str = "array of cells with resistive wires",
) -> str:
    """The netlist of one array with one vector of voltages, for ngspice: its operating point and the sensed currents.

    Nodes: `w0_i_j` where cell (i, j) hangs on its word line (`w1_i_j` on that of the other sign; `s0_i_j` on a source
    line), `b_i_j` where it hangs on its bit line. Cells without conductance are left out, and wires without resistance
    are voltage sources of 0 V. The current of column j is that of the source `Vsense_j`.

    Args:
        g: conductances (S); one word line a row, or two, driven at +V and -V, whose cells share the bit lines.
        wires: resistances. Where its input is "gate", cells of rows at 0 V are switched off.
        volts: of the rows.
        conduction: law of the cells' current; None: resistors.
        title: first line.

    Raises DeviceError for a law that has no SPICE expression here.

    >>> Path("array.cir").write_text(netlist(g, wires, volts))
    """
    g, volts = np.asarray(g, np.float64), np.asarray(volts, np.float64)
    wires = jax.tree.map(float, wires)
    gate = wires.input == "gate"
    cells = g * (volts != 0)[None, :, None] if gate else g
    parts = [f"* {title}", "* V: drivers and sense amplifiers; Rw, Rs, Rb: word, source and bit lines; R or B: cells"]
    if gate:
        parts += [line for k in range(len(g)) for line in _source_lines(k, cells.shape[1:], wires, volts)]
    else:
        parts += [line for k in range(len(g)) for line in _word_lines(k, cells.shape[1:], wires, volts)]
    parts += _bit_lines(cells.shape[1:], wires)
    parts += _cells(cells, "e" if gate else "w", conduction)
    columns = range(g.shape[2])
    parts += [".op", ".control", "set numdgt=12", "op", *(f"print i(Vsense_{j})" for j in columns), ".endc", ".end"]
    return "\n".join(parts) + "\n"


def _resistor(name: str, one: str, other: str, ohm: Any) -> str:
    """A piece of wire."""
    return f"R{name} {one} {other} {ohm:.12g}" if ohm > 0 else f"V{name} {one} {other} 0"


def _word_lines(line: int, shape: tuple[int, ...], wires: ArrayWires, volts) -> list[str]:
    m, n = shape
    order = range(n) if wires.drive_side == "near" else range(n - 1, -1, -1)
    parts = []
    for i in range(m):
        parts.append(f"Vin{line}_{i} in{line}_{i} 0 {polarities(2)[line] * volts[i]:.12g}")
        last, ohm = f"in{line}_{i}", wires.source + wires.word_line
        for j in order:
            node = f"w{line}_{i}_{j}"
            parts.append(_resistor(f"w{node[1:]}", last, node, ohm))
            last, ohm = node, wires.word_line
    return parts


def _source_lines(line: int, shape: tuple[int, ...], wires: ArrayWires, volts) -> list[str]:
    """Source lines and, in series with each cell, the voltage that its input lets through."""
    m, n = shape
    order = range(m) if wires.sense_side == "far" else range(m - 1, -1, -1)
    parts = []
    for j in range(n):
        last, ohm = "0", wires.source + wires.source_line
        for i in order:
            node = f"s{line}_{i}_{j}"
            parts.append(_resistor(f"s{node[1:]}", last, node, ohm))
            last, ohm = node, wires.source_line
            if volts[i] != 0:
                parts.append(f"Ve{node[1:]} e{node[1:]} {node} {polarities(2)[line] * volts[i]:.12g}")
    return parts


def _bit_lines(shape: tuple[int, ...], wires: ArrayWires) -> list[str]:
    m, n = shape
    order = range(m) if wires.sense_side == "near" else range(m - 1, -1, -1)
    parts = []
    for j in range(n):
        parts.append(f"Vsense_{j} sense_{j} 0 0")
        last, ohm = f"sense_{j}", wires.sense + wires.bit_line
        for i in order:
            node = f"b_{i}_{j}"
            parts.append(_resistor(f"b{node[1:]}", node, last, ohm))
            last, ohm = node, wires.bit_line
    return parts


def _cells(g, above: str, conduction: Conduction | None) -> list[str]:
    parts = []
    for line, i, j in zip(*np.nonzero(g), strict=True):
        name, one, other = f"{line}_{i}_{j}", f"{above}{line}_{i}_{j}", f"b_{i}_{j}"
        if conduction is None:
            parts.append(f"Rcell{name} {one} {other} {1 / g[line, i, j]:.12g}")
        else:
            parts.append(f"Bcell{name} {one} {other} I={_expression(conduction, g[line, i, j], f'v({one},{other})')}")
    return parts


def _expression(conduction: Conduction, g: float, v: str) -> str:
    """The current of one cell in terms of its voltage."""
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), conduction)
        strengths = [float(a) for a in exact.strengths(jnp.float64(g))]
    if isinstance(conduction, Sinh):
        v_0 = float(exact.v_0)
        return f"{strengths[0] * v_0:.15g}*sinh({v}/{v_0:.15g})"
    if isinstance(conduction, Cubic):
        a, b, c = strengths
        return f"{a:.15g}*{v}+({b:.15g})*{v}*{v}+({c:.15g})*{v}*{v}*{v}"
    raise DeviceError(f"a cell with the law {type(conduction).__name__} has no SPICE expression: take Sinh or Cubic")
