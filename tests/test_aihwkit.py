"""Agreement with aihwkit 1.2: the error of a whole product on each of its inference noise models."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.random import root_key, site_key
from pim.programming import program

TIMES = {"1s": 1.0, "1day": 86400.0, "2day": 172800.0}
OURS = {
    "pcm_like": "pcm-gst25",
    "hermes_2dev": "pcm-hermes-2",
    "hermes_1dev": "pcm-hermes-1",
    "wan2022_gmax40": "rram-wan2022",
    "cmo_accept0.2": "rram-cmo-hfox-tight",
    "cmo_accept2": "rram-cmo-hfox-loose",
}
POINTS = 0.003  # three tenths of a percentage point


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "aihwkit_noise.json").read_text())


def matrices(golden, weights: str):
    """The weights (largest 1) and inputs of the golden runs; the last is the exact product."""
    n = golden["n"]
    w = np.random.default_rng(1234).standard_normal((n, n)).astype(np.float32)
    x = np.random.default_rng(5678).standard_normal((golden["batch"], n)).astype(np.float32)
    w = np.clip(w, -2.5, 2.5) if weights == "clip2.5" else w
    w = (w / abs(w).max()).T
    return w, x, x @ w


def alone(name: str, rows: int):
    """The cells of a preset as aihwkit has them: one array, one scale a matrix, exact converters, frozen noise only."""
    changes = {
        "rows": rows,
        "weight_scale": "matrix",
        "input_range": "token",
        "adc": None,
        "dac.bits": 16,
        "cell.read_noise": None,
    }
    if name.startswith("rram-cmo"):
        changes["encoding"] = "offset_reference"  # one cell a weight, read against an exact mid-window reference
    return replace(preset(name), changes)


def error(y, exact) -> float:
    return float(np.linalg.norm(np.asarray(y) - exact) / np.linalg.norm(exact))


QUICK = ("pcm_like", "wan2022_gmax40", "cmo_accept0.2")  # one of each kind of memory
CASES = [
    *[
        pytest.param(
            "clip2.5", theirs, "1day", marks=() if theirs in QUICK else pytest.mark.slow, id=f"clipped-{theirs}-1day"
        )
        for theirs in OURS
    ],
    *[
        pytest.param(w, theirs, time, marks=pytest.mark.slow, id=f"{w}-{theirs}-{time}")
        for w in ("gauss", "clip2.5")
        for theirs in OURS
        for time in (("1s", "1day", "2day") if "wan" in theirs else ("1s", "1day"))
        if (w, time) != ("clip2.5", "1day")
    ],
]


@pytest.mark.parametrize(("weights", "theirs", "time"), CASES)
def test_a_product_errs_as_in_aihwkits_noise_models(golden, weights, theirs, time):
    w, x, exact = matrices(golden, weights)
    device = alone(OURS[theirs], len(w))
    errors = [
        error(program(w, device, key=root_key(seed), time=TIMES[time]).matmul(x, key=None), exact) for seed in range(3)
    ]
    assert np.mean(errors) == pytest.approx(golden["mvm"][weights][theirs]["apply"][time]["mean"], abs=POINTS)


@pytest.mark.parametrize("theirs", OURS)
def test_one_gain_compensates_as_there(golden, theirs):
    """With Gaussian weights, whose single largest one hardly errs, the tile's rescaling is small (see below)."""
    w, x, exact = matrices(golden, "gauss")
    tile = golden["mvm"]["gauss"][theirs]
    device = alone(OURS[theirs], len(w))
    chip = program(w, device, key=root_key(0), time=TIMES["1day"])
    first = 0.0 if theirs.startswith(("pcm", "hermes")) else 1.0  # ReRAM was first measured after a second
    compensated = chip.compensate(since=first)
    found = error(compensated.matmul(x, key=None), exact)
    assert found == pytest.approx(tile["tile"]["global"]["1day"]["mean"], abs=POINTS)
    gain = float((compensated.crossbar.scale / chip.crossbar.scale)[0, 0])
    alpha = {time: entry["mean"] for time, entry in tile["alpha"].items()}
    rescaling = alpha["1s"] if first == 1.0 else 1.0  # what alpha is before anything has aged
    assert gain == pytest.approx(alpha["1day"] / rescaling, rel=0.01)
    if first == 0.0:  # the drift of phase-change cells differs little from column to column
        by_column = chip.compensate("column", since=first)
        assert error(by_column.matmul(x, key=None), exact) < found


