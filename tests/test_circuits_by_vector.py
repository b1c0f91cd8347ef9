"""Circuits that are solved vector by vector: inputs at gates, and cells that are not ohmic."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from pim.circuit.field import converged, polarities, solve_vectors
from pim.circuit.gate import gate_currents
from pim.circuit.newton import solve_nonlinear
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.conduction import Cubic, Sinh, cell_current

by_gate, by_newton, by_gradients = (jax.jit(f) for f in (gate_currents, solve_nonlinear, solve_vectors))


def wires(*resistances, tolerance=1e-6, dtype=jnp.float32, **fields) -> ArrayWires:
    """Word line, bit line, source, sense, source line."""
    return ArrayWires(*(jnp.asarray(r, dtype) for r in (*resistances, tolerance)), **fields)


def cells(lines, m, n, top=1e-3) -> np.ndarray:
    rng = np.random.default_rng(m)
    return rng.uniform(top / 100, top, (lines, m, n)) * (rng.uniform(size=(lines, m, n)) > 0.2)


def column_by_column(g, volts, bit_line, source, sense, source_line, far=True) -> np.ndarray:
    """The slow oracle of gate input: u = V - R c of each column, written out and solved in float64."""
    lines, m, n = g.shape
    place = np.arange(m) if far else np.arange(m)[::-1]  # distance from the end where the source lines are fed
    near = np.minimum(place[:, None], place[None, :])
    supply = source + source_line * (1 + near)
    shared = sense + bit_line * (m - np.maximum(place[:, None], place[None, :]))
    resistance = np.kron(np.eye(lines), supply) + np.kron(np.ones((lines, lines)), shared)
    out = np.zeros((len(volts), n))
    for b, v in enumerate(volts):
        applied = np.concatenate([sign * v for sign in polarities(lines)])
        for j in range(n):
            on = (g[:, :, j] * (v != 0)[None]).ravel()
            out[b, j] = on @ np.linalg.solve(np.eye(lines * m) + resistance * on[None], applied)
    return out


@pytest.mark.parametrize(
    ("lines", "side", "resistances"),
    covering(
        [1, 2],
        ["far", "near"],
        [(30.0, 5.0, 7.0, 20.0), (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 30.0), (30.0, 0.0, 0.0, 0.0)],
    ),
)
def test_columns_with_gate_input(lines, side, resistances):
    g, volts = cells(lines, 12, 5), np.random.default_rng(0).choice([-0.2, 0.0, 0.2], size=(4, 12))
    expected = column_by_column(g, volts, *resistances, far=side == "far")
    w = wires(0.0, *resistances, input="gate", sense_side=side, tolerance=1e-7)
    found = by_gate(jnp.asarray(g, jnp.float32), jnp.asarray(volts, jnp.float32), w)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    iterated = by_gradients(jnp.asarray(g, jnp.float32), jnp.asarray(volts, jnp.float32), w)
    np.testing.assert_allclose(iterated.currents, expected, atol=4e-6 * np.abs(expected).max())


@pytest.mark.parametrize("side", ["near", "far"])
def test_rows_that_are_not_there_count_as_absent_with_gate_input(side):
    g, volts = cells(1, 7, 3), np.full((1, 7), 0.2)
    w = wires(0.0, 30.0, 5.0, 7.0, 20.0, input="gate", sense_side=side)
    alone = by_gate(jnp.asarray(g, jnp.float32), jnp.asarray(volts, jnp.float32), w)
    padded = np.pad(g, [(0, 0), (0, 4), (0, 0)]), np.pad(volts, [(0, 0), (0, 4)])
    among = by_gate(*(jnp.asarray(a, jnp.float32) for a in padded), w, jnp.int32(7))
    np.testing.assert_allclose(among, alone, rtol=1e-5)


def test_gradients_with_gate_input_are_finite_differences():
    with jax.enable_x64(True):
        g, v = jnp.asarray(cells(1, 6, 3)), jnp.array([[0.2, 0.0, 0.2, 0.2, 0.0, 0.2]])
        loss = jax.jit(lambda g, w: jnp.sum(gate_currents(g, v, w) ** 2) * 1e6)
        w = wires(0.0, 30.0, 5.0, 7.0, 20.0, dtype=jnp.float64, input="gate")
        slope = jax.grad(loss, argnums=(0, 1))(g, w)
        ours = jnp.sum(slope[0] * g) + sum(
            jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (slope[1], w)), strict=True)
        )
        scaled = lambda h: loss(*jax.tree.map(lambda a: a * (1 + h), (g, w)))
        assert ours == pytest.approx(float(scaled(1e-6) - scaled(-1e-6)) / 2e-6, rel=1e-6)


@pytest.fixture(scope="module")
def golden(shared):
    """Each case of the golden currents of cells with a hyperbolic sine (ngspice)."""
    arrays = np.load(shared / "golden/irdrop_nonlinear.npz")
    cases = json.loads((shared / "golden/irdrop_nonlinear.json").read_text())["cases"]
    return [(*(arrays[f"{name}_{c['key']}"] for name in "GVI"), c) for c in cases]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(jnp.float32, 1e-6, id="float32"),
        pytest.param(jnp.float64, 1e-9, id="float64", marks=pytest.mark.slow),
    ],
)
def test_cells_with_a_hyperbolic_sine_give_the_golden_currents(golden, dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        for g, v, current, case in golden:
            w = wires(case["r_wl"], case["r_bl"], 0.0, 0.0, 0.0, tolerance=tolerance, dtype=dtype)
            law = Sinh(jnp.asarray(case["v0"], dtype))
            found = by_newton(jnp.asarray(g[None], dtype), jnp.asarray(v, dtype), w, law)
            assert converged(found.residual, w).all()
            np.testing.assert_allclose(found.currents, current, atol=tolerance * np.abs(current).max())
            assert (found.steps <= 4).all() and (found.inner_steps <= 20).all()


@pytest.mark.parametrize(("v_0", "resistance"), [(0.05, 5.0), (0.02, 50.0), (0.01, 50.0)])
def test_selectors_whose_current_rises_exponentially_converge(v_0, resistance):
    """Up to exp(50) of their low-voltage current at the driver's voltage: the wires limit it, and nothing overflows."""
    g, v = cells(1, 16, 12, top=1e-4), np.random.default_rng(1).uniform(-0.5, 0.5, (3, 16))
    w = wires(resistance, resistance, 0.0, 0.0, 0.0)
    found = by_newton(jnp.asarray(g, jnp.float32), jnp.asarray(v, jnp.float32), w, Sinh(jnp.float32(v_0)))
    assert converged(found.residual, w).all()
    with jax.enable_x64(True):
        w = wires(resistance, resistance, 0.0, 0.0, 0.0, tolerance=1e-11, dtype=jnp.float64)
        exact = by_newton(jnp.asarray(g), jnp.asarray(v), w, Sinh(jnp.float64(v_0)))
        assert converged(exact.residual, w).all()
    np.testing.assert_allclose(found.currents, exact.currents, atol=1e-4 * np.abs(exact.currents).max())


