"""Cells: write error, relaxation as a path, read noise, faults, against the measured tables and the published fits."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few

from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError, StudentWriteError
from pim.devices.errors import DeviceError
from pim.devices.random import name_id, normal, root_key, site_key, student_t
from pim.devices.record import cast

KEY = root_key(7)
CELLS = 300_000  # the tails are heavy: a standard deviation converges slowly


@pytest.fixture(scope="module")
def tech_c():
    return preset("rram-techC").model.cell


@pytest.fixture(scope="module")
def measured(shared):
    """The measured tables of technology C, in uS: {(quantity, time): by level}."""
    records = json.loads((shared / "golden" / "device_facts.json").read_text())["records"]
    mine = {r["parameter"]: r["value"] for r in records if r["device"] == "rram_relax_techC_40uS"}
    labels = {0.01: "0.01s", 0.1: "0.1s", 1.0: "1s", 4.0: "4s", 1e5: "100000s"}
    table = {
        (name, time): np.array(mine[f"{words} at t={label} per level"])
        for time, label in labels.items()
        for name, words in (("raw", "raw sigma(G)"), ("robust", "robust (MAD) sigma(G)"), ("mean", "mean shift"))
    }
    return np.array(mine["level mid conductance"]), table


@pytest.mark.parametrize("time", first_few(2, [1.0, 1e5, 0.01, 0.1, 4.0]))
def test_tech_c_has_the_measured_spread_raw_and_robust(tech_c, measured, time):
    levels, table = measured
    g = jnp.repeat(jnp.asarray(levels * 1e-6, jnp.float32)[:, None], CELLS, axis=1)
    shift = 1e6 * np.asarray(tech_c.relaxation.shift(g, KEY, time))
    median = np.median(shift, axis=1, keepdims=True)
    np.testing.assert_allclose(shift.std(axis=1), table["raw", time], rtol=0.1)
    np.testing.assert_allclose(1.4826 * np.median(abs(shift - median), axis=1), table["robust", time], rtol=0.1)
    np.testing.assert_allclose(shift.mean(axis=1), table["mean", time], atol=0.15)
    assert (shift + levels[:, None] >= -1e-3).all() and (shift + levels[:, None] <= 40.001).all()


def test_ageing_is_a_path_of_the_same_cells(tech_c, measured):
    levels, _ = measured
    g = jnp.tile(jnp.asarray(levels * 1e-6, jnp.float32), 8000)
    early, second, day = (np.asarray(tech_c.relaxation.shift(g, KEY, t)) for t in (0.1, 1.0, 1e5))
    assert np.corrcoef(early, second)[0, 1] == pytest.approx(0.58, abs=0.03)
    assert np.corrcoef(second, day)[0, 1] == pytest.approx(0.36, abs=0.03)
    again = np.asarray(tech_c.relaxation.shift(g, KEY, 1.0))
    np.testing.assert_array_equal(again, second)


def test_between_the_measured_times_the_spread_lies_between(tech_c):
    g = jnp.full(40_000, 20e-6)
    spread = [float(np.asarray(tech_c.relaxation.shift(g, KEY, t)).std()) for t in (4.0, 600.0, 1e5)]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (1.0, {0: 0.35, 5: 1.75, 15: 2.25, 39.26: 1.15}),
        (86400.0, {0: 0.70, 5: 2.76, 15: 4.00, 39.26: 2.72}),
    ],
)
def test_wan2022_has_the_published_fit(time, expected):
    """Evaluated polynomials of the fits, rounded as published."""
    relaxation = preset("rram-wan2022").model.cell.relaxation
    for g, sigma in expected.items():
        assert 1e6 * float(relaxation.sigma(jnp.float32(g * 1e-6), time)) == pytest.approx(sigma, abs=0.006)


def test_crosssims_fit_differs_from_aihwkits_at_low_conductance():
    write_error = preset("rram-wan2022-crosssim").model.cell.write_error
    for g, sigma in {0: 1.05, 2: 1.48, 10: 2.41, 39.26: 1.68}.items():
        assert 1e6 * float(write_error.sigma(jnp.float32(g * 1e-6))) == pytest.approx(sigma, abs=0.006)


def test_sonos_has_a_mean_course_and_the_spread_of_where_it_leads():
    """The fit of Fig. 10 of Agrawal 2022: nA against nA, here at 0.2 V; its polynomial in float64."""
    relaxation = preset("flash-sonos40").model.cell.relaxation
    nanoampere, days = 5e-9, [3600.0, *(86400.0 * day for day in range(1, 6))]
    courses = {50: [0, 1.7, 2.2, 3.0, 3.1, 3.5], 1600: [0, -11.5, -22.4, -26.9, -38.3, -40.7]}
    for k, time in enumerate(days):
        for current, expected in courses.items():
            g = jnp.full(20_000, current * nanoampere, jnp.float32)
            shift = np.asarray(relaxation.shift(g, KEY, time)) / nanoampere
            assert float(relaxation.mean_shift(g, time)[0]) / nanoampere == pytest.approx(expected[k], abs=0.1)
            assert shift.mean() == pytest.approx(expected[k], abs=1.0)
            amplitude, scale = (float(v[k]) for v in (relaxation.spread.amplitude, relaxation.spread.scale))
            assert shift.std() == pytest.approx(amplitude * -np.expm1(-(current + expected[k]) / scale), rel=0.02)
    between = float(relaxation.mean_shift(jnp.float32(1600 * nanoampere), np.sqrt(86400.0 * 172800.0))) / nanoampere
    assert between == pytest.approx((-11.5 - 22.4) / 2, abs=0.1)
    assert "mean and variance" in relaxation.interpolation(100_000.0)


@pytest.mark.parametrize("time", [1e-3, 1e6])
def test_a_time_that_was_not_measured_is_refused(tech_c, time):
    with pytest.raises(DeviceError, match=r"choose 0\.01 s to 100000 s"):
        tech_c.check_time(time)


def test_heavy_and_normal_write_errors_follow_their_polynomials():
    g = jnp.full(200_000, 10e-6)
    spread = Polynomial(jnp.array([1.0, 2.0]))
    normal_error = GaussianWriteError(spread, 1e-6, 20e-6).sample(g, KEY)
    assert float(normal_error.std()) == pytest.approx(2e-6, rel=0.02)
    heavy = StudentWriteError(spread, 1e-6, 20e-6, jnp.float32(3.0)).sample(g, KEY)
    quartile = 0.7649  # of a Student-t with three degrees of freedom
    assert float(np.quantile(heavy, 0.75)) == pytest.approx(2e-6 * quartile, rel=0.02)
    beyond = float(np.mean(abs(np.asarray(heavy)) > 3 * 2e-6))
    assert beyond == pytest.approx(0.0577, rel=0.05)


def test_faults_are_stuck_where_they_say_and_stay_there():
    cell = cast(Cell(1e-6, 40e-6, 1e-13, faults=StuckFaults(0.02, 0.09)))
    g = jnp.full((500, 400), 20e-6)
    keys = lambda use: site_key(KEY, use=use)
    once, again = cell.program(g, keys, None), cell.program(g, keys, None)
    np.testing.assert_array_equal(once, again)
    assert float((once == cell.g_max).mean()) == pytest.approx(0.02, abs=0.002)
    assert float((once == cell.g_min).mean()) == pytest.approx(0.09, abs=0.003)


def test_levels_are_equally_spaced_over_the_window():
    cell = cast(Cell(1e-6, 4e-6, 1e-13, levels=4.0))
    np.testing.assert_allclose(cell.targets(jnp.array([0.0, 0.3, 0.6, 1.0])), [1e-6, 2e-6, 3e-6, 4e-6], rtol=1e-6)


def test_keys_differ_by_site_and_golden_draws_stay():
    sites = [
        site_key(KEY, layer=layer, operator=name_id(operator), tile=tile, use=use)
        for layer in (0, 1) for operator in ("attention.q", "ffn.up") for tile in (0, 1) for use in ("write", "read")
    ]  # fmt: skip
    draws = np.array([normal(site, (4,)) for site in sites])
    assert len(np.unique(draws.round(6))) == draws.size
    assert np.isfinite(student_t(KEY, jnp.float32(1.2), (100,))).all()


@pytest.mark.parametrize(
    ("name", "time", "error", "snr"),
    [
        ("rram-wan2022", 1.0, 0.0478, 16.9),
        ("rram-wan2022", 86400.0, 0.0830, 12.1),
        ("rram-wan2022-crosssim", None, 0.0602, 14.9),
        ("rram-milo2021", None, 0.0334, 20.0),
        ("pcm-joshi2020", None, 0.0313, 20.5),
        ("pcm-gst25", None, 0.0298, 21.0),
        ("pcm-hermes-1", None, 0.0619, 14.6),
        ("pcm-hermes-2", None, 0.0391, 18.6),
    ],
)
def test_a_pair_of_cells_has_the_published_weight_snr(name, time, error, snr):
    """Root mean square error over the largest weight, and SNR in dB, of Gaussian weights clipped at three sigma."""
    cell = preset(name).model.cell
    weights = np.clip(np.random.default_rng(0).normal(size=200_000), -3, 3) / 3
    g = cell.targets(jnp.asarray(np.stack([np.maximum(weights, 0), np.maximum(-weights, 0)]), jnp.float32))
    sigma = cell.write_error.sigma(g) if cell.relaxation is None else cell.relaxation.sigma(g, time)
    found = float(jnp.sqrt((sigma**2).sum(axis=0).mean()) / (cell.g_max - cell.g_min))
    assert found == pytest.approx(error, rel=0.01)
    assert 10 * np.log10((weights**2).mean() / found**2) == pytest.approx(snr, abs=0.1)
