"""Codes of output converters, against a list of all values that each can give, and sums added in front of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_crossbar import code_values, slow_product

from pim import crossbar
from pim.devices.bit_line import ChargeSharing
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
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
from pim.ranges import Ranges, adc_ranges
from pim.tile_programming import program_tiles

ALL = ["sign_magnitude", "twos_complement", "unsigned", "offset"]
RNG = np.random.default_rng(6)
W, X = RNG.normal(size=(21, 3)).astype(np.float32), RNG.normal(size=(3, 21)).astype(np.float32)
KEY = root_key(2)


def adc(bits=6.0, **fields) -> ADC:
    return cast(ADC(bits, 100.0, 8.0, **fields))


def span(low: float, high: float) -> Span:
    return Span(jnp.full((1, 1), low, jnp.float32), jnp.full((1, 1), high, jnp.float32))


def macro(converter: ADC | None, dac=None, **fields) -> AnalogMacro:
    settings = {"rows": 8, "columns": 32, "slices": 1, "encoding": "differential", "weight_scale": "column"}
    settings |= {"input_range": "calibrated", "weight_bits": 5.0} | fields
    cell = settings.pop("cell", None) or Cell(0.0, 40e-6, 1e-13)
    dac = dac or cast(BitSerialDAC(5, 100.0, 0.0, 0.0))
    return cast(AnalogMacro(**settings, v_read=0.2, t_read=1e-8, vdd=0.9, cell=cell, dac=dac, adc=converter))


def ids(n: int):
    return jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)


@jax.jit
def calibrated(w, m, x):
    nominal = program_tiles(w, m, None, None)
    return dataclasses.replace(nominal, ranges=crossbar.calibrate(nominal, m, x))


@jax.jit
def product(programmed, m, x, key=None):
    return crossbar.matmul(programmed, m, x, ids(x.shape[0]), key)


# ---------------------------------------------------------------- the values of each code


@settings(max_examples=40)
@given(
    code=st.sampled_from(ALL),
    bits=st.integers(2, 10),
    low=st.floats(-3, 0, width=32),
    high=st.floats(0.25, 5, width=32),
    seed=st.integers(0, 99),
)
def test_a_converter_gives_the_nearest_of_its_values(code, bits, low, high, seed):
    converter = adc(float(bits), code=code)
    values = code_values(converter, low, high)
    assert len(values) == 2**bits - (code == "sign_magnitude")
    step = values[1] - values[0]
    assert float(converter.step(span(low, high))[0, 0]) == pytest.approx(step, rel=1e-5)
    signal = np.random.default_rng(seed).uniform(1.3 * values[0] - 1, 1.3 * values[-1] + 1, (60, 1)).astype(np.float32)
    read = np.asarray(converter.convert(jnp.asarray(signal), span(low, high)))
    nearest = np.abs(values[None] - signal).min(axis=1)
    assert np.abs(values[None] - read).min(axis=1).max() <= 1e-5 * np.abs(values).max(), "all are values of the code"
    assert (np.abs(read - signal)[:, 0] <= nearest + 1e-4 * step + 1e-6 * np.abs(values).max()).all()


@given(code=st.sampled_from(ALL), bits=st.integers(2, 12), low=st.floats(-3, -0.1), high=st.floats(0.1, 5))
def test_what_must_be_reached_is_within_half_an_lsb_of_a_code(code, bits, low, high):
    """Nothing clips: from end to end the error is under half a step."""
    converter = adc(float(bits), code=code)
    low = 0.0 if code == "unsigned" else low
    reach = converter.reaching(jnp.full((1, 1), low, jnp.float32), jnp.full((1, 1), high, jnp.float32))
    signal = jnp.linspace(low, high, 301)[:, None]
    error = jnp.abs(converter.convert(signal, reach) - signal)
    assert float(error.max()) <= 0.5 * float(converter.step(reach)[0, 0]) * (1 + 1e-3)


def test_zero_is_a_code_of_all_but_the_symmetric_offset():
    zero = jnp.zeros((1, 1))
    read = {code: abs(float(adc(4.0, code=code).convert(zero, span(-1.0, 1.0))[0, 0])) for code in ALL}
    assert read == {"sign_magnitude": 0, "twos_complement": 0, "unsigned": 0, "offset": pytest.approx(1 / 15, abs=1e-6)}


EXACT = {"SAR": SAR(0.0), "flash": Flash(0.0), "ramp": Ramp()}


@pytest.mark.parametrize(("part", "code"), covering([*EXACT], ALL))
def test_without_mismatch_every_architecture_is_the_ideal_quantiser(part, code):
    for bits in (2, 5, 6):
        exact = {"mismatch": GainOffsetMismatch(), "inl": Polynomial(jnp.zeros(2)), "architecture": EXACT[part]}
        ideal, real = adc(float(bits), code=code), adc(float(bits), code=code, **exact)
        signal = jnp.linspace(-1.3, 1.25, 997)[:, None]
        found, expected = (np.asarray(c.convert(signal, span(-0.7, 1.0))) for c in (real, ideal))
        step = float(ideal.step(span(-0.7, 1.0))[0, 0])
        place = np.asarray(signal) / step - (-0.7 / step if code == "offset" else 0)
        tie = np.abs(np.abs(place) % 1 - 0.5) < 1e-3
        np.testing.assert_allclose(found[~tie], expected[~tie], atol=1e-6)


@pytest.mark.parametrize("code", ALL)
def test_capacitors_spread_codes_as_the_walk_of_their_units_from_where_it_counts(code):
    """sigma = sigma_unit sqrt(c (1 - c / largest)) LSB at the code c: counted from zero, or from the low end."""
    converter, n = adc(8.0, code=code, architecture=SAR(0.01)), 3000
    frozen = jnp.asarray(np.random.default_rng(1).normal(size=(converter.numbers, 1, n)), jnp.float32)
    low, _, full = (float(limit) for limit in converter.limits())
    at = span(-full / 2, full / 2) if code == "offset" else span(-full, full)  # an LSB is one
    first = {"offset": -full / 2, "twos_complement": low}.get(code, 0.0)
    for count in (1, 32, 64, 100):
        ramp = first + count - 0.5 + 0.3 * np.linspace(-1, 1, 241)
        read = np.asarray(converter.convert(jnp.asarray(np.tile(ramp[:, None], n), jnp.float32), at, frozen))
        spread = ((read < first + count - 0.25).sum(axis=0) * (ramp[1] - ramp[0])).std()
        largest = 127 if code == "sign_magnitude" else 255
        assert spread == pytest.approx(0.01 * np.sqrt(count * (1 - count / largest)), rel=0.06)


def test_comparators_of_an_unsigned_flash_stand_between_its_codes():
    converter = adc(3.0, code="unsigned", architecture=Flash(0.1, 3))
    assert converter.numbers == 7
    frozen = jnp.asarray(np.eye(7)[:, None] * np.ones((7, 1, 7)), jnp.float32)  # comparator k of converter k is off
    ramp = jnp.arange(-0.4, 8, 0.05)[:, None] * jnp.ones((1, 7))
    read = np.asarray(converter.convert(ramp, span(0.0, 7.0), frozen)).round().astype(int)
    for k in range(7):
        threshold = np.asarray(ramp)[(read[:, k] <= k).sum(), 0]
        assert threshold == pytest.approx(k + 0.6, abs=0.051) and (read[:, k].min(), read[:, k].max()) == (0, 7)


def test_a_curve_is_laid_from_end_to_end():
    curve = TabulatedINL(jnp.array([0.0, 0.0, 0.0, 2.0, 0.0]))  # most at half of full scale above zero
    for code, at, centre in (("sign_magnitude", (-31, 31), 15.5), ("twos_complement", (-32, 32), 16.0),
                             ("unsigned", (0, 63), 31.5), ("offset", (0, 63), 47.25)):  # fmt: skip
        signal = jnp.linspace(0, 31, 400)[:, None] * (2 if code in ("unsigned", "offset") else 1)
        plain, bent = (np.asarray(adc(6.0, code=code, inl=law).convert(signal, span(*at))) for law in (None, curve))
        difference = bent - plain
        assert difference.max() == pytest.approx(2, abs=1e-3)
        assert np.asarray(signal)[difference[:, 0] > 1.5].mean() == pytest.approx(centre, abs=2.0)


@pytest.mark.parametrize("code", ALL)
def test_noise_from_the_enob_leaves_those_bits_of_a_full_sine(code):
    converter = adc(8.0, code=code, enob=6.24)
    low, high, _ = (float(limit) for limit in converter.limits())
    rng = np.random.default_rng(0)
    sine = (low + high) / 2 + (high - low) / 2 * np.sin(2 * np.pi * rng.uniform(size=100_000))
    noisy = np.rint(sine + np.sqrt(float(converter.noise_variance())) * rng.normal(size=sine.shape))
    sinad = 10 * np.log10(sine.var() / np.mean((noisy - sine) ** 2))
    assert (sinad - 1.76) / 6.02 == pytest.approx(6.24, abs=0.02)


# ---------------------------------------------------------------- in a product


def agrees(m, x, programmed):
    ranges = programmed.ranges
    low = None if ranges.low is None else ranges.low * 0.9317  # with symmetric ends every zero would be a tie
    ranges = Ranges(x=ranges.x, adc=ranges.adc * 0.8713, low=low)  # clips some, and ties are rare
    y = np.asarray(product(dataclasses.replace(programmed, ranges=ranges), m, x))
    at = adc_ranges(ranges, m, 3, 6 if m.read_phases == 4 else 3)
    expected = slow_product(W, x, m, float(ranges.x), np.asarray(at.low), np.asarray(at.high))
    off = np.abs(y - expected) > 1e-4 * np.abs(expected).max()
    assert off.mean() <= 0.12, "float32 may fall on the other side of a tie: in one output of nine at most"
    assert np.abs(y - expected)[off].max(initial=0) < 0.3 * np.abs(expected).max()


@pytest.mark.parametrize(("code", "range_per"), covering(["twos_complement", "offset"], ["tile", "column"]))
def test_a_product_is_the_slow_one_for_every_output_code(code, range_per):
    m = macro(adc(code=code, range_per=range_per), slices=2)
    programmed = calibrated(W, m, X)
    assert (programmed.ranges.low is not None) == (code == "offset")
    agrees(m, X, programmed)


def test_sums_without_a_sign_take_codes_without_one():
    m = macro(adc(code="unsigned"), slices=2, read_phases=4)
    agrees(m, X, calibrated(W, m, X))


@pytest.mark.parametrize(("where", "phases", "bits"), covering(["steps", "all"], [1, 4, 2], [1, 2]))
def test_sums_added_in_front_of_the_converter_are_converted_once(where, phases, bits):
    dac = cast(BitSerialDAC(5, 100.0, 0.0, 0.0, slice_bits=bits))
    m = macro(adc(), dac, slices=2, read_phases=phases, shift_add=where)
    programmed = calibrated(W, m, X)
    assert programmed.ranges.adc.shape == (3, 1 if where == "all" else 2, 1)
    agrees(m, X, programmed)


@pytest.mark.parametrize(
    ("where", "encoding"), covering(["steps", "all"], ["differential", "offset", "offset_reference", "offset_digital"])
)
def test_where_sums_are_added_up_changes_nothing_where_nothing_is_converted(where, encoding):
    digital = macro(None, slices=2, encoding=encoding)
    analog = dataclasses.replace(digital, shift_add=where)
    y, z = (np.asarray(product(calibrated(W, m, X), m, X)) for m in (digital, analog))
    np.testing.assert_allclose(z, y, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize(("where", "source"), covering(["digital", "steps", "all"], ["cells", "lines", "converters"]))
def test_noise_is_added_up_with_the_sums_and_that_of_a_converter_comes_once(where, source):
    """Variance of the outputs against sums over every read, slice and conversion."""
    reads, sigma = 3000, 1e-6
    line = cast(ChargeSharing(1e-15, 0.9, 0.3)) if source == "lines" else None
    cell = Cell(0.0, 40e-6, 1e-13, read_noise=AdditiveReadNoise(sigma) if source == "cells" else None)
    converter = adc(16.0, noise=300.0 if source == "converters" else None, range_rule="full")
    m = macro(converter, slices=2, shift_add=where, cell=cell, bit_line=line)
    programmed = calibrated(W, m, X)
    x = jnp.broadcast_to(jnp.asarray(X[:1]), (reads, 21))
    unit = np.abs(W).max(axis=0) * float(programmed.ranges.x)
    variance = (np.asarray(product(programmed, m, x, KEY)) / unit).var(axis=0)

    steps, places = 2.0 ** np.arange(4) / 15, np.array([3 / 15, 12 / 15])
    if source == "converters":
        lsb = 300 * 8 / (2**15 - 1)
        times = {"digital": (steps**2).sum() * (places**2).sum(), "steps": (places**2).sum(), "all": 1.0}[where]
        expected = 3 * lsb**2 * times
    else:
        whole = np.rint(np.abs(X[0]) / float(programmed.ranges.x) * 15).astype(int)
        on = np.array([whole >> k & 1 for k in range(4)]).sum(axis=1)
        each = 2 * on / 40**2 if source == "cells" else np.full(4, 3 * 2 * float(m.line_variance()))
        expected = (steps**2) @ each * (places**2).sum()
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / reads))


def test_converters_of_added_slices_are_as_many_as_outputs():
    m = macro(adc(mismatch=GainOffsetMismatch(0.1, 0.5)), slices=2, shift_add="all")
    programmed = program_tiles(jnp.asarray(W), m, KEY, None)
    assert programmed.adcs.shape == (3, 2, 1, 3)
    assert np.isfinite(np.asarray(product(programmed, m, X))).all()


# ---------------------------------------------------------------- files and errors


FILE = """
name = "mine"
family = "reram"
summary = "output converter of my own"
base = "rram-wan2022"

