"""The emulated product against one that loops over every tile, slice, step and column, and against its statistics."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering, first_few
from hypothesis import given, settings
from hypothesis import strategies as st

from pim import crossbar
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.flash_adc import Flash
from pim.devices.converters.inl import TabulatedINL
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.sar_adc import SAR
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.inputs import drive
from pim.programming import program
from pim.ranges import Ranges
from pim.tile_programming import program_tiles

KEY = root_key(3)


def macro(dac=None, adc_bits=8.0, g_min=0.0, **fields) -> AnalogMacro:
    """A macro without any error but those asked for."""
    cell = {k: fields.pop(k) for k in ("write_error", "read_noise", "levels", "faults") if k in fields}
    settings = {"rows": 16, "columns": 32, "slices": 1, "encoding": "differential", "weight_scale": "column"}
    return cast(
        AnalogMacro(
            **{**settings, "input_range": "calibrated", **fields},
            v_read=0.2,
            t_read=1e-8,
            vdd=0.9,
            cell=Cell(g_min, 40e-6, 1e-13, **cell),
            dac=dac or MultibitDAC(8.0, 100.0, 0.0, 0.0),
            adc=None if adc_bits is None else ADC(adc_bits, 100.0, 8.0),
        )
    )


def serial(bits: int) -> BitSerialDAC:
    return BitSerialDAC(bits, 100.0, 0.0, 0.0)


def matrix(n_in: int, n_out: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_in, n_out)).astype(np.float32), rng.normal(size=(5, n_in)).astype(np.float32)


def row_ids(n: int):
    return jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)


def emulate(w, x, m, key=None, program_key=KEY):
    y, programmed = _emulate(jnp.asarray(w), jnp.asarray(x), m, key, program_key)
    return np.asarray(y), programmed


@jax.jit
def _emulate(w, x, m, key, program_key):
    ranges = crossbar.calibrate(program_tiles(w, m, None, None), m, x)
    programmed = program_tiles(w, m, program_key, None, ranges=ranges)
    return crossbar.matmul(programmed, m, x, row_ids(len(x)), key), programmed


def slow_weights(sigma: float, limit: float, numbers) -> list[float]:
    """Capacitors of an array, in LSB, each the sum of 2^k units; their sum is the largest code."""
    raw = [2**k + sigma * 2 ** (k / 2) * float(numbers[k]) for k in range(round(np.log2(limit + 1)))]
    return [weight * limit / sum(raw) for weight in raw]


def slow_level(level: float, dac, numbers) -> float:
    """What a word line gets when told to take a level, from a converter made of some numbers."""
    if numbers is None:
        return level
    top = 1.0 if isinstance(dac, BitSerialDAC) else 2 ** (float(dac.bits) - 1) - 1
    out = level * top
    if isinstance(dac, MultibitDAC):
        weights = slow_weights(float(dac.sigma_unit), top, numbers[2:])
        code = round(abs(out))
        out = np.sign(level) * sum(w for k, w in enumerate(weights) if code >> k & 1)
        out += sum(float(c) * level**k for k, c in enumerate(dac.inl.coefficients))
    out = out * (1 + float(dac.mismatch.sigma_gain) * numbers[0]) + float(dac.mismatch.sigma_offset) * numbers[1]
    return out / top


def slow_code(level: float, adc, numbers) -> float:
    """The code of a signal in LSB, from a converter made of some numbers."""
    limit = 2 ** (float(adc.bits) - 1) - 1
    if numbers is None:
        return np.clip(np.rint(level), -limit, limit)
    level = level * (1 + float(adc.mismatch.sigma_gain) * numbers[0]) + float(adc.mismatch.sigma_offset) * numbers[1]
    level += np.interp(level / limit, np.linspace(-1, 1, len(adc.inl.values)), adc.inl.values)
    numbers = numbers[2:]
    if isinstance(adc.architecture, Flash):
        offsets = float(adc.architecture.sigma_comparator) * numbers[: int(2 * limit)]
        return sum(level > k - limit + 0.5 + offset for k, offset in enumerate(offsets)) - limit
    rest, code = abs(level) + 0.5, 0
    for k, weight in reversed(list(enumerate(slow_weights(float(adc.architecture.sigma_unit), limit, numbers)))):
        if rest >= weight:
            rest, code = rest - weight, code + 2**k
    return np.sign(level) * code


def slow_product(w, x, m, programmed) -> np.ndarray:
    """y = x W with integers and loops, in float64: one conversion a step, slice, tile and column."""
    m, ranges = jax.tree.map(np.asarray, (m, programmed.ranges))
    adcs, dacs = (None if a is None else np.asarray(a, np.float64) for a in (programmed.adcs, programmed.dacs))
    w, x = np.asarray(w, np.float64), np.asarray(x, np.float64)
    scale = np.abs(w).max(axis=0)
    bits = float(m.weight_bits)
    limit = 2 ** (bits - 1) - 1
    width = int(np.ceil((bits - 1) / m.slices))
    code = np.rint(np.abs(w) / scale * limit).astype(int)
    full, step_bits = float(ranges.x), m.dac.steps
    top = 2**step_bits - 1 if isinstance(m.dac, BitSerialDAC) else 2 ** (float(m.dac.bits) - 1) - 1
    x_code = np.clip(np.rint(np.abs(x) / full * top), 0, top).astype(int)
    adc_top = 2 ** (float(m.adc.bits) - 1) - 1
    y = np.zeros((len(x), w.shape[1]))
    for b in range(len(x)):
        for n in range(w.shape[1]):
            for t in range(-(-w.shape[0] // m.rows)):
                rows = range(t * m.rows, min((t + 1) * m.rows, w.shape[0]))
                for s in range(m.slices):
                    for k in range(step_bits):
                        total = 0.0
                        for i in rows:
                            digit = (code[i, n] >> (width * s)) % 2**width / (2**width - 1)
                            level = (x_code[b, i] >> k) & 1 if isinstance(m.dac, BitSerialDAC) else x_code[b, i] / top
                            level = slow_level(np.sign(x[b, i]) * level, m.dac, None if dacs is None else dacs[:, i])
                            total += np.sign(w[i, n]) * digit * level
                        step = float(ranges.adc[t, s, n if ranges.adc.shape[2] > 1 else 0]) / adc_top
                        read = slow_code(total / step, m.adc, None if adcs is None else adcs[t, :, s, n]) * step
                        place = 2 ** (width * s) * (2**width - 1) / limit
                        y[b, n] += read * place * (2**k / top if isinstance(m.dac, BitSerialDAC) else 1.0)
    return y * scale * full


def agrees_with_the_slow_product(w, x, m, programmed):
    y = np.asarray(jax.jit(crossbar.matmul)(programmed, m, jnp.asarray(x), row_ids(len(x)), None))
    expected = slow_product(w, x, m, programmed)
    # float32 may fall on the other side of a tie: one code of one conversion, in few of the outputs
    off = np.abs(y - expected) > 1e-4 * np.abs(expected).max()
    assert off.mean() <= 0.05
    np.testing.assert_allclose(y[~off], expected[~off], atol=1e-4 * np.abs(expected).max())


DACS = {"multibit": MultibitDAC(8.0, 100.0, 0.0, 0.0), "bit-serial": serial(5)}


@pytest.mark.parametrize(("dac", "slices"), covering([*DACS], [1, 2, 4]))
def test_it_is_the_slow_product(dac, slices):
    w, x = matrix(37, 6)
    weight_bits = 5.0 if slices == 1 else 8.0
    m = macro(dac=cast(DACS[dac]), slices=slices, weight_bits=weight_bits, adc_bits=6.0)
    _, programmed = emulate(w, x, m)
    ranges = Ranges(x=programmed.ranges.x, adc=programmed.ranges.adc * 0.8713)  # clips some, and ties are rare
    agrees_with_the_slow_product(w, x, m, dataclasses.replace(programmed, ranges=ranges))


BOW = Polynomial(jnp.array([0.2, 0.0, -0.6]))
REAL_DACS = {
    "multibit": MultibitDAC(6.0, 100.0, 0.0, 0.0, sigma_unit=0.05, inl=BOW, mismatch=GainOffsetMismatch(0.03, 0.4)),
    "bit-serial": BitSerialDAC(4, 100.0, 0.0, 0.0, mismatch=GainOffsetMismatch(0.03, 0.02)),
}


@pytest.mark.parametrize(
    ("dac", "architecture", "range_per"),
    [("multibit", SAR(0.1), "tile"), ("bit-serial", Flash(0.6, 5), "column")],
    ids=["SAR", "flash"],
)
def test_converters_with_errors_are_those_of_the_slow_product(dac, architecture, range_per):
    w, x = matrix(37, 6)
    m = macro(dac=cast(REAL_DACS[dac]), slices=2, weight_bits=7.0)
    inl = TabulatedINL(jnp.array([0.0, -0.5, 0.3, 0.0]))
    parts = {"mismatch": GainOffsetMismatch(0.05, 0.7), "inl": inl, "architecture": architecture}
    m = cast(dataclasses.replace(m, adc=ADC(5.0, 100.0, 3.0, range_per=range_per, **parts)))
    largest = np.random.default_rng(1).uniform(1.0, 3.0, (3, 2, 1 if range_per == "tile" else 6))
    ranges = Ranges(x=jnp.float32(1.9), adc=jnp.asarray(largest, jnp.float32))
    programmed = jax.jit(lambda w: program_tiles(w, m, KEY, None))(jnp.asarray(w))
    agrees_with_the_slow_product(w, x[:3], m, dataclasses.replace(programmed, ranges=ranges))


@settings(max_examples=6)
@given(st.integers(2, 12))
def test_where_nothing_clips_the_error_is_under_half_a_step_a_tile(bits):
    w, x = matrix(64, 24)
    fine = macro(adc_bits=None, dac=MultibitDAC(12.0, 100.0, 0.0, 0.0))
    coarse = macro(adc_bits=float(bits), dac=MultibitDAC(12.0, 100.0, 0.0, 0.0))
    (exact, programmed), (y, _) = emulate(w, x, fine), emulate(w, x, coarse)
    steps = np.asarray(programmed.ranges.adc).sum() / (2 ** (bits - 1) - 1)
    bound = 0.5 * steps * np.abs(w).max(axis=0) * float(programmed.ranges.x)
    assert (np.abs(y - exact) <= bound[None] * 1.001 + 1e-4).all()


@pytest.mark.parametrize("encoding", first_few(1, ["offset", "differential"]))
def test_scaling_weights_scales_outputs(encoding):
    w, x = matrix(40, 9)
    m = macro(encoding=encoding, write_error=GaussianWriteError(Polynomial(jnp.array([1.0])), 1e-6, 40e-6))
    y, _ = emulate(w, x, m)
    doubled, _ = emulate(2 * w, x, m)
    np.testing.assert_allclose(doubled, 2 * y, rtol=1e-5)


READ_NOISE = {"relative": ProportionalReadNoise(0.05), "additive": AdditiveReadNoise(1e-6)}


@pytest.mark.parametrize(("encoding", "law", "dac"), covering(["differential", "offset"], [*READ_NOISE], [*DACS]))
def test_read_noise_at_the_column_is_that_of_cells_drawn_anew(dac, law, encoding):
    """Spread of the outputs against a redraw of every cell, of pairs and references too, at every read and step."""
    w, x = matrix(20, 3)
    law, dac = READ_NOISE[law], serial(4) if dac == "bit-serial" else DACS[dac]
    m = macro(dac=cast(dac), encoding=encoding, read_noise=cast(law), adc_bits=None, rows=8)
    _, programmed = emulate(w, x[:1], m)
    reads = 4000
    ours = np.asarray(crossbar.matmul(programmed, m, jnp.tile(jnp.asarray(x[:1]), (reads, 1)), row_ids(reads), KEY))

    rng = np.random.default_rng(1)
    digit = w / np.abs(w).max(axis=0)
    if encoding == "differential":
        cells, signs = [np.maximum(digit, 0), np.maximum(-digit, 0)], [1.0, -1.0]
    else:
        cells, signs = [(digit + 1) / 2, np.full((20, 1), 0.5)], [2.0, -2.0]
    full, planes, gains = (np.asarray(a) for a in drive(m, jnp.asarray(x[:1]), programmed.ranges.x))
    redrawn = np.zeros((reads, 3))
    for level, gain in zip(planes[:, 0], gains, strict=True):
        for cell, sign in zip(cells, signs, strict=True):
            sigma = 0.05 * cell if isinstance(law, ProportionalReadNoise) else np.full_like(cell, 1 / 40)
            noisy = cell + sigma * rng.normal(size=(reads, *cell.shape))
            redrawn = redrawn + gain * sign * np.einsum("i,rij->rj", level, noisy)
    redrawn = redrawn * np.abs(w).max(axis=0) * float(full.squeeze())

    error = 5 * redrawn.std(axis=0) / np.sqrt(reads)
    assert (np.abs(ours.mean(axis=0) - redrawn.mean(axis=0)) < 1.5 * error).all()
    assert (np.abs(ours.var(axis=0) / redrawn.var(axis=0) - 1) < 5 * np.sqrt(4 / reads)).all()
    both = [np.corrcoef(sample.T)[np.triu_indices(3, 1)] for sample in (ours, redrawn)]
    assert (np.abs(both[0] - both[1]) < 0.1).all(), "a reference column is common to the outputs of its array"


def test_write_errors_are_frozen_and_differ_between_cells():
    w, x = matrix(64, 32)
    m = macro(write_error=GaussianWriteError(Polynomial(jnp.array([1.0])), 1e-6, 40e-6), adc_bits=None)
    first, second = emulate(w, x, m)[0], emulate(w, x, m)[0]
    other, _ = emulate(w, x, m, program_key=root_key(4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3


def test_levels_without_bits_round_the_conductance():
    w, _ = matrix(30, 4)
    nominal = program_tiles(jnp.asarray(w), macro(levels=5.0), None, None)
    assert set(np.unique(np.asarray(nominal.weights).round(5))) <= set(np.linspace(-1, 1, 9).round(5))


# ---------------------------------------------------------------- through the public verbs


@pytest.fixture
def sample():
    return matrix(150, 40)


@pytest.mark.parametrize("name", ["ideal", "digital-28nm"])
def test_an_exact_device_is_the_digital_product(sample, name):
    w, x = sample
    chip = program(w, preset(name), key=KEY)
    np.testing.assert_allclose(chip.matmul(x, key=None), x @ w, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", first_few(1, ["rram-techC", "rram-wan2022", "rram-wan2022-crosssim"]))
def test_draws_belong_to_rows_and_not_to_batches(sample, name):
    w, x = sample
    chip = program(w, preset(name), key=KEY, calibration=x)
    together = np.asarray(chip.matmul(x.reshape(5, 1, 150), key=root_key(1)))
    assert together.shape == (5, 1, 40)
    alone = np.concatenate([chip.matmul(x[i : i + 1], key=root_key(1), rows=jnp.array([i])) for i in range(5)])
    np.testing.assert_allclose(alone, together[:, 0], rtol=1e-5, atol=1e-4)
    assert np.abs(np.asarray(chip.matmul(x, key=root_key(2))) - alone).max() > 1e-3


def test_a_chip_ages_along_one_path(sample):
    w, x = sample
    device = replace(preset("rram-techC"), {"adc": None, "cell.read_noise": None})
    chip = program(w, device, key=KEY, calibration=x)
    error = lambda time: float(jnp.linalg.norm(chip.at(time).matmul(x, key=None) - x @ w))
    assert error(0.01) < error(1.0) < error(1e5)
    np.testing.assert_array_equal(chip.at(1.0).matmul(x, key=None), chip.matmul(x, key=None))

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def traced(t):
        y = chip.at(t).matmul(x, key=None)
        return (y**2).sum(), y

    np.testing.assert_allclose(traced(100.0)[1], chip.at(100.0).matmul(x, key=None), rtol=1e-4, atol=1e-4)
    slope, _ = traced(2.0)
    assert np.isfinite(slope) and slope != 0


def test_one_compilation_serves_a_sweep_of_values_and_two_presets_of_a_structure(sample):
    w, x = sample
    compiled = jax.jit(lambda *args: crossbar.matmul(*args))  # a function of its own: jit counts by function
    programming = jax.jit(lambda *args: program_tiles(*args))
    device = preset("rram-wan2022")
    for bits in (4, 6, 8):
        for sigma in (0.2e-6, 0.4e-6):
            m = replace(device, {"adc.bits": bits, "cell.read_noise.sigma": sigma}).model
            programmed = programming(jnp.asarray(w), m, KEY, m.cell.reference_time)
            compiled(programmed, m, jnp.asarray(x), row_ids(5), KEY).block_until_ready()
    assert compiled._cache_size() == programming._cache_size() == 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.full((4, 3), np.nan), "12 values that are NaN"),
        (np.zeros((2, 3, 4)), "must be a matrix"),
        (np.zeros((0, 3)), "must be a matrix"),
    ],
)
def test_bad_weights_are_named(unchecked, weights, words):
    with pytest.raises(DeviceError, match=words):
        program(weights, preset("rram-techC"), key=KEY)


def test_bad_inputs_are_named(unchecked, sample):
    w, x = sample
    chip = program(w, preset("rram-techC"), key=KEY)
    with pytest.raises(DeviceError, match="last axis must be 150"):
        chip.matmul(x[:, :7], key=None)
    with pytest.raises(DeviceError, match=r"must be \[n, 150\]"):
        program(w, preset("rram-techC"), key=KEY, calibration=x[:, :9])
    with pytest.raises(DeviceError, match=r"choose 0\.01 s"):
        chip.at(1e9)
    with pytest.raises(DeviceError, match="no law of ageing"):
        program(w, preset("rram-wan2022-crosssim"), key=KEY).at(60.0)
    with pytest.raises(DeviceError, match="temperature"):
        chip.at(1.0, temperature=350.0)


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_without_calibration_nothing_can_clip(encoding):
    """All inputs and weights at full scale, of one sign: the largest sum that an array gives."""
    w, x = jnp.ones((16, 4)), jnp.ones((2, 16))
    m = macro(encoding=encoding, adc_bits=8.0)
    programmed = program_tiles(w, m, None, None)
    y = crossbar.matmul(programmed, m, x, row_ids(2), None)
    np.testing.assert_allclose(y, x @ w, rtol=0.02)
