"""Converters by themselves: their errors against theory, their ranges, who shares one, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from pim import crossbar
from pim.converters import frozen_adcs
from pim.costs.macro_cost import counts
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.state_law import Polynomial
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.clipping import clip_factor
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.flash_adc import Flash
from pim.devices.converters.inl import TabulatedINL
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.ramp_adc import Ramp
from pim.devices.converters.sar_adc import SAR
from pim.devices.converters.span import Span
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.loader import load_device
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.mapping.encoding import ENCODINGS
from pim.mapping.sharing import converter_of, converters_a_tile
from pim.measured_sums import measured_sums
from pim.ranges import Ranges, adc_ranges
from pim.sum_grid import smallest_product
from pim.tile_programming import program_tiles


def of(high) -> Span:
    """The symmetric range of one converter."""
    return Span(-high * jnp.ones((1, 1)), high * jnp.ones((1, 1)))


def adc(bits=6.0, **fields) -> ADC:
    return cast(ADC(bits, 100.0, 8.0, **fields))


def levels(converter: ADC, signal, frozen=None) -> np.ndarray:
    """Codes of a signal given in LSB, [n, converters]."""
    limit = converter.codes()
    return np.asarray(converter.convert(jnp.asarray(signal, jnp.float32), of(limit), frozen)).round().astype(int)


def numbers_of(converter: ADC, n: int, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(converter.numbers, 1, n)), jnp.float32)


# ---------------------------------------------------------------- where to clip


def test_the_clip_factor_is_that_of_the_published_table(shared):
    records = json.loads((shared / "golden" / "device_facts.json").read_text())["records"]
    table = next(r["value"] for r in records if r["device"] == "adc_clipping_gaussian")
    np.testing.assert_allclose(clip_factor(jnp.arange(2.0, 11.0)), table, atol=0.0101)  # cut to two digits there


def test_the_clip_factor_leaves_the_smallest_error():
    for bits in (3, 8, 16):
        k = np.linspace(0.5, 8, 30001)
        error = k**2 / (3 * 4.0**bits) + 2 * ((1 + k**2) * norm.sf(k) - k * norm.pdf(k))
        assert float(clip_factor(float(bits))) == pytest.approx(k[error.argmin()], abs=4e-4)


def column_snr(converter: ADC, full_scale: float, centres) -> float:
    """SNR (dB) of converted counts of a column of 256 binary products that are 1 with probability 1/4.

    The mean over `centres` of the range: counts and codes are both lattices, and how they lie is a matter of chance.
    """
    count = np.arange(257)
    chance = binom.pmf(count, 256, 0.25)
    signal = count[:, None] - np.asarray(centres, float)
    read = converter.convert(jnp.asarray(signal, jnp.float32), of(full_scale), unit=jnp.ones(()))
    return 10 * np.log10(48 / np.mean(chance @ (np.asarray(read, np.float64) - signal) ** 2))


PUBLISHED = {  # dB: the full range of 0 to 256 counts, clipped at k sigma about the mean, and that rounded to counts
    4: (3.6, 19.3, 18.6),
    5: (9.4, 24.5, 22.5),
    6: (15.0, 29.8, 39.4),
    7: (19.8, 34.9, 43.0),
    8: (np.inf, 40.3, 48.1),
}


NEAR = np.linspace(-0.5, 0.5, 41)


@pytest.mark.parametrize("bits", PUBLISHED)
def test_a_binary_column_of_256_rows_gains_what_the_reference_says(bits):
    """One code of 2^bits is not there, which costs 20 log10((2^bits - 1) / (2^bits - 2)): 0.6 dB at 4 bits.

    Where counts are rounded the error lies in the tails alone, in one count of 1e3 to 1e4; the reference drew them and
    we sum, so that its last two figures are a dB off either way.
    """
    _, clipped, whole = PUBLISHED[bits]
    level = adc(float(bits), range_rule="snr")
    integer = dataclasses.replace(level, reconstruct="integer")
    scale = float(level.snr_range(jnp.zeros(()), jnp.sqrt(48.0)).high)
    assert column_snr(level, scale, 64 + NEAR) == pytest.approx(clipped, abs=0.5)
    assert column_snr(integer, scale, [64]) == pytest.approx(whole, abs=0.5 if bits < 7 else 1.05)


def test_six_clipped_bits_with_whole_numbers_beat_seven_of_the_full_range():
    clipped = adc(6.0, range_rule="snr", reconstruct="integer")
    scale = float(clipped.snr_range(jnp.zeros(()), jnp.sqrt(48.0)).high)
    full = max(PUBLISHED[7][0], column_snr(adc(7.0), 128.0, 128 + NEAR))
    assert column_snr(clipped, scale, [64]) > full + 17


# ---------------------------------------------------------------- errors, one by one


@pytest.mark.parametrize("part", [SAR(0.0), Flash(0.0), Ramp()], ids=["SAR", "flash", "ramp"])
def test_without_mismatch_every_architecture_is_the_ideal_quantiser(part):
    for bits in (2, 5, 6):
        agrees_with_the_ideal_quantiser(
            adc(float(bits), architecture=part, mismatch=GainOffsetMismatch(), inl=Polynomial(jnp.zeros(2))), bits
        )


def agrees_with_the_ideal_quantiser(real: ADC, bits: int):
    signal = jnp.linspace(-1.25, 1.25, 997)[:, None]
    tie = np.abs(np.abs(np.asarray(signal) * float(real.codes())) % 1 - 0.5) < 1e-3
    ideal, found = (np.asarray(c.convert(signal, of(1.0))) for c in (adc(float(bits)), real))
    np.testing.assert_allclose(found[~tie], ideal[~tie], atol=1e-6)


@pytest.mark.parametrize("part", [SAR(0.2), Flash(3.0), Ramp(0.0, 2.0)], ids=["SAR", "flash", "ramp"])
def test_a_larger_signal_never_gets_a_smaller_code(part):
    converter = adc(5.0, architecture=part)
    code = levels(converter, np.tile(np.linspace(-17, 17, 600)[:, None], 40), numbers_of(converter, 40))
    assert (np.diff(code, axis=0) >= 0).all()
    assert (np.abs(code) <= 15).all() and len(np.unique(code)) > 20


def thresholds(converter: ADC, code: int, frozen, width: float) -> np.ndarray:
    """The signal (LSB) at which each converter first says `code`, by counting a fine ramp."""
    ramp = code - 0.5 + width * np.linspace(-1, 1, 241)
    said = levels(converter, np.tile(ramp[:, None], frozen.shape[-1]), frozen)
    return ramp[0] + (said < code).sum(axis=0) * (ramp[1] - ramp[0])


def test_a_sum_of_zero_takes_the_code_above_it_whatever_the_range():
    """Between the two middle codes of a symmetric range it is a tie, which goes to the even one, 2^(bits-1)."""
    for bits in (2.0, 5.0, 8.0, 10.0):
        converter = adc(bits, code="offset")
        for high in np.random.default_rng(0).uniform(0.1, 100.0, 50):
            half = high / (2**bits - 1)
            zeros = jnp.array([[0.0], [1e-9 * half], [-1e-9 * half]])
            np.testing.assert_allclose(converter.convert(zeros, of(jnp.float32(high))), half, rtol=1e-4)


@pytest.mark.parametrize("code", [1, 32, 64, 100])
def test_capacitor_mismatch_spreads_codes_as_the_walk_of_their_units(code):
    """sigma(INL) = sigma_unit sqrt(c (1 - c / limit)) LSB: c units in, limit - c out, their sum fixed."""
    converter = adc(8.0, architecture=SAR(0.01))
    spread = thresholds(converter, code, numbers_of(converter, 3000), 0.3).std()
    assert spread == pytest.approx(0.01 * np.sqrt(code * (1 - code / 127)), rel=0.05)


def test_comparators_of_a_flash_miss_each_by_its_own_offset():
    converter = adc(4.0, architecture=Flash(0.1, 4))
    frozen = numbers_of(converter, 2000)
    at = {code: thresholds(converter, code, frozen, 0.49) - (code - 0.5) for code in (-3, 2, 3)}
    for offset in at.values():
        assert offset.std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(at[2], at[3])[0, 1]) < 0.1


def test_a_ramp_is_off_most_half_way_and_exact_at_the_ends():
    converter = adc(8.0, architecture=Ramp(3.0, 0.0))
    read = levels(converter, np.array([[-127.0], [-63.5], [0.0], [63.5], [127.0]]))[:, 0]
    np.testing.assert_allclose(read, [-127, -66.5, 0, 66.5, 127], atol=0.51)
    spread = adc(12.0, architecture=Ramp(0.0, 3.0))
    half = levels(spread, np.full((1, 4000), 1023.5), numbers_of(spread, 4000)) - 1023.5
    assert half.std() == pytest.approx(3.0, rel=0.05)


def test_gain_and_offset_spread_by_their_sigmas():
    converter = adc(14.0, mismatch=GainOffsetMismatch(0.01, 5.0))
    frozen = numbers_of(converter, 4000)
    zero, large = (
        levels(converter, [[0.0]] * np.ones((1, 4000)), frozen),
        levels(converter, np.full((1, 4000), 4000.0), frozen),
    )
    assert zero.std() == pytest.approx(5.0, rel=0.05)
    assert ((large - zero) / 4000).std() == pytest.approx(0.01, rel=0.05)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=9), st.floats(-1.5, 1.5, width=32))
def test_a_tabulated_curve_is_linear_between_its_points(values, u):
    table = TabulatedINL(jnp.asarray(values, jnp.float32))
    expected = np.interp(u, np.linspace(-1, 1, len(values)), values) if len(values) > 1 else values[0]
    assert float(table(jnp.float32(u))) == pytest.approx(expected, abs=1e-5)


def test_inl_as_a_polynomial_and_as_a_table_of_it_agree():
    u = np.linspace(-1, 1, 201)
    curve = Polynomial(jnp.array([0.0, -1.5, 0.0, 1.5]))
    table = TabulatedINL(curve(jnp.asarray(u, jnp.float32)))
    signal = (511 * u)[:, None]
    read = [levels(adc(10.0, inl=law), signal)[:, 0] for law in (curve, table)]
    np.testing.assert_allclose(read[0], read[1], atol=1)
    np.testing.assert_allclose(read[0] - signal[:, 0], 1.5 * (u**3 - u), atol=0.51)


@pytest.mark.parametrize(("bits", "enob"), [(8.0, 6.24), (6.0, 5.5), (10.0, 6.0)])
def test_noise_from_the_enob_leaves_those_bits_of_a_sine(bits, enob):
    converter = adc(bits, enob=enob)
    limit, rng = float(converter.codes()), np.random.default_rng(0)
    sine = limit * np.sin(2 * np.pi * rng.uniform(size=(200_000, 1)))
    noise = np.sqrt(float(converter.noise_variance())) * rng.normal(size=sine.shape)
    wide = np.asarray(jnp.round(jnp.asarray(sine + noise)))  # without clipping, which is the range's part
    sinad = 10 * np.log10(np.mean(sine**2) / np.mean((wide - sine) ** 2))
    assert (sinad - 1.76) / 6.02 == pytest.approx(enob, abs=0.02)


def test_no_noise_is_needed_for_as_many_effective_bits_as_there_are():
    assert float(adc(6.0, enob=6.0).noise_variance()) == 0
    assert float(adc(6.0, noise=0.5).noise_variance()) == 0.25
    assert adc(6.0).noise_variance() is None


# ---------------------------------------------------------------- sharing


@settings(max_examples=10)  # each shape compiles
@given(
    n_out=st.integers(1, 40),
    arrays=st.integers(1, 4),
    slices=st.integers(1, 4),
    shared=st.integers(1, 20),
    reference=st.booleans(),
)
def test_columns_that_take_turns_lie_side_by_side_in_one_array(n_out, arrays, slices, shared, reference):
    arrays = -(-n_out // -(-n_out // min(arrays, n_out)))  # as many as blocks of equal width fill
    columns = n_out + arrays * reference
    encoding = ENCODINGS["offset" if reference else "differential"]
    index = np.asarray(converter_of(encoding, n_out, arrays, slices, jnp.float32(shared)))
    assert index.shape == (slices, columns)
    assert index.min() >= 0 and index.max() < converters_a_tile(encoding, n_out, arrays, slices)
    block = -(-n_out // arrays)
    array = np.array([c // block if c < n_out else c - n_out for c in range(columns)])
    for converter in np.unique(index):
        _, of = np.nonzero(index == converter)
        assert len(of) <= shared and len(set(array[of])) == 1
    for a in range(arrays):
        behind = index[:, array == a]
        assert len(np.unique(behind)) <= -(-behind.size // shared) + 1  # a reference may lie behind an unused column


def macro(converter: ADC | None, dac=None, **fields) -> AnalogMacro:
    settings = {"rows": 16, "columns": 32, "slices": 1, "encoding": "differential", "weight_scale": "column"}
    settings |= {"input_range": "calibrated", **fields}
    cell = Cell(0.0, 40e-6, 1e-13)
    dac = dac or MultibitDAC(12.0, 100.0, 0.0, 0.0)
    return cast(AnalogMacro(**settings, v_read=0.2, t_read=1e-8, vdd=0.9, cell=cell, dac=dac, adc=converter))


def test_as_many_converters_differ_as_the_cost_counts():
    m = macro(cast(ADC(6.0, 100.0, 6.0, mismatch=GainOffsetMismatch(0.1, 0.5))), slices=2, weight_bits=5.0)
    adcs = np.asarray(frozen_adcs(m, root_key(1), 2, 8, 0, 0))  # 20 inputs: two tiles, one array side by side
    assert adcs.shape == (2, 2, 2, 8)
    n = counts(m, 20, 8)
    assert len(np.unique(adcs[:, 0])) == float(n.adcs) * float(n.arrays)
    np.testing.assert_array_equal(adcs[..., 0, 0], adcs[..., 1, 2])  # 6 columns: both slices of 3 outputs
    assert frozen_adcs(m, None, 2, 8, 0, 0) is None, "the nominal matrix has converters without error"


# ---------------------------------------------------------------- on a chip


RNG = np.random.default_rng(4)
W = RNG.normal(size=(40, 12)).astype(np.float32)
X = RNG.normal(size=(1000, 40)).astype(np.float32)
IDS = jnp.stack([jnp.zeros(1000, jnp.uint32), jnp.arange(1000, dtype=jnp.uint32)], axis=1)


@jax.jit
def read(m: AnalogMacro, x, ids, chip, key):
    return crossbar.matmul(program_tiles(jnp.asarray(W), m, chip, None), m, x, ids, key)


def real(bits=8.0, gain=0.0, offset=0.0, adc_noise=0.0, dac_noise=0.0, shared=8.0) -> AnalogMacro:
    """A macro with both mismatch and noise in both converters, of any size."""
    lines = {"mismatch": GainOffsetMismatch(gain, offset), "noise": dac_noise}
    converter = ADC(bits, 100.0, shared, mismatch=GainOffsetMismatch(gain, offset), noise=adc_noise)
    return macro(converter, MultibitDAC(12.0, 100.0, 0.0, 0.0, **lines))


def test_mismatch_is_frozen_in_a_chip_and_noise_belongs_to_rows():
    silent = real(gain=0.02, offset=0.5)
    first, again = (np.asarray(read(silent, X, IDS, root_key(1), root_key(k))) for k in (3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - read(silent, X, IDS, root_key(2), root_key(3))).max() > 0.05
    noisy = real(gain=0.02, offset=0.5, adc_noise=0.5, dac_noise=5.0, shared=3.0)
    y = np.asarray(read(noisy, X, IDS, root_key(1), root_key(3)))
    turned = np.asarray(read(noisy, X[::-1], IDS[::-1], root_key(1), root_key(3)))[::-1]
    assert np.isclose(turned, y, atol=1e-3).mean() > 0.99, "an ADC code may flip at a tie, and few do"
    assert np.abs(y - read(noisy, X, IDS, root_key(1), root_key(4))).max() > 0.05
    assert read._cache_size() == 1, "one compilation for every value"


def test_noise_of_both_converters_adds_up_at_the_output():
    """Against the sum over conversions of the squared steps, and over word lines of the squared weights."""
    x = np.repeat(X[:1], len(X), axis=0)
    y = np.asarray(read(real(16.0, adc_noise=1000.0, dac_noise=200.0), x, IDS, root_key(0), root_key(1)))
    y = y / np.abs(x).max()
    of_adc = 3 * (1000 * 16 / (2**15 - 1)) ** 2 * np.abs(W).max(axis=0) ** 2  # three tiles
    common = (200 / (2**11 - 1)) ** 2 * W.T @ W  # a line's noise is common to the outputs
    expected = np.diag(of_adc) + common
    error = np.sqrt((expected**2 + np.outer(expected.diagonal(), expected.diagonal())) / len(x))
    assert (np.abs(np.cov(y.T) - expected) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("dac", "bits"), [(MultibitDAC(6.0, 100.0, 0.0, 0.0), 14.0), (BitSerialDAC(5, 100.0, 0.0, 0.0), 7.0)]
)
def test_whole_numbers_are_found_again_where_the_step_is_below_one(dac, bits):
    m = macro(adc(bits, reconstruct="integer"), cast(dac), weight_bits=3.0)
    x = X[:6]
    y = jax.jit(
        lambda: crossbar.matmul(program_tiles(jnp.asarray(W), m, None, None), m, jnp.asarray(x), IDS[:6], None)
    )()
    top = 31 if isinstance(dac, MultibitDAC) else 15
    scale, full = np.abs(W).max(axis=0), np.abs(x).max(axis=1, keepdims=True)
    exact = np.rint(x / full * top) @ np.rint(W / scale * 3) / (3 * top) * scale * full
    np.testing.assert_allclose(y, exact, atol=1e-4)


# ---------------------------------------------------------------- ranges


SUMS = Ranges(
    x=jnp.ones(()),
    adc=jnp.asarray(np.random.default_rng(0).uniform(1, 9, (3, 2, 1)), jnp.float32),
    mean=jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 1)), jnp.float32),
    std=jnp.asarray(np.random.default_rng(2).uniform(0.3, 0.6, (3, 2, 1)), jnp.float32),
)


def ranges(**fields):
    return np.asarray(adc_ranges(SUMS, macro(adc(**fields), slices=2, weight_bits=5.0), 3, 7).high)


def test_a_rule_says_what_follows_from_the_sums():
    np.testing.assert_array_equal(ranges(range_rule="full"), np.full((3, 2, 1), 16.0))
    np.testing.assert_array_equal(ranges(), SUMS.adc)
    expected = np.abs(np.asarray(SUMS.mean)) + 2.936 * np.asarray(SUMS.std)
    np.testing.assert_allclose(ranges(range_rule="snr", bits=5.0), expected, rtol=1e-3)
    assert np.all(ranges(range_rule="snr", bits=9.0) > expected), "more bits clip later, without another calibration"


def test_what_shares_a_range_takes_the_widest():
    widest = np.asarray(SUMS.adc.max(axis=0, keepdims=True))
    np.testing.assert_array_equal(ranges(range_per="slice"), np.broadcast_to(widest, (3, 2, 1)))
    np.testing.assert_array_equal(ranges(range_per="matrix"), np.full((3, 2, 1), widest.max()))


def test_calibration_measures_tiles_or_columns():
    sums = np.random.default_rng(3).normal(1.0, 2.0, (50, 2, 7)).astype(np.float32)
    for per, axis in (("tile", (0, 2)), ("column", 0)):
        m = macro(adc(range_per=per))
        expected = np.abs(sums).max(axis), sums.mean(axis), sums.std(axis)
        found = measured_sums(m, jnp.asarray(sums))
        for ours, theirs in zip((found.high, found.mean, found.std), expected, strict=True):
            assert ours.shape == (2, 7 if per == "column" else 1)
            np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-4)


def test_a_range_a_column_loses_less_where_columns_differ():
    weights = np.linspace(0.05, 1, 12, dtype=np.float32)
    error = {}
    for per in ("column", "tile"):
        m = macro(adc(6.0, range_per=per), weight_scale="matrix")

        @jax.jit
        def calibrated(w, x, m=m):
            ranges = crossbar.calibrate(program_tiles(w, m, None, None), m, x)
            return crossbar.matmul(program_tiles(w, m, None, None, ranges=ranges), m, x, IDS[:50], None)

        y = np.asarray(calibrated(jnp.asarray(W * weights), jnp.asarray(X[:50])))
        error[per] = np.linalg.norm((y - X[:50] @ (W * weights)) / weights)
    assert 2 * error["column"] < error["tile"]


# ---------------------------------------------------------------- files and errors


PARTS = """
name = "mine"
family = "reram"
summary = "converters of my own"
base = "rram-wan2022"

