"""Bit lines: kT/C as published, discharge cell by cell, saturation, and each of them in a product."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.bit_line import ChargeSharing, Discharge, LineClip, Saturation
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.programming import program

KEY = root_key(5)


@pytest.mark.parametrize(("farad", "decibel"), [(0.5e-15, 41.4), (1e-15, 44.5), (3.2e-15, 49.5)])
def test_thermal_noise_of_joined_capacitors_is_the_published(farad, decibel):
    """256 binary products, a quarter of them one: variance 256 p (1 - p) over that of the line."""
    line = cast(ChargeSharing(farad, 0.9, 0.3, 2.04278e-15))
    snr = 256 * 0.25 * 0.75 / float(line.noise_variance(256, 300.0))
    assert 10 * np.log10(snr) == pytest.approx(decibel, abs=0.05)


def test_it_grows_with_the_temperature_and_with_the_rows():
    line = cast(ChargeSharing(1e-15, 0.9, 0.0))
    variance = lambda rows, temperature: float(line.noise_variance(rows, temperature))
    assert variance(64, 360.0) == pytest.approx(1.2 * variance(64, 300.0), rel=1e-5)
    assert variance(256, 300.0) == pytest.approx(4 * variance(64, 300.0), rel=1e-5)


def test_a_line_is_discharged_cell_by_cell():
    """Each cell draws its current less what the drop so far takes off: dV = drop (1 - V / V_s), in small steps."""
    line = cast(Discharge(5e-3, 2.0, 0.5))
    parts, v, measured = 1000, 0.0, []
    for _ in range(90):
        for _ in range(parts):
            v += 5e-3 / parts * (1 - v / 2.0)
        measured.append(min(v, 0.5) / 5e-3)
    count = jnp.arange(1.0, 91.0)
    np.testing.assert_allclose(line.transfer(count, count), measured, rtol=1e-3)
    np.testing.assert_allclose(line.transfer(-count, count), -np.array(measured), rtol=1e-3)
    both = line.transfer(jnp.zeros(3), jnp.array([2.0, 40.0, 90.0]))
    np.testing.assert_array_equal(both, 0.0)  # as much on one line as on the other


def test_without_headroom_and_resistance_it_adds():
    sums = jnp.linspace(-30.0, 30.0, 7)
    np.testing.assert_allclose(cast(Discharge(1e-3, 1e4, 5.0)).transfer(sums, abs(sums) + 5), sums, atol=2e-3)


def binary(line, **changes):
    """A macro of binary cells without converters, so that products are those of the lines alone."""
    base = replace(preset("sram-qs28"), {"adc": None, "cell.variation": None, "rows": 32, "columns": 64, **changes})
    return dataclasses.replace(base, model=dataclasses.replace(base.model, bit_line=line))


def test_a_product_is_that_of_lines_one_by_one():
    line = cast(Discharge(20e-3, 1.0, 0.2))
    device = binary(line, slices=1, weight_bits=2, **{"dac.bits": 3})
    draw = np.random.default_rng(0)
    w = draw.integers(-1, 2, (40, 5)).astype(np.float32)
    x = draw.integers(-3, 4, (6, 40)).astype(np.float32)
    x[:, 0], w[0] = 3.0, 1.0  # full scales of inputs and weights are known
    y = program(w, device, key=KEY).matmul(x, key=None)

    def held(cells):
        return min(1.0 * (1 - np.exp(-cells * 0.02)), 0.2) / 0.02

    expected = np.zeros((6, 5))
    for b, n in np.ndindex(6, 5):
        for rows in (slice(0, 32), slice(32, 40)):
            for bit in (1, 2):
                plane = np.sign(x[b, rows]) * ((abs(x[b, rows]).astype(int) & bit) > 0)
                product = plane * w[rows, n]
                expected[b, n] += bit * (held((product > 0).sum()) - held((product < 0).sum()))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
    assert np.abs(y - x @ w).max() > 1


def test_sums_saturate_and_small_ones_do_not():
    device = binary(cast(Saturation(4.0)), slices=1, weight_bits=2, **{"dac.bits": 2})
    x = jnp.stack([jnp.ones(32), jnp.where(jnp.arange(32) < 3, 1.0, 0.0)])
    w = jnp.concatenate([jnp.ones((32, 1)), -jnp.ones((32, 1))], axis=1)
    y = program(w, device, key=KEY).matmul(x, key=None)
    np.testing.assert_allclose(y, [[4.0, -4.0], [3.0, -3.0]], rtol=1e-5)


@pytest.mark.parametrize(
    ("encoding", "phases"),
    [
        ("differential", 1),
        ("differential", 2),
        ("differential", 4),
        ("differential_two_sided", 1),
        ("differential_digital", 1),
        ("offset", 1),
        ("offset_digital", 2),
    ],
)
@pytest.mark.parametrize("g_min", [0.0, 0.1])
def test_lines_are_cut_off_one_by_one(encoding, phases, g_min):
    """Line by line, with signed inputs on it and the g_min of all its cells, in currents of a full cell."""
    changes = {
        "encoding": encoding,
        "read_phases": phases,
        "slices": 1,
        "weight_bits": 3,
        "dac.bits": 2,
        "cell.levels": None,
    }
    device = binary(cast(LineClip(3.0)), **changes)
    g_max = float(device.model.cell.g_max)
    device = replace(device, {"cell.g_min": g_min * g_max})
    draw = np.random.default_rng(1)
    w = draw.integers(-3, 4, (32, 5)).astype(np.float32)
    x = draw.integers(-1, 2, (6, 32)).astype(np.float32)
    x[:, 0], w[0] = 1.0, 3.0  # full scales of inputs and weights are known
    y = np.asarray(program(w, device, key=KEY).matmul(x, key=None))

    def cells(fraction):
        return g_min + (1 - g_min) * fraction

    def line(fraction):
        current = 0.0
        for sign in (1, -1) if phases > 1 else (None,):
            level = x if sign is None else np.maximum(sign * x, 0)
            current = current + (sign or 1) * np.clip(level @ cells(fraction), -3, 3)
        return current / (1 - g_min)

    if encoding.startswith("differential"):
        ends = (1 + w / 3) / 2, (1 - w / 3) / 2
        if encoding != "differential_two_sided":
            ends = np.maximum(w / 3, 0), np.maximum(-w / 3, 0)
        expected = 3 * (line(ends[0]) - line(ends[1]))
    elif encoding == "offset":
        expected = 3 * 2 * (line((1 + w / 3) / 2) - line(np.full((32, 1), 0.5)))
    else:
        shifted = (w + 4) / 7
        expected = 7 * line(shifted) - (4 + 7 * g_min / (1 - g_min)) * x.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=2e-4)
    assert np.abs(y - x @ w).max() > 0.5


def test_noise_of_cells_is_cut_off_with_its_line():
    from pim.devices.cells.read_noise import ProportionalReadNoise

    device = binary(cast(LineClip(4.0)), slices=1, weight_bits=2, **{"dac.bits": 2})
    cell = dataclasses.replace(device.model.cell, read_noise=cast(ProportionalReadNoise(0.05)))
    device = dataclasses.replace(device, model=dataclasses.replace(device.model, cell=cell))
    w = jnp.where(jnp.arange(32)[:, None] < 2, -1.0, 1.0) * jnp.ones((1, 8))
    y = np.asarray(program(w, device, key=KEY).matmul(jnp.ones((400, 32)), key=root_key(1)))
    assert y.mean() == pytest.approx(2.0, abs=0.01)  # 30 cells cut off at 4, less two
    assert y.std() == pytest.approx(0.05 * np.sqrt(2), rel=0.05), "that of the two cells alone"


def test_a_line_with_a_reference_taken_off_before_is_refused():
    device = binary(cast(LineClip(4.0)), encoding="offset_reference")
    with pytest.raises(DeviceError, match="takes a reference off it before: take a differential encoding"):
        program(jnp.ones((4, 4)), device, key=KEY).matmul(jnp.ones((1, 4)), key=None)


def test_the_noise_of_a_line_is_in_every_read_of_a_pair_of_lines():
    """Bit-serial: of each step and slice, with the weight of its bits; two lines make a pair."""
    line = cast(ChargeSharing(1e-15, 0.9, 0.3))
    device = binary(line, slices=1, weight_bits=2, **{"dac.bits": 3})
    w, x = jnp.ones((32, 64)), jnp.ones((500, 32)) * 3.0
    chip = program(w, device, key=KEY)
    noise = np.asarray(chip.matmul(x, key=root_key(1)) - chip.matmul(x, key=None))
    expected = 2 * float(line.noise_variance(32, 300.0)) * (1**2 + 2**2)
    assert noise.var() == pytest.approx(expected, rel=0.03)
    np.testing.assert_array_equal(chip.matmul(x[:3], key=None), chip.matmul(x, key=None)[:3])


def test_noise_of_cells_is_bent_with_the_sum_and_that_of_the_converter_is_not():
    line = cast(Saturation(4.0))
    noisy = {"cell.read_noise": None, "slices": 1, "weight_bits": 2, "dac.bits": 2}
    device = binary(line, **noisy)
    from pim.devices.cells.read_noise import ProportionalReadNoise

    cell = dataclasses.replace(device.model.cell, read_noise=cast(ProportionalReadNoise(0.05)))
    device = dataclasses.replace(device, model=dataclasses.replace(device.model, cell=cell))
    x = jnp.concatenate([jnp.ones((400, 32)), jnp.broadcast_to(jnp.arange(32) < 2, (400, 32)).astype(jnp.float32)])
    y = np.asarray(program(jnp.ones((32, 8)), device, key=KEY).matmul(x, key=root_key(1)))
    np.testing.assert_array_equal(y[:400], 4.0)  # far beyond the limit: noise does not come through
    assert y[400:].std() == pytest.approx(0.05 * np.sqrt(2), rel=0.05)


def test_a_bending_line_needs_a_line_for_each_sign():
    device = binary(cast(Saturation(4.0)), encoding="offset_reference")
    with pytest.raises(DeviceError, match="take encoding = 'differential'"):
        program(jnp.ones((4, 4)), device, key=KEY).matmul(jnp.ones((1, 4)), key=None)


def test_a_product_has_a_slope_in_the_lines_figures():
    device = binary(cast(Discharge(5e-3, 2.0, 0.6)), slices=1, weight_bits=2)
    w, x = jnp.ones((32, 3)), jnp.ones((2, 32))

    def output(v):
        line = dataclasses.replace(device.model.bit_line, v_saturation=v)
        changed = dataclasses.replace(device, model=dataclasses.replace(device.model, bit_line=line))
        return program(w, changed, key=KEY).matmul(x, key=None).sum()

    output = jax.jit(output)
    finite = (output(jnp.float32(2.02)) - output(jnp.float32(1.98))) / 0.04
    assert float(jax.grad(output)(jnp.float32(2.0))) == pytest.approx(float(finite), rel=0.02)
