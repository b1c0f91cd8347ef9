"""Netlists of arrays, and what ngspice makes of them against our own solvers."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few

import pim
from pim.circuit.fold import fold
from pim.circuit.gate import gate_currents
from pim.circuit.netlist import netlist
from pim.circuit.newton import solve_nonlinear
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.cell import Cell
from pim.devices.cells.conduction import Cubic, Sinh
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast, prepare

needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


def spice_currents(text: str, folder) -> np.ndarray:
    """The sensed currents (A) that ngspice finds for a netlist."""
    path = folder / "array.cir"
    path.write_text(text)
    done = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, timeout=120, check=True)
    found = {int(j): float(value) for j, value in re.findall(r"i\(vsense_(\d+)\) = (\S+)", done.stdout)}
    return np.array([found[j] for j in range(len(found))])


def wires(word_line, bit_line, source=0.0, sense=0.0, **fields) -> ArrayWires:
    leaves = (word_line, bit_line, source, sense, fields.pop("source_line", 0.0), 1e-12)
    return ArrayWires(*(np.float64(value) for value in leaves), **fields)


def cells(lines, m, n) -> np.ndarray:
    rng = np.random.default_rng(m)
    return rng.uniform(1e-6, 1e-3, (lines, m, n)) * (rng.uniform(size=(lines, m, n)) > 0.2)


VOLTS = np.random.default_rng(1).uniform(-0.4, 0.4, 6)


@needs_ngspice
@pytest.mark.parametrize(
    ("lines", "resistances", "sides"),
    [(1, (20, 30, 5, 7), ("near", "far")), (2, (20, 0, 0, 7), ("far", "near")), (1, (0, 30, 5, 0), ("far", "far"))],
)
def test_linear_arrays(tmp_path, lines, resistances, sides):
    with jax.enable_x64(True):
        w = wires(*resistances, drive_side=sides[0], sense_side=sides[1])
        g = cells(lines, 6, 4)
        effective = np.asarray(fold(jnp.asarray(g), w).conductance)
    found = spice_currents(netlist(g, w, VOLTS), tmp_path)
    expected = np.einsum("l,i,lij->j", np.array([1.0, -1.0])[:lines], VOLTS, effective)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@needs_ngspice
@pytest.mark.parametrize("lines", [1, 2])
def test_gate_input(tmp_path, lines):
    with jax.enable_x64(True):
        w = wires(9.0, 30.0, 3.0, 7.0, source_line=20.0, input="gate")
        g, volts = cells(lines, 6, 4), np.array([0.3, 0.0, 0.3, 0.3, 0.0, 0.3])
        expected = np.asarray(gate_currents(jnp.asarray(g), jnp.asarray(volts[None]), w))[0]
    found = spice_currents(netlist(g, w, volts), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


LAWS = {
    "sinh": Sinh(0.08),
    "cubic": Cubic(quadratic=jnp.array([1e-3, 1e-4]), cubic=jnp.array([2e-3, -1e-4]), g_lowest=1e-6),
}


@needs_ngspice
@pytest.mark.parametrize("law", LAWS)
def test_non_linear_arrays(tmp_path, law):
    with jax.enable_x64(True):
        w, g = wires(20.0, 30.0, 5.0, 7.0), cells(1, 6, 4)
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), LAWS[law])
        expected = solve_nonlinear(jnp.asarray(g), jnp.asarray(VOLTS[None]), w, exact).currents[0]
    found = spice_currents(netlist(g, w, VOLTS, LAWS[law]), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_what_is_in_the_netlist():
    g = np.array([[[1e-4, 0.0], [2e-4, 3e-4]]])
    text = netlist(g, wires(1.0, 2.0, 10.0, 20.0), np.array([0.2, 0.1]), title="two by two")
    lines = text.splitlines()
    assert lines[0] == "* two by two"
    assert "Rw0_0_0 in0_0 w0_0_0 11" in lines and "Rw0_0_1 w0_0_0 w0_0_1 1" in lines
    assert "Rb_1_0 b_1_0 sense_0 22" in lines and "Rb_0_0 b_0_0 b_1_0 2" in lines
    assert "Vin0_1 in0_1 0 0.1" in lines and "Rcell0_1_0 w0_1_0 b_1_0 5000" in lines
    assert not any(line.startswith("Rcell0_0_1") for line in lines), "cells without conductance are left out"
    assert lines[-1] == ".end" and json.dumps(text).isascii()


CELL = Cell(2e-6, 1e-4, 1e-13)
SERIAL = BitSerialDAC(4, 100.0, 0.0, 0.0)


def chip(wires, **fields):
    """6 x 3 weights on arrays of 4 rows: two tiles, the second half empty."""
    given = {"rows": 4, "columns": 6, "slices": 1, "encoding": "differential", "weight_scale": "matrix"}
    given |= {"input_range": "token", "dac": ExactDAC(), "cell": CELL, **fields}
    macro = prepare(cast(AnalogMacro(**given, v_read=0.2, t_read=1e-8, vdd=0.9, wires=wires)))
    w = np.random.default_rng(3).uniform(-1, 1, (6, 3)).astype(np.float32)
    return pim.program(w, Device("wired", "test", "a macro with wires", macro, {}, {}), key=root_key(0))


@needs_ngspice
@pytest.mark.parametrize("kind", first_few(2, ["sinh", "shared_bit_line", "separate", "interleaved", "gate"]))
def test_an_exported_chip_has_the_products_that_ngspice_finds(tmp_path, kind):
    resistances, fields = {"word_line": 20.0, "bit_line": 30.0, "source": 5.0, "sense": 7.0}, {}
    if kind == "gate":
        wired, fields = ArrayWires(**resistances, source_line=20.0, input="gate"), {"dac": SERIAL}
    elif kind == "sinh":
        wired, fields = ArrayWires(**resistances), {"cell": replace(CELL, conduction=Sinh(0.1))}
    else:
        wired = ArrayWires(**resistances, pairs=kind)
    made, x = chip(wired, **fields), np.array([0.5, -1.0, 0.3, 0.8, -0.2, 0.6], np.float32)
    total = np.zeros(3)
    for tile in range(2):
        for read in range(made.model.dac.steps):
            currents = []
            for array in range({"interleaved": 1, "shared_bit_line": 1}.get(kind, 2)):
                path = tmp_path / f"{tile}_{read}_{array}.cir"
                made.export_spice(path, tile=tile, array=array, x=x, read=read)
                currents.append(spice_currents(path.read_text(), tmp_path))
            if kind == "interleaved":
                currents = [currents[0][0::2], currents[0][1::2]]
            signal = currents[0] if kind == "shared_bit_line" else currents[0] - currents[1]
            total += signal * (2**read / 7 if kind == "gate" else 1.0)
    y = total / (0.2 * (1e-4 - 2e-6)) * np.abs(made.weights).max() * np.abs(x).max()
    np.testing.assert_allclose(made.matmul(x, key=None), y, atol=2e-5)


def test_an_array_that_is_not_there_is_named(tmp_path):
    made = chip(None)
    made.export_spice(tmp_path / "ideal.cir")
    assert "Vw0_0_0 in0_0 w0_0_0 0" in (tmp_path / "ideal.cir").read_text(), "no wires: no resistance"
    for words, fields in {"tile = 2, but this chip has 2": {"tile": 2}, "array = 2": {"array": 2}}.items():
        with pytest.raises(DeviceError, match=words):
            made.export_spice(tmp_path / "none.cir", **fields)
    with pytest.raises(DeviceError, match="one vector of 6 inputs"):
        made.export_spice(tmp_path / "none.cir", x=np.ones(5, np.float32))
    with pytest.raises(DeviceError, match="analog cells"):
        pim.program(np.eye(2, dtype=np.float32), pim.preset("ideal"), key=root_key(0)).export_spice("none.cir")
    assert not (tmp_path / "none.cir").exists()
