"""Temperature and supply around the cells: converters, references, leakage, and a chip that is told its temperature."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from pim.costs.macro_cost import leakage_power
from pim.devices.catalogue import preset
from pim.devices.cells.temperature import Arrhenius
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.programming import program

KEY = root_key(5)
W = np.random.default_rng(0).normal(size=(48, 12)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(20, 48)).astype(np.float32)


def device(**changes):
    """A cell that takes its target and ages by nothing, behind converters that all read alike."""
    return replace(preset("rram-wan2022-crosssim"), {"cell.write_error": None, "cell.read_noise": None, **changes})


def product(**changes):
    return np.asarray(program(W, device(**changes), key=KEY, calibration=X).matmul(X, key=None))


def test_at_its_nominal_point_nothing_deviates():
    np.testing.assert_array_equal(product(), product(environment=None))
    np.testing.assert_array_equal(product(), product(**{"environment.temperature": 300.0}))


def test_gain_and_offset_move_with_temperature_and_supply():
    """Fine steps: a gain is a factor; an offset is that many LSB of the converters of both tiles, in every output."""
    fine = {"adc.bits": 16, "adc.range_rule": "full", "dac.bits": 16, "environment.adc_offset_per_kelvin": 0.0}
    cold = product(**fine)
    lsb = 64 / 32767 * np.abs(W).max() * np.abs(X).max()  # either product is rounded to half of one
    hot = product(**fine, **{"environment.temperature": 350.0, "environment.adc_gain_per_kelvin": 1e-3})
    np.testing.assert_allclose(hot, 1.05 * cold, rtol=1e-5, atol=1.1 * lsb)
    low = product(**fine, vdd=0.8, **{"environment.adc_gain_per_volt": 0.5, "environment.adc_offset_per_volt": 0.0})
    np.testing.assert_allclose(low, 0.95 * cold, rtol=1e-5, atol=1.1 * lsb)
    eight = {"adc.bits": 8, "dac.bits": 16, "environment.adc_gain_per_kelvin": 0.0}
    shifted = product(**eight, **{"environment.temperature": 400.0, "environment.adc_offset_per_kelvin": 0.03})
    chip = program(W, device(**eight), key=KEY, calibration=X)
    step = np.asarray(chip.crossbar.ranges.adc)[:, 0, 0] / 127 * float(chip.crossbar.ranges.x)
    moved = np.median(shifted - product(**eight), axis=0) / np.asarray(chip.crossbar.scale)
    np.testing.assert_allclose(moved, 3 * step.sum(), rtol=0.05)


def test_a_reference_of_another_current_shifts_what_is_subtracted():
    """One column less a reference of half the window: where that is off by d, d / 2 sum x w_max is in every output."""
    changes = {"encoding": "offset_reference", "adc": None, "dac.bits": 16, "cell.g_min": 0.0}
    exact = product(**changes)
    hot = product(**changes, **{"environment.temperature": 400.0, "environment.reference_per_kelvin": 1e-4})
    lost = 0.01 * X.sum(axis=1)[:, None] * np.abs(W).max(axis=0)
    np.testing.assert_allclose(exact - hot, lost, atol=2e-3 * np.abs(lost).max())


def test_a_reference_column_of_cells_ages_with_the_data_and_an_ideal_one_does_not():
    """After a year of drift a zero weight still reads near zero against cells of its own kind."""
    base = preset("pcm-gst25")
    quiet = {"adc": None, "cell.write_error": None, "cell.slow_noise": None, "rows": 48, "dac.bits": 12}
    zero = np.zeros((48, 32), np.float32)
    zero[0] = 1.0  # the scale
    x = np.abs(X)
    x[:, 0] = 0.0
    bias = {}
    for encoding in ("offset", "offset_reference"):
        chip = program(zero, replace(base, {**quiet, "encoding": encoding, "input_range": "token"}), key=KEY)
        y = np.asarray(chip.at(3.15e7).matmul(x, key=None))
        bias[encoding] = abs(y.mean()) / x.sum(axis=1).mean()
    assert bias["offset_reference"] > 0.2
    assert bias["offset"] < 0.02


def test_leakage_doubles_and_falls_with_the_supply():
    power = lambda **changes: float(leakage_power(device(**changes).model, 64, 64))
    assert power(**{"environment.temperature": 320.0}) == pytest.approx(4 * power(), rel=1e-5)
    assert power(vdd=0.8) == pytest.approx(np.exp(-0.38) * power(), rel=1e-5)
    assert power(**{"environment.leakage_doubling": None, "environment.temperature": 400.0}) == pytest.approx(power())


def with_law(base):
    """The device with cells that conduct less when they are warm."""
    law = cast(Arrhenius(1.6e-19, 300.0, tcr=-1e-3))
    cell = dataclasses.replace(base.model.cell, temperature=law)
    return dataclasses.replace(base, model=dataclasses.replace(base.model, cell=cell))


def test_a_chip_tells_its_circuits_the_temperature():
    base = with_law(device(**{"environment.adc_gain_per_kelvin": 1e-3, "adc.bits": 12}))
    chip = program(W, base, key=KEY, calibration=X)
    hot = chip.at(None, temperature=350.0)
    expected = program(W, replace(base, {"environment.temperature": 350.0}), key=KEY, calibration=X)
    np.testing.assert_array_equal(hot.matmul(X, key=None), expected.matmul(X, key=None))
    np.testing.assert_array_equal(hot.at(None, temperature=300.0).matmul(X, key=None), chip.matmul(X, key=None))


def test_cells_follow_the_temperature_of_their_macro():
    warm = with_law(device(adc=None))
    y = program(W, replace(warm, {"environment.temperature": 330.0}), key=KEY).matmul(X, key=None)
    np.testing.assert_allclose(y, 0.97 * program(W, warm, key=KEY).matmul(X, key=None), rtol=1e-3, atol=1e-3)


def test_a_chip_whose_cells_have_no_law_refuses_a_temperature():
    chip = program(jnp.asarray(W), device(), key=KEY)
    with pytest.raises(DeviceError, match=r"or set environment\.temperature for the circuits alone"):
        chip.at(None, temperature=350.0)


def test_a_time_that_heat_makes_too_long_is_refused():
    """1e4 s at 400 K age the cell as 1e8 s do where it was measured, which was for 1e5 s."""
    base = replace(preset("rram-techC"), {"cell.temperature": Arrhenius(1.602e-19, 300.0)})
    chip = program(W, base, key=KEY)
    with pytest.raises(DeviceError, match=r"10000 s, as 1.58e.* at the temperature of the measurement, lies outside"):
        chip.at(1e4, temperature=400.0)
    warm = replace(base, {"environment.temperature": 400.0})
    with pytest.raises(DeviceError, match="lies outside the measured range"):
        program(W, warm, key=KEY, time=1e4)
    assert np.isfinite(chip.at(1e-2, temperature=310.0).matmul(X, key=None)).all()
