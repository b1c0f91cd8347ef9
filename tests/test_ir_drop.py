"""Wire resistance against golden currents (ngspice, badcrossbar, sparse LU), and against every node solved slowly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few
from hypothesis import given, settings
from hypothesis import strategies as st
from nodal import nodal_conductance

from pim.circuit.field import converged, polarities, solve_vectors
from pim.circuit.fold import fold
from pim.devices.array_wires import ArrayWires, bit_coupling, word_coupling


def wires(word_line, bit_line, source=0.0, sense=0.0, dtype=jnp.float32, **fields) -> ArrayWires:
    leaves = (jnp.asarray(value, dtype) for value in (word_line, bit_line, source, sense))
    tolerance, source_line = (
        jnp.asarray(fields.pop(k, v), dtype) for k, v in (("tolerance", 1e-6), ("source_line", 0))
    )
    return ArrayWires(*leaves, tolerance=tolerance, source_line=source_line, **fields)


def cells(lines, m, n, seed=0, zeros=0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(1e-6, 1e-4, (lines, m, n)) * (rng.uniform(size=(lines, m, n)) >= zeros)


def signed(folded) -> np.ndarray:
    """The current of each bit line for a volt on each row, [rows, columns]."""
    signs = np.array(polarities(len(folded.conductance)))
    return np.einsum("l,lij->ij", signs, np.asarray(folded.conductance, np.float64))


def worst(found, expected) -> float:
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())


folded = jax.jit(fold)
solved = jax.jit(solve_vectors)


@pytest.fixture(scope="module")
def golden(shared):
    """Each case of the golden currents: cells, voltages, currents, wires."""
    arrays = np.load(shared / "golden/irdrop_linear.npz")
    cases = json.loads((shared / "golden/irdrop_linear.json").read_text())["cases"]
    assert len(cases) == 20
    names = ("r_wl", "r_bl", "r_source", "r_sink")
    return [
        (arrays[f"G_{c['tag']}"], arrays[f"V_{c['tag']}"], arrays[f"I_{c['tag']}_{c['case']}"], [c[r] for r in names])
        for c in cases
    ]


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(jnp.float32, 2e-6, id="float32"),
        pytest.param(jnp.float64, 1e-10, id="float64", marks=pytest.mark.slow),
    ],
)


@PRECISIONS
def test_folded_conductances_give_the_golden_currents(golden, dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        for g, v, current, resistances in golden:
            found = folded(jnp.asarray(g[None], dtype), wires(*resistances, dtype=dtype))
            assert worst(signed(found).T @ v, current) < tolerance
            assert found.residual < tolerance


@PRECISIONS
def test_solving_vector_by_vector_gives_the_golden_currents(golden, dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        for g, v, current, resistances in golden:
            w = wires(*resistances, dtype=dtype, tolerance=tolerance / 4)
            found = solved(jnp.asarray(g[None], dtype), jnp.asarray(v.T, dtype), w)
            assert worst(found.currents.T, current) < tolerance
            assert converged(found.residual, w).all()


SIDES = st.sampled_from(["near", "far"])
RESISTANCES = st.sampled_from(
    [(1, 3, 0, 0), (2, 1, 100, 50), (0, 5, 0, 20), (4, 0, 3, 0), (0, 0, 0, 0), (500, 2000, 9, 9)]
)


@settings(max_examples=5)  # each shape compiles
@given(
    lines=st.integers(1, 2), m=st.integers(1, 9), n=st.integers(1, 9), resistances=RESISTANCES, drive=SIDES, sense=SIDES
)
def test_every_circuit_is_the_one_that_nodal_analysis_solves(lines, m, n, resistances, drive, sense):
    g, sides = cells(lines, m, n, seed=m + 10 * n), {"drive_side": drive, "sense_side": sense}
    expected = nodal_conductance(g, *resistances, **sides)
    if not g.any():
        return
    w = wires(*resistances, **sides)
    found = folded(jnp.asarray(g, jnp.float32), w)
    assert worst(signed(found), expected) < 2e-6
    by_vector = solved(jnp.asarray(g, jnp.float32), jnp.eye(m), w)
    assert worst(by_vector.currents, expected) < 5e-6
    assert converged(by_vector.residual, w).all()


@pytest.mark.parametrize("size", first_few(1, [(32, 96), (96, 32), (96, 96)]))
def test_harsh_arrays(size):
    """All cells at 1 kOhm and wires of 5 Ohm, where damped iteration gives up."""
    g = np.full((1, *size), 1e-3)
    expected = nodal_conductance(g, 5.0, 5.0)
    found = folded(jnp.asarray(g, jnp.float32), wires(5.0, 5.0))
    assert worst(signed(found), expected) < 2e-6


@pytest.mark.parametrize("sides", first_few(1, [("far", "near"), ("near", "far")]))
def test_cells_that_are_not_there_count_as_absent(sides):
    g = cells(1, 6, 5)
    w = wires(20.0, 30.0, 5.0, 2.0, drive_side=sides[0], sense_side=sides[1])
    padded = np.pad(g, [(0, 0), (0, 3), (0, 4)])
    alone = signed(folded(jnp.asarray(g, jnp.float32), w))
    among = signed(folded(jnp.asarray(padded, jnp.float32), w, jnp.int32(6), jnp.int32(5)))
    np.testing.assert_allclose(among[:6, :5], alone, rtol=1e-5)
    assert not among[6:].any() and not among[:, 5:].any()
    v = np.random.default_rng(1).normal(size=(2, 9)).astype(np.float32)
    by_vector = solved(jnp.asarray(padded, jnp.float32), jnp.asarray(v), w, jnp.int32(6), jnp.int32(5))
    np.testing.assert_allclose(by_vector.currents[:, :5], v[:, :6] @ alone, rtol=1e-4, atol=1e-9)


def test_without_resistance_nothing_changes():
    g = cells(1, 12, 7)
    np.testing.assert_allclose(folded(jnp.asarray(g, jnp.float32), wires(0.0, 0.0)).conductance, g, rtol=1e-6)


def test_a_vector_does_not_depend_on_what_else_is_in_the_batch():
    """One that needs other steps than the rest: a single row, and cells of its own."""
    g = jnp.asarray(np.stack([cells(1, 16, 16, seed) * 10.0**-seed for seed in range(4)]), jnp.float32)
    v = jnp.asarray(np.vstack([np.eye(16)[3], np.random.default_rng(0).normal(size=(3, 16))]), jnp.float32)
    w = wires(10.0, 10.0)
    together = solved(g, v, w)
    assert len(set(np.asarray(together.steps).tolist())) > 1
    for i in range(4):
        alone = solved(g[i : i + 1], v[i : i + 1], w)
        assert alone.steps[0] == together.steps[i]
        assert worst(alone.currents[0], np.asarray(together.currents[i])) < 1e-6


def test_running_out_of_steps_is_seen():
    w = wires(5.0, 5.0, tolerance=1e-12)  # beyond float32
    found = solved(jnp.asarray(cells(1, 16, 16), jnp.float32), jnp.ones((2, 16)), w)
    assert not converged(found.residual, w).any()
    broken = solved(jnp.full((1, 4, 4), jnp.nan), jnp.ones((1, 4)), w)
    assert not converged(broken.residual, w).any()


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2])
def test_gradients_of_both_solvers_are_finite_differences(lines):
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        g, v, weight = (jnp.asarray(a) for a in (cells(lines, 6, 5), rng.normal(size=(3, 6)), rng.normal(size=(3, 5))))
        w = wires(20.0, 30.0, 2.0, 5.0, dtype=jnp.float64, tolerance=1e-12)
        signs = jnp.array(polarities(lines))
        losses = {
            "fold": lambda g, v, w: jnp.einsum("l,bi,lij,bj", signs, v, fold(g, w).conductance, weight),
            "vectors": lambda g, v, w: jnp.sum(solve_vectors(g, v, w).currents * weight),
        }
        direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)) * a, (g, v, w))
        move = lambda h: jax.tree.map(lambda a, d: a + h * d, (g, v, w), direction)
        for loss in losses.values():
            loss = jax.jit(loss)
            slope = jax.grad(loss, argnums=(0, 1, 2))(g, v, w)
            ours = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
            difference = (loss(*move(1e-5)) - loss(*move(-1e-5))) / 2e-5
            assert ours == pytest.approx(float(difference), rel=1e-6)
        slopes = [jax.jit(jax.grad(loss))(g, v, w) for loss in losses.values()]  # of cells that do not conduct too
        np.testing.assert_allclose(*slopes, rtol=1e-8)


@pytest.mark.parametrize("side", ["near", "far"])
def test_couplings_are_what_two_ways_to_the_end_share(side):
    w = wires(2.0, 3.0, 10.0, 20.0, drive_side=side, sense_side=side)
    place = (lambda k, count: k + 1) if side == "near" else (lambda k, count: count - k)
    expected = [[10 + 2 * min(place(a, 4), place(b, 4)) for b in range(4)] for a in range(4)]
    np.testing.assert_allclose(word_coupling(w, 4), expected)
    expected = [[20 + 3 * min(place(a, 3), place(b, 3)) for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(bit_coupling(w, 3), expected)