[device]
shift_add = "steps"
read_phases = 2

[device.adc]
bits = 7
code = "offset"
range_rule = "given"
high = 12.5
low = -3.0
"""


def test_a_file_names_its_code_and_the_device_says_what_it_means(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(FILE)
    device = load_device(file)
    assert "adc.code = offset (2^b levels from the low to the high end" in repr(device)
    at = adc_ranges(None, device.model, 2, 5)
    assert (
        at.low.shape == (2, device.model.slices, 1) and float(at.low[0, 0, 0]) == -3 and float(at.high[0, 0, 0]) == 12.5
    )
    assert device.model.shift_add == "steps" and device.model.read_phases == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adc.code": "gray"}, "none of sign_magnitude, twos_complement, unsigned, offset"),
        ({"adc.range_rule": "given"}, "needs adc.high"),
        ({"adc.high": 3.0}, "with 'percentile' they would serve nothing"),
        ({"adc.range_rule": "given", "adc.high": 3.0, "adc.low": -1.0}, "has no low end of its own"),
        (
            {"adc.range_rule": "given", "adc.code": "offset", "adc.high": 3.0, "adc.low": 3.5},
            "adc.low = 3.5 is not below adc.high = 3",
        ),
        ({"adc.architecture": cast(SAR(0.01)), "adc.bits": 17}, "out of range"),
        ({"shift_add": "later"}, "none of digital, steps, all"),
    ],
)
def test_codes_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(DeviceError, match=words):
        replace(preset("rram-wan2022"), changes)


@pytest.mark.parametrize(
    ("fields", "fine"),
    [
        ({}, False),
        ({"read_phases": 2}, False),
        ({"encoding": "offset_digital"}, False),
        ({"encoding": "offset_digital", "read_phases": 2}, True),
        ({"encoding": "offset", "dac": MultibitDAC(5.0, 100.0, 0.0, 0.0, code="unsigned")}, True),
        ({"read_phases": 4}, True),
        ({"read_phases": 4, "dac": BitSerialDAC(5, 100.0, 0.0, 0.0, code="twos_complement")}, True),
        (
            {"read_phases": 4, "shift_add": "steps", "dac": BitSerialDAC(5, 100.0, 0.0, 0.0, code="twos_complement")},
            False,
        ),
    ],
)
def test_codes_without_a_sign_are_refused_where_sums_have_one(fields, fine):
    m = macro(adc(code="unsigned"), **fields)
    if fine:
        full = adc_ranges(None, m, 1, 3)
        assert float(full.low.max()) == 0 < float(full.high.min())
        return
    with pytest.raises(DeviceError, match="has no codes below zero, but sums of either sign come to it"):
        adc_ranges(None, m, 1, 3)
