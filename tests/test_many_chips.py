"""Many chips of one matrix in a call: each is the chip that its key makes, and every batch sees the same draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import chip_key, normal_rows, root_key, row_keys
from pim.devices.record import replace_at
from pim.programming import program

KEY, READ = root_key(6), root_key(7)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(3, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def device():
    return replace(preset("rram-wan2022-crosssim"), {"rows": 16})


@pytest.fixture(scope="module")
def many(sample, device):
    w, x = sample
    return program(w, device, key=KEY, chips=5, calibration=x)


def equal(mine, theirs):
    for a, b in zip(jax.tree.leaves(mine.crossbar), jax.tree.leaves(theirs.crossbar), strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_chip_is_that_of_its_key(sample, device, many):
    w, x = sample
    y = np.asarray(many.matmul(x, key=READ))
    assert len(many) == 5 and y.shape == (5, 3, 6)
    rewritten = many.rewrite()
    for c in (0, 4):
        one = program(w, device, key=chip_key(KEY, c), calibration=x)
        equal(many[c], one)
        equal(rewritten[c], one.rewrite())
        np.testing.assert_allclose(y[c], one.matmul(x, key=chip_key(READ, c)), rtol=1e-5, atol=1e-5)
    assert np.abs(y[0] - y[1]).max() > 1e-3


def test_more_chips_never_change_earlier_ones(sample, device, many):
    w, x = sample
    few = program(w, device, key=KEY, chips=2, calibration=x)
    np.testing.assert_array_equal(few.crossbar.weights, many.crossbar.weights[:2])


@pytest.mark.slow
def test_they_age_and_are_compensated_together(sample):
    w, x = sample
    device = replace(preset("pcm-gst25"), {"rows": 16, "adc": None})
    many = program(w, device, key=KEY, chips=2).at(86400.0)
    one = program(w, device, key=chip_key(KEY, 1)).at(86400.0)
    np.testing.assert_array_equal(many.crossbar.weights[1], one.crossbar.weights)
    for kind in ("global", "column"):
        together, alone = (chip.compensate(kind, since=0.0, x=x) for chip in (many, one))
        np.testing.assert_allclose(together.crossbar.scale[1], alone.crossbar.scale, rtol=1e-5)


def test_an_exact_device_has_equal_chips(sample):
    w, x = sample
    exact = program(w, preset("ideal"), key=KEY, chips=2).matmul(x[:, None], key=None)
    np.testing.assert_allclose(exact, np.stack([x @ w] * 2)[:, :, None], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_is_refused(sample, device, many):
    w, x = sample
    with pytest.raises(DeviceError, match="chips = 0"):
        program(w, device, key=KEY, chips=0)
    with pytest.raises(IndexError, match="chip 5 of 5"):
        many[5]
    with pytest.raises(DeviceError, match="one chip: take"):
        many.operands(x)
    with pytest.raises(DeviceError, match="single chip"):
        many[0][0]


def test_draws_are_bit_equal_on_every_batch_size():
    rows = jnp.stack([jnp.zeros(64, jnp.uint32), jnp.arange(64, dtype=jnp.uint32)], axis=1)
    draw = jax.jit(lambda rows: normal_rows(row_keys(READ, rows), (2, 5)))
    whole = np.asarray(draw(rows))
    for batch in (1, 3):
        np.testing.assert_array_equal(draw(rows[:batch]), whole[:batch])


def test_outputs_are_equal_to_rounding_on_every_batch_size(many):
    """Up to codes at a tie: none here."""
    chip = many[0]
    x = np.random.default_rng(3).normal(size=(64, 40)).astype(np.float32)
    whole = np.asarray(chip.matmul(x, key=READ))
    for batch in (1, 3):
        np.testing.assert_allclose(chip.matmul(x[:batch], key=READ), whole[:batch], rtol=1e-5, atol=1e-5)


def test_many_chips_have_slopes_with_respect_to_the_device(sample):
    w, x = sample
    device = replace(preset("rram-wan2022-crosssim"), {"rows": 16, "adc": None, "cell.read_noise": None})

    def spread(factor):
        model = replace_at(device.model, "cell.write_error.spread_unit", lambda unit, _: unit * factor)
        changed = dataclasses.replace(device, model=model)
        return program(w, changed, key=KEY, chips=3).matmul(x, key=None).std(axis=0).sum()

    value = jax.jit(jax.value_and_grad(spread))
    finite = (value(jnp.float32(1.01))[0] - value(jnp.float32(0.99))[0]) / 0.02
    assert float(value(jnp.float32(1.0))[1]) == pytest.approx(float(finite), rel=0.02)
