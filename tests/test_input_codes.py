"""Input converters: whole numbers of any code and width, pulses, phases by sign; against number-by-number oracles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_crossbar import slow_input, slow_largest, slow_product, slow_top

from pim import crossbar
from pim.costs.operands import measure_operands
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.conduction import Sinh
from pim.devices.cells.read_noise import AdditiveReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.converters.pulse_width_dac import PulseWidthDAC
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.loader import load_device
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.inputs import driven_planes
from pim.programming import program
from pim.ranges import Ranges, adc_ranges
from pim.tile_programming import program_tiles

RNG = np.random.default_rng(5)
W, X = RNG.normal(size=(21, 3)).astype(np.float32), RNG.normal(size=(3, 21)).astype(np.float32)
KEY = root_key(8)


def serial(bits: int, **fields) -> BitSerialDAC:
    return cast(BitSerialDAC(bits, 100.0, 0.0, 0.0, **fields))


def multibit(bits: float, **fields) -> MultibitDAC:
    return cast(MultibitDAC(bits, 100.0, 0.0, 0.0, **fields))


def pulses(bits: float, **fields) -> PulseWidthDAC:
    return cast(PulseWidthDAC(bits, 100.0, 0.0, 0.0, **fields))


def macro(dac, adc: ADC | None = None, **fields) -> AnalogMacro:
    settings = {"rows": 8, "columns": 32, "slices": 1, "encoding": "differential", "weight_scale": "column"}
    settings |= {"input_range": "calibrated", "weight_bits": 5.0} | fields
    cell = settings.pop("cell", None) or Cell(0.0, 40e-6, 1e-13)
    return cast(AnalogMacro(**settings, v_read=0.2, t_read=1e-8, vdd=0.9, cell=cell, dac=dac, adc=adc))


def ids(n: int):
    return jnp.stack([jnp.zeros(n, jnp.uint32), jnp.arange(n, dtype=jnp.uint32)], axis=1)


@jax.jit
def calibrated(w, m, x):
    nominal = program_tiles(w, m, None, None)
    return dataclasses.replace(nominal, ranges=crossbar.calibrate(nominal, m, x))


@jax.jit
def product(programmed, m, x, key=None):
    return crossbar.matmul(programmed, m, x, ids(x.shape[0]), key)


# ---------------------------------------------------------------- whole numbers

CODES = st.sampled_from(["sign_magnitude", "unsigned", "twos_complement"])


@settings(max_examples=40)
@given(bits=st.integers(2, 12), width=st.integers(1, 6), code=CODES, seed=st.integers(0, 99))
def test_slices_of_any_width_are_the_whole_number_of_the_input(bits, width, code, seed):
    dac = serial(bits, slice_bits=min(width, dac_bits(bits, code)), code=code)
    x = np.random.default_rng(seed).uniform(-1.2, 1.2, 40).astype(np.float32)
    levels, places = (np.asarray(a) for a in dac.codes(jnp.asarray(x)))
    assert levels.shape == (dac.steps, 40) and places.shape == (dac.steps,)
    assert (levels == levels.round()).all() and (places == places.round()).all()
    assert np.abs(levels).max() <= 2**dac.slice_bits - 1 == float(dac.largest_level)
    assert dac.bipolar or (levels >= 0).all(), "pulses of one polarity"
    whole = places @ levels
    for value, column, number in zip(x, levels.T, whole, strict=True):
        steps = slow_input(float(value), dac)
        assert [(int(a), int(b)) for a, b in zip(column, places, strict=True)] == steps
        assert number == sum(level * place for level, place in steps)
    inside = np.clip(x, 0 if code == "unsigned" else -1, 1 - (code == "twos_complement") / slow_top(dac))
    assert np.abs(whole / slow_top(dac) - inside).max() <= 0.5001 / slow_top(dac)


def dac_bits(bits: int, code: str) -> int:
    return bits if code == "unsigned" else bits - 1


@pytest.mark.parametrize("make", [multibit, pulses])
@pytest.mark.parametrize("code", ["sign_magnitude", "unsigned"])
def test_levels_at_once_are_the_whole_number_of_the_input(make, code):
    dac = make(5.0, code=code)
    x = np.random.default_rng(1).uniform(-1.2, 1.2, 2000).astype(np.float32)
    levels, places = dac.codes(jnp.asarray(x))
    np.testing.assert_array_equal(levels[0], [slow_input(float(v), dac)[0][0] for v in x])
    assert places == 1 and float(dac.largest_level) == float(dac.top) == slow_top(dac)
    assert len(np.unique(levels)) == (32 if code == "unsigned" else 31), "2^b levels, or one less about zero"


def test_planes_follow_from_whole_numbers_once_for_all():
    for dac in (multibit(6.0), serial(6), serial(7, slice_bits=4), serial(6, slice_bits=2, code="twos_complement")):
        x = jnp.linspace(-1.0, 0.95, 50)
        (levels, places), (planes, gains) = dac.codes(x), dac.planes(x)
        assert float(jnp.abs(planes).max()) <= 1.0
        np.testing.assert_allclose(gains @ planes, places @ levels / dac.top, rtol=1e-6, atol=1e-6)
        assert float(dac.lsb) == pytest.approx(1 / slow_largest(dac))


ALL = {
    "multibit": multibit(5.0),
    "multibit unsigned": multibit(4.0, code="unsigned"),
    "pulse width": pulses(5.0),
    "bit serial": serial(5),
    "two bits a step": serial(6, slice_bits=2),
    "narrow last step": serial(6, slice_bits=3),
    "unsigned steps": serial(5, slice_bits=2, code="unsigned"),
    "two's complement": serial(5, code="twos_complement"),
    "two's complement by three": serial(6, slice_bits=3, code="twos_complement"),
}


@pytest.mark.parametrize(("name", "phases"), covering([*ALL], [1, 2, 4]))
def test_a_product_is_the_slow_one_for_every_input_code_and_phase(name, phases):
    dac = ALL[name]
    m = macro(dac, cast(ADC(6.0, 100.0, 8.0)), slices=2, read_phases=phases)
    x = np.abs(X) if dac.code == "unsigned" else X
    programmed = calibrated(W, m, x)
    ranges = Ranges(x=programmed.ranges.x, adc=programmed.ranges.adc * 0.8713)  # clips some, and ties are rare
    y = np.asarray(product(dataclasses.replace(programmed, ranges=ranges), m, x))
    span = adc_ranges(ranges, m, 3, 3)
    expected = slow_product(W, x, m, float(ranges.x), np.asarray(span.low), np.asarray(span.high))
    off = np.abs(y - expected) > 1e-4 * np.abs(expected).max()
    assert off.mean() <= 0.12, "float32 may fall on the other side of a tie: in one output of nine at most"
    assert np.abs(y - expected)[off].max(initial=0) < 0.3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("encoding", "phases"), [("differential", 2), ("differential", 4), ("offset_reference", 2), ("offset_digital", 2)]
)
def test_phases_change_nothing_where_nothing_is_converted(encoding, phases):
    one = macro(multibit(6.0), encoding=encoding)
    more = dataclasses.replace(one, read_phases=phases)
    y, z = (np.asarray(product(calibrated(W, m, X), m, X)) for m in (one, more))
    np.testing.assert_allclose(z, y, atol=1e-5 * np.abs(y).max())


def test_levels_of_each_phase_have_one_sign():
    m = macro(serial(5), read_phases=2)
    planes, gains = driven_planes(m, jnp.asarray(X / 3))
    assert planes.shape == (8, 3, 21) and float(planes.min()) == 0
    once, of_one = driven_planes(dataclasses.replace(m, read_phases=1), jnp.asarray(X / 3))
    np.testing.assert_allclose(jnp.tensordot(gains, planes, 1), jnp.tensordot(of_one, once, 1), atol=1e-6)
    unsigned = macro(serial(5, code="unsigned"), read_phases=2)
    assert driven_planes(unsigned, jnp.asarray(X / 3))[0].shape[0] == 5, "levels without a sign take no second phase"


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize(("make", "power"), [(multibit, 2), (pulses, 1)])
def test_noise_of_a_read_is_that_of_cells_drawn_anew(make, power):
    """White noise of a cell: as strong at every voltage step, and gathered over a pulse for its duration."""
    m = macro(make(5.0), cell=Cell(0.0, 40e-6, 1e-13, read_noise=AdditiveReadNoise(1e-6)))
    reads = 4000
    programmed = calibrated(W, m, X)
    x = jnp.broadcast_to(jnp.asarray(X[:1]), (reads, 21))
    y = np.asarray(product(programmed, m, x, KEY))
    level = np.clip(np.rint(X[0] / float(programmed.ranges.x) * 15), -15, 15) / 15
    rng, slots = np.random.default_rng(0), 15
    redrawn = np.zeros((reads, 3))
    for sign in (1, -1):  # the two cells of each pair
        if power == 2:
            noise = rng.normal(size=(reads, 21, 3)) / 40
            redrawn += sign * np.einsum("i,rin->rn", level, noise)
        else:  # a new current in each unit of time in which the pulse is on
            for unit in range(slots):
                on = np.sign(level) * (np.abs(level) * slots > unit + 0.5)
                noise = rng.normal(size=(reads, 21, 3)) * np.sqrt(slots) / 40
                redrawn += sign * np.einsum("i,rin->rn", on, noise) / slots
    redrawn *= np.abs(W).max(axis=0) * float(programmed.ranges.x)
    assert (np.abs(y.var(axis=0) / redrawn.var(axis=0) - 1) < 5 * np.sqrt(4 / reads)).all()
    expected = 2 * (np.abs(level) ** power).sum() / 40**2 * (np.abs(W).max(axis=0) * float(programmed.ranges.x)) ** 2
    np.testing.assert_allclose(y.var(axis=0), expected, rtol=5 * np.sqrt(2 / reads))


def test_a_cell_that_is_not_ohmic_sees_the_full_voltage_of_a_pulse():
    cell = Cell(0.0, 40e-6, 1e-13, conduction=Sinh(0.1))
    bent, straight = (macro(make(5.0), cell=cell) for make in (multibit, pulses))
    level = jnp.array([[1.0, -1.0, 7 / 15, -7 / 15, 0.0]])
    full = 0.1 * np.sinh(2.0) / 0.2
    np.testing.assert_allclose(straight.driven(level), full * np.asarray(level), rtol=1e-5)
    np.testing.assert_allclose(bent.driven(level), 0.5 * np.sinh(2 * np.asarray(level)), rtol=1e-5)


def test_the_energy_of_a_pulse_goes_with_its_duration():
    short, high = (
        measure_operands(calibrated(W, m, X), m, jnp.asarray(X)) for m in (macro(pulses(5.0)), macro(multibit(5.0)))
    )
    level = np.clip(np.rint(X / np.abs(X).max() * 15), -15, 15) / 15
    assert float(short.u2) == pytest.approx(np.abs(level).mean(), rel=1e-5)
    assert float(high.u2) == pytest.approx((level**2).mean(), rel=1e-5)


def test_errors_of_a_pulse_are_in_its_length():
    dac = pulses(5.0, mismatch=GainOffsetMismatch(0.1, 0.5), inl=Polynomial(jnp.array([0.0, 1.5])), noise=0.25)
    levels, frozen = jnp.full((1, 2, 4), 7 / 15), jnp.ones((2, 4))
    applied = dac.applied(levels, frozen, 2 * jnp.ones((1, 2, 4)))
    lsb = 1 / 15
    expected = lsb * ((7 + 1.5 * 7 / 15) * 1.1 + 0.5) + lsb * 0.5
    np.testing.assert_allclose(applied, expected, rtol=1e-5)


# ---------------------------------------------------------------- files and errors


FILE = """
name = "mine"
family = "reram"
summary = "input converter of my own"
base = "rram-wan2022"

