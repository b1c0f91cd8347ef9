"""A chip written again: what differs between devices stays, what differs between cycles is new."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.catalogue import preset
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.variation import Variation
from pim.devices.cells.wear import Wear
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import cycle_key, root_key, site_key
from pim.devices.record import cast
from pim.programming import program

KEY = root_key(4)
US = 1e-6


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(3, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def device():
    parts = {
        "cell.write_error": cast(GaussianWriteError(Polynomial(np.array([0.5])), US, US)),
        "cell.variation": cast(Variation(sigma_cell=0.1, sigma_die=0.05)),
        "cell.faults": cast(StuckFaults(0.02, 0.03)),
    }
    return replace(preset("rram-wan2022-crosssim"), {"rows": 16, "adc": None, "cell.read_noise": None, **parts})


def test_cycle_0_is_programming_and_each_cycle_is_itself_whatever_came_before(sample, device):
    w, _ = sample
    chip = program(w, device, key=KEY)
    np.testing.assert_array_equal(chip.rewrite(cycle=0).crossbar.weights, chip.crossbar.weights)
    third = chip.rewrite().rewrite().rewrite()
    assert int(third.cycle) == 3
    np.testing.assert_array_equal(third.crossbar.weights, chip.rewrite(cycle=3).crossbar.weights)
    np.testing.assert_array_equal(third.rewrite(cycle=0).crossbar.weights, chip.crossbar.weights)
    traced = jax.eval_shape(lambda k: chip.rewrite(cycle=k).rewrite().crossbar.weights, jnp.uint32(3))
    assert traced.shape == chip.crossbar.weights.shape


def test_cells_differ_between_devices_by_variation_and_between_cycles_by_writing(device):
    """One array of equal weights: the mean over cycles is the device's, what is left is the cycle's."""
    w = np.ones((16, 60), np.float32)
    chip = program(w, replace(device, {"cell.faults": None}), key=KEY)
    cycles = np.stack([np.asarray(chip.rewrite(cycle=k).crossbar.weights)[0] for k in range(40)])
    cycles = cycles / cycles.mean()  # the die
    # a pair: g_max = 39.26 uS with an error of 0.5 uS, and the other cell at zero, whose error is clipped below
    assert cycles.std(axis=0, ddof=1).mean() == pytest.approx(np.hypot(0.5, 0.5 * 0.584) / 39.06, rel=0.03)
    assert cycles.mean(axis=0).std() == pytest.approx(0.1, rel=0.1)


def test_faults_stay_where_they_are(sample, device):
    w, _ = sample
    chip = program(w, device, key=KEY)
    clean = program(w, replace(device, {"cell.faults": None}), key=KEY)
    stuck = [
        np.abs(np.asarray(chip.rewrite(cycle=k).crossbar.weights - clean.rewrite(cycle=k).crossbar.weights)) > 1e-6
        for k in (0, 1, 2)
    ]
    assert 0.02 < stuck[0].mean() < 0.15
    for again in stuck[1:]:
        assert (again != stuck[0]).mean() < 0.02  # a stuck cell may also be where it was meant to be


def test_converters_and_ranges_stay_and_time_begins_anew(sample, device):
    w, x = sample
    chip = program(w, preset("rram-wan2022"), key=KEY, calibration=x).at(86400.0)
    again = chip.rewrite(-w)
    assert float(again.time) == 1.0
    np.testing.assert_array_equal(again.crossbar.ranges.adc, chip.crossbar.ranges.adc)
    np.testing.assert_array_equal(again.at(86400.0).rewrite(w, cycle=0).at(86400.0).crossbar.weights,
                                  chip.crossbar.weights)  # fmt: skip
    assert np.corrcoef(np.ravel(again.crossbar.weights), np.ravel(chip.crossbar.weights))[0, 1] < -0.9
    later = chip.rewrite(time=3600.0)
    assert float(later.time) == 3600.0 and float(later.at(1.0).cycle) == 1


def test_the_pace_of_drift_belongs_to_the_cell():
    w = np.ones((32, 40), np.float32)
    device = replace(preset("pcm-gst25"), {"adc": None, "cell.write_error": None, "cell.slow_noise": None})
    chip = program(w, device, key=KEY).at(1e5)
    np.testing.assert_array_equal(chip.rewrite().at(1e5).crossbar.weights, chip.crossbar.weights)


def test_writes_are_counted_by_wear(device):
    w = np.ones((16, 60), np.float32)
    worn = replace(device, {"cell.faults": None, "cell.wear": cast(Wear(0.0, life=100.0, dead_lrs=0.0))})
    chip = program(w, worn, key=KEY)
    alive = replace(worn, {"cell.wear": None})
    np.testing.assert_array_equal(chip.crossbar.weights, program(w, alive, key=KEY).crossbar.weights)
    dead = [np.asarray(chip.rewrite(cycle=k).crossbar.weights) < 0.3 for k in (30, 100, 1000)]
    for share, k in zip([d.mean() for d in dead], (30, 100, 1000), strict=True):
        assert share == pytest.approx(1 - np.exp(-k / 100), abs=0.05)
    assert not (dead[0] & ~dead[1]).any() and not (dead[1] & ~dead[2]).any()


def test_the_keys_of_cycles_are_their_own():
    keys = [cycle_key(KEY, k) for k in range(4)]
    assert keys[0] == KEY
    sites = [site_key(key, use=use, tile=t) for key in keys for use in ("write", "slow") for t in (0, 1)]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in sites}) == len(sites)  # noqa: TID251


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cycle": -1}, "cycle = -1"),
        ({"cycle": 1.5}, "cycle = 1.5"),
        ({"weights": np.ones((3, 3))}, r"holds \(40, 6\)"),
    ],
)
def test_a_writing_that_cannot_be_is_refused(sample, device, options, words, unchecked):
    with pytest.raises(DeviceError, match=words):
        program(sample[0], device, key=KEY).rewrite(**options)


def test_an_exact_device_holds_what_it_is_told(sample):
    w, x = sample
    chip = program(w, preset("ideal"), key=KEY).rewrite(2 * w)
    np.testing.assert_allclose(chip.matmul(x, key=None), 2 * x @ w, rtol=1e-4, atol=1e-4)
