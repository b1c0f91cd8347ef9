"""Laws of cells, each against a slow or closed-form account of the same physics, and as paths of one frozen chip."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.conduction import Cubic, Sinh
from pim.devices.cells.drift import ExponentialDecay, PowerLawDrift
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise, RectifiedReadNoise
from pim.devices.cells.slow_noise import Flicker, RelativeFlicker, Telegraph, decades_path
from pim.devices.cells.state_law import ClippedLog, ClippedPower, Polynomial, Saturating, Split
from pim.devices.cells.temperature import Arrhenius, TabulatedTemperature
from pim.devices.cells.variation import Variation
from pim.devices.cells.write_error import LognormalWriteError, WindowWriteError
from pim.devices.constants import BOLTZMANN, ELECTRONVOLT
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import chip_key, root_key, site_key
from pim.devices.record import cast, replace_at
from pim.devices.wire import wire
from pim.programming import program

KEY = root_key(3)
CELLS = 200_000


def keys(use: str):
    return site_key(KEY, use=use)


def constant(value: float) -> Polynomial:
    return Polynomial(jnp.array([value]))


# By the state of a cell


@settings(max_examples=30, deadline=None)
@given(u=st.floats(0.0, 2.0))
def test_state_laws_are_their_formulas(u):
    laws = (
        (Polynomial(jnp.array([1.0, -2.0, 3.0])), 1 - 2 * u + 3 * u**2),
        (Saturating(jnp.float32(2.0), jnp.float32(0.5)), 2 * (1 - np.exp(-u / 0.5))),
        (ClippedLog(*map(jnp.float32, (-0.5, 0.1, 0.0, 1.0))), np.clip(-0.5 * np.log(max(u, 1e-7)) + 0.1, 0, 1)),
        (ClippedPower(*map(jnp.float32, (0.01, -0.65, 0.2))), min(0.01 * max(u, 1e-7) ** -0.65, 0.2)),
        (Split(jnp.float32(1.0), constant(2.0), constant(5.0)), 2.0 if np.float32(u) <= 1.0 else 5.0),
    )
    for law, expected in laws:
        assert float(law(jnp.float32(u))) == pytest.approx(expected, rel=1e-4, abs=1e-5)


# Write errors


def test_a_window_holds_every_cell_and_a_lognormal_keeps_its_median():
    g = jnp.full(CELLS, 10e-6)
    window = np.asarray(WindowWriteError(Polynomial(jnp.array([0.0, 0.02])), 1e-6, 1e-6).sample(g, KEY))
    assert abs(window).max() <= 0.2e-6 * (1 + 1e-5)
    assert window.std() == pytest.approx(0.2e-6 / np.sqrt(3), rel=0.01)
    log = np.log1p(np.asarray(LognormalWriteError(constant(0.3), 1e-6).sample(g, KEY)) / 10e-6)
    assert (np.median(log), log.std()) == (pytest.approx(0.0, abs=3e-3), pytest.approx(0.3, rel=0.01))


# Drift


def test_power_law_drift_is_a_course_of_its_own_for_each_cell():
    law = cast(PowerLawDrift(20.0, constant(0.06), constant(0.01), 25e-6))
    g = jnp.full(1000, 10e-6)
    nu = np.asarray(law.exponent(g, KEY), np.float64)
    assert (nu.mean(), nu.std()) == (pytest.approx(0.06, abs=1e-3), pytest.approx(0.01, rel=0.1))
    for time in (0.0, 1.0, 3600.0, 1e8):
        np.testing.assert_allclose(law.factor(g, KEY, time), ((time + 20) / 20) ** -nu, rtol=2e-5)


def test_drift_has_a_slope_at_the_beginning():
    law = cast(PowerLawDrift(20.0, constant(0.06), constant(0.0), 25e-6))
    slope = jax.grad(lambda t: law.factor(jnp.ones(1), KEY, t)[0])(0.0)
    assert float(slope) == pytest.approx(-0.06 / 20, rel=1e-5)


def test_charge_leaks_exponentially():
    law = cast(ExponentialDecay(2.0, 0.0))
    np.testing.assert_allclose(law.factor(jnp.ones(3), KEY, 3.0), np.exp(-1.5), rtol=1e-6)
    spread = np.log(-np.log(np.asarray(cast(ExponentialDecay(2.0, 0.4)).factor(jnp.ones(CELLS), KEY, 2.0))))
    assert spread.std() == pytest.approx(0.4, rel=0.01)


# Slow noise


def test_the_path_of_slow_noise_forgets_with_the_decades():
    z = {t: np.asarray(decades_path(KEY, (CELLS,), t), np.float64) for t in (1.0, 3.0, 30.0, 1e3)}
    for values in z.values():
        assert (values.mean(), values.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    corr = lambda a, b: np.corrcoef(z[a], z[b])[0, 1]
    assert corr(1.0, 3.0) > 0.6 > corr(3.0, 30.0) > abs(corr(1.0, 1e3)) - 0.01
    assert abs(corr(1.0, 1e3)) < 0.01


@pytest.mark.parametrize("time", [0.0, 1.0, 1e6])
def test_flicker_is_the_integral_of_its_spectrum(time):
    """sigma^2 = A^2 ln((T + t_r) / 2 t_r), an integral of A^2 / f; slow and white parts share it out."""
    g, t_read, t_0, q = jnp.full(CELLS, 8e-6), 250e-9, 20.0, 0.01
    whole = cast(RelativeFlicker(constant(q), 25e-6, t_read, t_0))
    expected = (8e-6 * q) ** 2 * np.log((time + t_0 + t_read) / (2 * t_read))
    assert float(jnp.var(whole.sample(g, g, KEY, time))) == pytest.approx(expected, rel=0.02)
    split = cast(RelativeFlicker(constant(q), 25e-6, t_read, t_0, session=1e-3))
    slow, white = float(jnp.var(split.sample(g, g, KEY, time))), float(split.white_variance(g)[0])
    assert slow + white == pytest.approx(expected, rel=0.02)
    assert not whole.has_white


def test_absolute_flicker_does_not_grow_with_the_conductance():
    law = cast(Flicker(constant(2.0), 1e-6, 1e-6, 1e-6))
    sigma = [float(jnp.std(law.sample(g, g, KEY, 1.0))) for g in (jnp.full(CELLS, 1e-6), jnp.full(CELLS, 80e-6))]
    np.testing.assert_allclose(sigma, 2e-6 * np.sqrt(np.log(1.000001 / 2e-6)), rtol=0.01)


def test_a_trap_takes_a_share_of_some_cells():
    law = cast(Telegraph(share=0.3, step=0.2, filled=0.5))
    g = jnp.full(CELLS, 10e-6)
    loss = np.asarray(law.sample(g, g, KEY, 1.0))
    np.testing.assert_allclose(np.unique(loss), [-2e-6, 0.0], rtol=1e-6)
    assert (loss < 0).mean() == pytest.approx(0.15, abs=0.005)


# Temperature


def test_a_conductance_does_not_read_below_zero():
    """Mean and variance of max(0, G + sigma z), against a million numbers, and the slope where there is no noise."""
    law = cast(RectifiedReadNoise(AdditiveReadNoise(1e-6)))
    g = jnp.array([0.0, 0.3e-6, 1e-6, 2e-6, 10e-6, 100e-6])
    drawn = np.maximum(np.asarray(g)[:, None] + 1e-6 * np.random.default_rng(0).normal(size=1_000_000), 0.0)
    np.testing.assert_allclose(g + law.mean_shift(g), drawn.mean(axis=1), atol=4e-9)
    np.testing.assert_allclose(law.variance(g), drawn.var(axis=1), rtol=0.01)
    assert float(law.mean_shift(g)[0]) == pytest.approx(1e-6 / np.sqrt(2 * np.pi), rel=1e-5)
    assert float(law.variance(g)[-1]) == pytest.approx(1e-12, rel=1e-6)

    def moments(g):
        none = cast(RectifiedReadNoise(ProportionalReadNoise(0.05)))
        return none.mean_shift(g) + none.variance(g)

    assert np.isfinite(jax.vmap(jax.grad(moments))(g)).all() and float(moments(jnp.float32(0.0))) == 0.0


def test_arrhenius_ages_faster_and_changes_the_conductance():
    law = cast(Arrhenius(1.0 * ELECTRONVOLT, 300.0, tcr=-1e-3))
    expected = np.exp(ELECTRONVOLT / BOLTZMANN * (1 / 300 - 1 / 330))
    assert float(law.ageing(330.0)) == pytest.approx(expected, rel=1e-4)
    cell = cast(
        Cell(
            0.0,
            25e-6,
            drift=PowerLawDrift(20.0, constant(0.06), constant(0.0), 25e-6),
            reference_time=1.0,
            temperature=law,
        )
    )
    g = jnp.full((4, 4), 10e-6)
    hot = cell.program(g, keys, 100.0, 330.0)
    np.testing.assert_allclose(hot, cell.program(g, keys, 100.0 * expected) * (1 - 0.03), rtol=1e-4)


def test_a_table_of_temperatures_is_followed_and_not_extrapolated():
    law = cast(TabulatedTemperature(np.array([300.0, 350.0]), np.array([1.0, 100.0]), np.array([1.0, 0.9])))
    assert float(law.ageing(325.0)) == pytest.approx(10.0, rel=1e-4)
    assert float(law.conduction(400.0)) == pytest.approx(0.9)


def test_a_temperature_needs_a_law():
    w = np.ones((8, 4), np.float32)
    with pytest.raises(DeviceError, match="no law of temperature"):
        program(w, preset("pcm-gst25"), key=KEY).at(1.0, temperature=350.0)


# Conduction


@pytest.mark.parametrize(
    "law",
    [
        Sinh(0.43),
        Cubic(np.array([7.063e-3, 5.711e-3, 1.541e-3, 1.388e-4]), np.array([1.2968e-3, 6.7919e-4, 8.871e-5]), 50e-6),
    ],
    ids=["sinh", "cubic"],
)
def test_an_array_adds_the_currents_of_its_cells_one_by_one(law):
    law = cast(law)
    device = replace(
        preset("rram-milo2021"),
        {
            "rows": 16,
            "cell.write_error": None,
            "adc": None,
            "cell.read_noise": None,
            "input_range": "token",
            "v_read": 0.4,
        },
    )
    macro = replace_at(device.model, "cell.conduction", lambda *_: law)
    device = type(device)("cell", "reram", "", macro, device.provenance, device.sources)
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(5, 20)).astype(np.float32)
    y = program(w, device, key=KEY).matmul(x, key=None)
    limit = 2.0 ** (device["dac.bits"] - 1) - 1
    full = abs(x).max(axis=1, keepdims=True)
    v = np.round(x / full * limit) / limit * 0.4
    scale = abs(w).max(axis=0)
    pair = [50e-6 + 175e-6 * np.maximum(sign * w / scale, 0) for sign in (1, -1)]

    def current(g: float, volt: float) -> float:
        if isinstance(law, Sinh):
            return g * 0.43 * np.sinh(volt / 0.43)
        d = np.log10(g)
        n2 = 7.063e-3 + 5.711e-3 * d + 1.541e-3 * d**2 + 1.388e-4 * d**3
        return g * volt + n2 * volt**2 + (1.2968e-3 + 6.7919e-4 * d + 8.871e-5 * d**2) * volt**3

    slow = np.array(
        [[sum(current(pair[0][i, j], v[b, i]) - current(pair[1][i, j], v[b, i]) for i in range(20)) for j in range(3)]
         for b in range(5)]
    )  # fmt: skip
    np.testing.assert_allclose(y, slow / (175e-6 * 0.4) * scale * full, rtol=2e-3, atol=2e-4)


# Variation and faults


def test_variation_multiplies_over_dies_arrays_columns_and_cells():
    law = cast(Variation(0.1, 0.2, 0.3, 0.4))
    shape = (2, 1, 300, 200)
    factor = np.log(np.asarray(law.factor(jnp.ones(shape), keys), np.float64))
    within = factor - factor.mean(axis=-2, keepdims=True)
    assert within.std() == pytest.approx(0.4, rel=0.02)
    assert factor.mean(axis=-2).std(axis=-1).mean() == pytest.approx(0.3, rel=0.15)
    sites = [
        np.log(
            np.asarray(law.factor(jnp.ones((1, 1, 200, 200)), lambda use, s=s: site_key(root_key(s), use=use)))
        ).mean()
        for s in range(60)
    ]
    assert np.std(sites) == pytest.approx(np.hypot(0.1, 0.2), rel=0.35)


def test_the_die_is_common_to_all_arrays_of_a_chip():
    device = replace(preset("rram-wan2022"), {"rows": 8, "cell.read_noise": None, "cell.relaxation": None, "adc": None})
    cell = replace_at(device.model, "cell.variation", lambda *_: cast(Variation(sigma_die=0.5)))
    device = type(device)("dies", "reram", "", cell, device.provenance, device.sources)
    chip = program(np.ones((32, 4), np.float32), device, key=KEY)
    ratio = np.asarray(chip.crossbar.weights)
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)
    assert abs(ratio.flat[0] - 1) > 1e-3


def test_chips_of_a_wafer_share_it_and_a_corner_is_where_it_is_put():
    target = jnp.ones((1, 1, 2, 2))
    law = cast(Variation(sigma_die=0.1, sigma_wafer=0.3))
    log = lambda law, chip: float(
        jnp.log(law.factor(target, lambda use: site_key(root_key(chip), use=use)))[0, 0, 0, 0]
    )
    drawn = np.array([log(law, chip) for chip in range(40)])
    assert drawn.std() == pytest.approx(np.hypot(0.1, 0.3), rel=0.25)
    wafer = cast(Variation(sigma_die=0.1, sigma_wafer=0.3, wafer=2.0))
    together = np.array([log(wafer, chip) for chip in range(40)])
    assert (together.mean(), together.std()) == (pytest.approx(0.6, abs=0.05), pytest.approx(0.1, rel=0.25))
    for corner in (-3.0, 3.0):
        assert log(cast(Variation(sigma_die=0.1, die=corner)), 7) == pytest.approx(0.1 * corner, abs=1e-6)
    np.testing.assert_array_equal(  # a level without spread changes no bit of the others
        cast(Variation(0.1, 0.2, 0.3, 0.4)).factor(target, keys),
        cast(Variation(0.1, 0.2, 0.3, 0.4, 0.0)).factor(target, keys),
    )


def test_cells_may_differ_by_their_state_and_are_then_off_by_as_many_deviations():
    law = cast(Variation(cell_spread=Polynomial(np.array([0.0, 0.1])), g_reference=1e-6))
    one, three = (np.log(np.asarray(law.factor(jnp.full((1, 200, 200), g * 1e-6), keys))) for g in (1.0, 3.0))
    assert one.std() == pytest.approx(0.1, rel=0.02)
    np.testing.assert_allclose(three, 3 * one, rtol=1e-3, atol=1e-6)
    with pytest.raises(DeviceError, match=r"needs variation\.g_reference"):
        cast(Variation(cell_spread=constant(0.1))).factor(jnp.ones((1, 2, 2)), keys)


def test_whole_rows_and_columns_can_be_stuck():
    law = cast(StuckFaults(0.0, 0.0, rows_stuck_hrs=0.2, columns_stuck_lrs=0.1))
    g = np.asarray(law.apply(jnp.full((2, 2000, 300), 5.0), 1.0, 9.0, KEY))
    rows = (g == 1.0).sum(axis=(0, 2)) > 0
    columns = (g == 9.0).all(axis=1)
    assert rows.mean() == pytest.approx(0.2, abs=0.03)
    assert columns.mean() == pytest.approx(0.1, abs=0.04)
    inside = g[:, ~rows][:, :, :]
    assert (inside[np.broadcast_to(~columns[:, None, :], inside.shape)] == 5.0).all()


# Precision


@pytest.mark.parametrize("seconds", [0.0, 3600.0, 86400.0, 2.6e6, 3.15e7])
def test_one_gain_recovers_most_of_what_drift_takes(shared, seconds):
    records = json.loads((shared / "golden" / "device_facts.json").read_text())["records"]
    rows = {
        float(r["parameter"].split("s:")[0].split("=")[1]): r["value"]
        for r in records
        if r["device"] == "weight_snr:PCM drift"
    }
    raw, compensated, gain = rows[seconds]
    (found,) = preset("pcm-gst25").precision([seconds]).weights
    assert found.snr_db == pytest.approx(raw, abs=0.15)
    assert found.snr_compensated_db == pytest.approx(compensated, abs=0.3)
    assert found.gain == pytest.approx(gain, rel=0.03)


def test_precision_speaks_of_levels_and_of_the_adc_that_loses_nothing():
    device = replace(preset("gaincell-leroux2025"), {"dac.bits": 5})
    report = device.precision([0.0])
    assert (report.levels, report.lossless_adc_bits) == (8.0, 13)  # 64 rows x 15 x 7 + 1 sums
    assert "effective" not in str(report) and "dB" in str(report)
    with pytest.raises(DeviceError, match="no analog cells"):
        preset("ideal").precision()
    with pytest.raises(DeviceError, match="choose 1 s to"):
        preset("rram-wan2022").precision([0.1])


@pytest.mark.parametrize(
    ("name", "time", "words"),
    [
        ("rram-wan2022", 3600.0, "3600 s lies between the measured 1 s and 86400 s: variance of the relaxation linear"),
        ("rram-techC", 0.5, "0.5 s lies between the measured 0.1 s and 1 s: quantiles of the relaxation linear"),
        ("rram-wan2022", 86400.0, None),
        ("rram-techC", 0.01, None),
        ("rram-cmo-hfox-tight", 3600.0, None),
        ("pcm-gst25", 3600.0, None),
    ],
)
def test_a_time_between_the_measured_ones_is_said_to_be(name, time, words):
    between = preset(name).model.cell.interpolation(time)
    assert between is None if words is None else between.startswith(words)


def test_chips_and_precision_say_that_a_time_is_interpolated():
    chip = program(np.ones((8, 4), np.float32), preset("rram-wan2022"), key=KEY)
    assert chip.notes == ()
    (note,) = chip.at(3600.0).notes
    assert note.startswith("3600 s lies between")
    seen = []
    jax.eval_shape(lambda t: seen.append(chip.at(t).notes), jnp.float32(3600.0))
    assert seen == [()]
    assert program(np.ones((8, 4), np.float32), preset("ideal"), key=KEY).notes == ()
    cell = preset("rram-wan2022").model.cell
    hot = dataclasses.replace(cell, temperature=cast(Arrhenius(1.6e-19, 300.0)))
    assert hot.interpolation(86400.0, 300.0) is None
    assert "between" in hot.interpolation(86400.0, 301.0)  # ages as at another time


# Differentiable


PATHS = ["cell.drift.mean.offset", "cell.slow_noise.amplitude.scale", "cell.write_error.spread_unit", "cell.g_max"]


def test_a_product_has_the_slope_of_finite_differences_in_every_law():
    device = replace(preset("pcm-gst25"), {"rows": 8, "adc": None, "dac.bits": 16, "input_range": "token"})
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(4, 16)).astype(np.float32)
    target = rng.normal(size=(4, 6)).astype(np.float32)

    def output(factors):
        model = device.model
        for path, factor in zip(PATHS, factors, strict=True):
            model = replace_at(model, path, lambda v, _, f=factor: v * f)
        changed = type(device)("grad", "pcm", "", model, device.provenance, device.sources)
        return (program(w, changed, key=KEY, time=1000.0).matmul(x, key=None) * target).sum()

    output = jax.jit(output)
    ones = jnp.ones(len(PATHS))
    slope = np.asarray(jax.grad(output)(ones))
    step = 1e-2
    for i in range(len(PATHS)):
        finite = (output(ones.at[i].add(step)) - output(ones.at[i].add(-step))) / (2 * step)
        assert slope[i] == pytest.approx(float(finite), rel=0.03, abs=2e-3), PATHS[i]


def test_variation_has_the_slope_of_finite_differences():
    spread = Polynomial(jnp.array([0.1, 0.05]))

    @jax.jit
    def total(f):
        cells = jax.tree.map(lambda c: c * f[5], spread)
        law = Variation(0.1 * f[0], jnp.float32(0.2), 0.1 * f[1], jnp.float32(0.0), 0.1 * f[2], f[3], f[4], cells,
                        jnp.float32(1e-6))  # fmt: skip
        return law.factor(jnp.linspace(1e-6, 3e-6, 24).reshape(2, 4, 3), keys).sum()

    ones, step = jnp.ones(6), 1e-2
    slope = np.asarray(jax.jit(jax.grad(total))(ones))
    for i in range(6):
        finite = (total(ones.at[i].add(step)) - total(ones.at[i].add(-step))) / (2 * step)
        assert slope[i] == pytest.approx(float(finite), rel=0.01, abs=1e-2)


@pytest.mark.slow
def test_64_chips_of_a_large_matrix_in_one_call():
    w = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(4, 512)).astype(np.float32)
    device = preset("rram-wan2022")
    many = program(w, device, key=KEY, chips=64)
    y = many.matmul(x, key=KEY)
    assert y.shape == (64, 4, 512)
    one = program(w, device, key=chip_key(KEY, 5))
    np.testing.assert_array_equal(many.crossbar.weights[5], one.crossbar.weights)
    np.testing.assert_allclose(y[5], one.matmul(x, key=chip_key(KEY, 5)), rtol=1e-5, atol=1e-4)
    later = many.at(3600.0).matmul(x, key=None)
    np.testing.assert_allclose(later[5], one.at(3600.0).matmul(x, key=None), rtol=1e-5, atol=1e-4)


# Wires


def test_wires_resist_as_their_table_says_with_the_barrier_and_less_when_cold(shared):
    records = json.loads((shared / "golden" / "device_facts.json").read_text())["records"]
    rows = {int(r["parameter"].split(" nm")[0]): r["value"] for r in records if r["device"] == "wire_r_per_cell"}
    for node, ohms in rows.items():
        bare = wire(node, barrier_factor=1.0)
        found = [float(bare.resistance(pitch * bare.width)) for pitch in (2, 4, 12)]
        np.testing.assert_allclose(found, ohms, rtol=0.02, atol=0.006)
    line = wire(22)
    assert float(line.resistance(1e-6)) == pytest.approx(9.8 * 1.18)
    assert float(line.resistance(1e-6, 250.0)) < float(line.resistance(1e-6)) < float(line.resistance(1e-6, 350.0))
    with pytest.raises(DeviceError, match="no barrier factor is known at 10 nm"):
        wire(10)
    with pytest.raises(DeviceError, match="the nodes are 130"):
        wire(28)