[device.dac]
type = "BitSerialDAC"
bits = 8
percentile = 99.9
capacitance_per_bit = 1e-15
area = 1e-12
slice_bits = 3
code = "twos_complement"
"""


def test_a_file_names_its_code_and_the_device_says_what_it_means(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(FILE)
    device = load_device(file)
    assert device.model.dac.steps == 4 and not device.model.dac.bipolar
    assert "dac.code = twos_complement (2^b levels, -2^(b-1) to 2^(b-1) - 1" in repr(device)
    file.write_text(FILE.replace("BitSerialDAC", "PulseWidthDAC").replace("slice_bits = 3\ncode", "# code"))
    assert isinstance(load_device(file).model.dac, PulseWidthDAC)
    assert "dac.code = sign_magnitude (2^b - 1 levels" in repr(load_device(file))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slice_bits": 8}, "leave 7 to be sent: lower dac.slice_bits"),
        ({"slice_bits": 0}, "is too small; it must be 1"),
        ({"code": "gray"}, "none of sign_magnitude, unsigned, twos_complement"),
    ],
)
def test_codes_that_make_no_sense_are_refused(tmp_path, changes, words):
    file = tmp_path / "mine.toml"
    file.write_text(FILE)
    with pytest.raises(DeviceError, match=words):
        replace(load_device(file), {f"dac.{name}": value for name, value in changes.items()})


def test_negative_inputs_to_an_unsigned_converter_are_not_cut_off_in_silence():
    device = dataclasses.replace(preset("rram-wan2022"), model=macro(multibit(5.0, code="unsigned")))
    with pytest.raises(
        DeviceError, match=r"calibration holds 3\d negative values, down to -.*take dac.code = 'sign_mag"
    ):
        program(W, device, key=KEY, calibration=X)
    chip = program(W, device, key=KEY, calibration=np.abs(X))
    with pytest.raises(DeviceError, match=r"x holds 3\d negative values"):
        chip.matmul(X, key=None)
    assert np.isfinite(np.asarray(chip.matmul(np.abs(X), key=None))).all()


def test_levels_of_a_step_may_be_as_many_pulses():
    """The same products as with voltages; time by the pulses, energy of cells by the level and not by its square."""
    voltage, pulsed = serial(6, slice_bits=3), serial(6, slice_bits=3, levels_as="pulses")
    levels = jnp.asarray([[-1.0, -3 / 7, 0.0, 1 / 7]])
    np.testing.assert_array_equal(pulsed.pulse(levels)[0] * pulsed.pulse(levels)[1], levels)
    np.testing.assert_allclose(voltage.exposure(levels), levels**2, rtol=1e-6)
    np.testing.assert_allclose(pulsed.exposure(levels), jnp.abs(levels), rtol=1e-6)
    assert (voltage.durations, pulsed.durations) == (2, 7 + 3)  # five bits of magnitude: slices of three and of two
    assert (voltage.full_duration, pulsed.full_duration) == (2, 2 * 7)
    y = [np.asarray(product(calibrated(W, macro(dac), X), macro(dac), X)) for dac in (voltage, pulsed)]
    np.testing.assert_array_equal(*y)
    twos = serial(6, slice_bits=2, code="twos_complement", levels_as="pulses")
    assert twos.durations == 3 + 3 + 1 + 2  # the sign is two pulses of a step's three