LAWS = {
    "sinh": Sinh(jnp.float32(0.1)),
    "cubic": Cubic(jnp.array([1e-3, 1e-4]), jnp.array([2e-3, -1e-4]), jnp.float32(1e-6)),
    "ohmic": None,
}


@pytest.mark.parametrize("law", LAWS)
def test_without_resistance_each_cell_has_its_law(law):
    g, v = jnp.asarray(cells(1, 6, 4), jnp.float32), jnp.array([[0.1, -0.2, 0.3, 0.0, 0.05, 0.2]])
    found = by_newton(g, v, wires(0.0, 0.0, 0.0, 0.0, 0.0), LAWS[law])
    expected = jnp.where(g[0] > 0, cell_current(LAWS[law], g[0], jnp.broadcast_to(v[0][:, None], g[0].shape)), 0.0)
    np.testing.assert_allclose(found.currents[0], expected.sum(axis=0), rtol=1e-5)


def test_ohmic_cells_are_those_of_the_linear_solver():
    g, v = (
        jnp.asarray(cells(2, 8, 5), jnp.float32),
        jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), jnp.float32),
    )
    w = wires(10.0, 20.0, 3.0, 4.0, 0.0)
    np.testing.assert_allclose(by_newton(g, v, w, None).currents, by_gradients(g, v, w).currents, rtol=2e-5, atol=1e-9)


def test_newton_that_has_no_solution_says_so():
    w = wires(5.0, 5.0, 0.0, 0.0, 0.0, tolerance=1e-14)  # beyond float32
    found = by_newton(jnp.asarray(cells(1, 8, 8), jnp.float32), jnp.ones((2, 8)), w, LAWS["sinh"])
    assert not converged(found.residual, w).any()
    broken = by_newton(jnp.full((1, 4, 4), 1e-4), jnp.full((1, 4), jnp.nan), w, LAWS["sinh"])
    assert not converged(broken.residual, w).any()