@pytest.mark.slow
@pytest.mark.parametrize("theirs", ["pcm_like", "hermes_2dev", "hermes_1dev"])
def test_the_tiles_rescaling_is_what_sets_its_path_apart(golden, theirs):
    """aihwkit's tile ages the noisy weights divided by their own largest; drift keeps the exponents of the targets.

    With this slip put into our laws, its clipped weights, whose noisy maximum is well above 1, come out too.
    """
    w, x, exact = matrices(golden, "clip2.5")
    cell = alone(OURS[theirs], len(w)).model.cell
    pair = np.stack([np.maximum(w, 0), np.maximum(-w, 0)])
    keys = lambda use: site_key(root_key(0), use=use)
    target = jnp.asarray(pair) * cell.g_max
    written = cell._clip(target + cell.write_error.sample(target, keys("write")))
    noisy = np.asarray(written[0] - written[1]) / float(cell.g_max)
    largest = abs(noisy).max()
    start = jnp.asarray(np.stack([np.maximum(noisy, 0), np.maximum(-noisy, 0)]) / largest) * cell.g_max

    def at(time):
        drifted = start * cell.drift.factor(target, keys("drift"), time)
        g = cell._clip(drifted + cell.slow_noise.sample(start, drifted, keys("slow"), time))
        return np.asarray(g[0] - g[1]) / float(cell.g_max) * largest

    day = at(86400.0)
    gain = abs(noisy).mean() / abs(day).mean()
    theirs_tile = golden["mvm"]["clip2.5"][theirs]["tile"]
    assert error(x @ day, exact) == pytest.approx(theirs_tile["none"]["1day"]["mean"], abs=POINTS)
    assert error(gain * (x @ day), exact) == pytest.approx(theirs_tile["global"]["1day"]["mean"], abs=POINTS)


def test_the_polynomial_of_the_analog_foundation_models(golden):
    """Its noise is on the weight itself, one scale a column of the matrix (a row there)."""
    w, x, _ = matrices(golden, "gauss")
    cell = preset("pcm-afm").model.cell
    unit = float(cell.g_max) / 180
    for g, percent in golden["afm"]["sigma_percent_of_max"].items():
        sigma = float(cell.write_error.sigma(jnp.float32(float(g) * unit)))
        assert 100 * sigma / float(cell.g_max) == pytest.approx(percent, rel=1e-4)
    for weights in ("gauss", "clip2.5"):
        w, x, exact = matrices(golden, weights)
        largest = abs(w).max(axis=0)
        g = jnp.asarray(abs(w) / largest) * cell.g_max
        g = jnp.where(g < 0.6 * unit, 0.0, g)  # as released: small targets are not programmed
        noise = np.asarray(cell.write_error.sample(g, root_key(1))) / float(cell.g_max) * largest
        assert error(x @ (w + noise), exact) == pytest.approx(golden["afm"][weights]["pcm_row"]["mean"], rel=0.01)


# Traps that users of such tools have fallen into


def test_the_acceptance_windows_are_two_presets_and_no_number_with_a_default():
    """A window of "2 %" written 0.02 falls back to 0.2 % elsewhere: ten times too little noise, in silence."""
    at_50 = [
        1e6 * float(preset(f"rram-cmo-hfox-{window}").model.cell.write_error.sigma(jnp.float32(50e-6)))
        for window in ("tight", "loose")
    ]
    np.testing.assert_allclose(at_50, [0.054, 0.576], atol=5e-4)


def test_no_rescaling_by_a_noisy_maximum():
    """A weight's mean over chips is the weight: the noise of the largest one does not move all the others."""
    w = np.clip(np.random.default_rng(0).normal(size=(64, 64)), -1.5, 1.5).astype(np.float32)
    device = alone("rram-wan2022", 64)
    chips = np.stack([np.asarray(program(w, device, key=root_key(s)).matmul(np.eye(64), key=None)) for s in range(12)])
    large = abs(w) > 1.0
    assert np.mean(chips.mean(axis=0)[large] / w[large]) == pytest.approx(1.0, abs=0.01)


def test_a_chip_is_frozen_and_reads_differ():
    w = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(4, 32)).astype(np.float32)
    chip = program(w, preset("rram-wan2022"), key=root_key(0))
    np.testing.assert_array_equal(chip.matmul(x, key=root_key(1)), chip.matmul(x, key=root_key(1)))
    assert not np.array_equal(chip.matmul(x, key=root_key(1)), chip.matmul(x, key=root_key(2)))
    np.testing.assert_array_equal(chip.at(1.0).crossbar.weights, chip.crossbar.weights)