[device.adc]
range_rule = "snr"
range_per = "column"
enob = 6.2

[device.adc.mismatch]
type = "GainOffsetMismatch"
sigma_offset = 0.5

[device.adc.inl]
type = "TabulatedINL"
values = [0.0, 0.4, -0.4, 0.0]

[device.adc.architecture]
type = "Flash"
sigma_comparator = 0.3
max_bits = 8

[device.dac.inl]
type = "Polynomial"
coefficients = [0.0, 0.0, 0.5]
"""


def test_a_file_names_its_converters_parts(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(PARTS)
    model = load_device(file).model
    assert isinstance(model.adc.architecture, Flash) and model.adc.numbers == 2 + 255
    assert model.adc.range_per == "column" and float(model.adc.noise_variance()) > 0
    file.write_text(PARTS.replace("max_bits = 8", "max_bits = 6"))
    with pytest.raises(DeviceError, match=r"adc.bits = 8, but this Flash has 6 at most"):
        load_device(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adc.range_rule": "widest"}, "none of full, percentile, power_of_two, snr, minimum_error, granular, given"),
        ({"adc.range_per": "array"}, "none of matrix, slice, tile, column"),
        ({"adc.noise": 0.5, "adc.enob": 6.0}, "leave one away"),
        ({"adc.noise": -0.5}, "out of range"),
        ({"adc.architecture": cast(Flash(0.1)), "adc.bits": 7}, "adc.bits = 7, but this Flash has 6 at most"),
    ],
)
def test_converters_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(DeviceError, match=words):
        replace(preset("rram-wan2022"), changes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "set weight_bits"), ({"encoding": "offset", "weight_bits": 5.0}, "take 'differential'")],
)
def test_whole_numbers_need_sums_that_are_some(fields, words):
    m = macro(adc(reconstruct="integer"), **fields)
    with pytest.raises(DeviceError, match=words):
        smallest_product(m)


def test_ranges_found_for_columns_do_not_serve_tiles_nor_the_other_way_round():
    three, one = (jnp.ones((1, 1, n)) for n in (3, 1))
    m = macro(adc(range_rule="snr"))
    with pytest.raises(DeviceError, match="calibrate again"):
        adc_ranges(Ranges(jnp.ones(()), three, three, three), m, 1, 3)
    with pytest.raises(DeviceError, match="for 1 of 3 columns: calibrate again"):
        adc_ranges(Ranges(jnp.ones(()), one), macro(adc(range_per="column")), 1, 3)
    with pytest.raises(DeviceError, match="needs the mean and spread"):
        adc_ranges(Ranges(jnp.ones(()), three), m, 1, 3)
