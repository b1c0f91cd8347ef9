"""Rules of the converters' ranges, against searches by brute force, and converters that lose nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_crossbar import code_values

from pim import crossbar
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.formulation import choose
from pim.measured_sums import calibrated_ranges, measured_sums
from pim.programming import program
from pim.ranges import Ranges, adc_ranges
from pim.sum_grid import grid_unit, largest_sum
from pim.tile_programming import program_tiles

RNG = np.random.default_rng(7)
ALL = ["sign_magnitude", "twos_complement", "unsigned", "offset"]

SLOW = pytest.mark.slow


def adc(bits=6.0, **fields) -> ADC:
    return cast(ADC(bits, fields.pop("percentile", 100.0), 8.0, **fields))


def macro(converter: ADC | None, dac=None, **fields) -> AnalogMacro:
    settings = {"rows": 16, "columns": 32, "slices": 1, "encoding": "differential", "weight_scale": "column"}
    settings |= {"input_range": "calibrated", "weight_bits": 4.0} | fields
    dac = dac or cast(BitSerialDAC(4, 100.0, 0.0, 0.0))
    cell = settings.pop("cell", None) or Cell(0.0, 40e-6, 1e-13)
    return cast(AnalogMacro(**settings, v_read=0.2, t_read=1e-8, vdd=0.9, cell=cell, dac=dac, adc=converter))


def found(m: AnalogMacro, sums) -> Ranges:
    """The ranges of two tiles with these sums [tiles, n, slices, columns]."""
    return calibrated_ranges(
        m, jnp.ones(()), jax.lax.map(lambda s: measured_sums(m, s), jnp.asarray(sums, jnp.float32))
    )


def error(converter: ADC, sums, low: float, high: float) -> float:
    values = code_values(converter, low, high)
    return np.mean(np.abs(sums.reshape(-1, 1) - values[None]).min(axis=1) ** 2)


# ---------------------------------------------------------------- the least error


def heavy(n: int) -> np.ndarray:
    """Sums with outliers, of mean 1: [2 tiles, n, 1 slice, 4 columns]."""
    return 1.0 + RNG.standard_t(3, size=(2, n, 1, 4)).astype(np.float32)


@pytest.mark.parametrize(("code", "bits"), covering(["sign_magnitude", "twos_complement"], [3, 5, 8]))
def test_the_range_of_the_least_error_is_that_of_a_fine_search(code, bits):
    sums = heavy(500)
    m = macro(adc(float(bits), range_rule="minimum_error", code=code))
    ours = np.asarray(adc_ranges(found(m, sums), m, 2, 4).high)
    for tile in range(2):
        tried = np.linspace(0.5, np.abs(sums[tile]).max() * 1.3, 600)
        best = min(error(m.adc, sums[tile], -high, high) for high in tried)
        assert error(m.adc, sums[tile], -ours[tile, 0, 0], ours[tile, 0, 0]) <= 1.02 * best


def test_two_ends_find_sums_that_lie_on_one_side():
    sums = (20 + 3 * RNG.normal(size=(2, 500, 1, 4))).astype(np.float32)
    m = macro(adc(4.0, range_rule="minimum_error", code="offset"))
    at = adc_ranges(found(m, sums), m, 2, 4)
    low, high = float(at.low[0, 0, 0]), float(at.high[0, 0, 0])
    ends = np.linspace(0, 14, 57)
    best = min(error(m.adc, sums[0], 20 - down, 20 + up) for down in ends[8:] for up in ends[8:])
    assert error(m.adc, sums[0], low, high) <= 1.03 * best
    one = dataclasses.replace(m, adc=dataclasses.replace(m.adc, code="sign_magnitude"))
    other = adc_ranges(found(one, sums), one, 2, 4)
    assert error(one.adc, sums[0], float(other.low[0, 0, 0]), float(other.high[0, 0, 0])) > 5 * best


def test_each_column_has_its_own_and_a_sweep_of_bits_needs_no_other_calibration():
    sums = heavy(250) * np.array([1.0, 4.0, 0.25, 10.0], np.float32)
    m = macro(adc(4.0, range_rule="minimum_error", range_per="column"))
    ranges = found(m, sums)
    for bits in (4.0, 5.5, 7.0, 16.0):
        at = np.asarray(adc_ranges(ranges, dataclasses.replace(m, adc=adc(bits, range_rule="minimum_error",
                                                                          range_per="column")), 2, 4).high)  # fmt: skip
        assert at.shape == (2, 1, 4)
        if bits in (4.0, 7.0):
            for column in range(4):
                one = sums[0, :, :, column]
                best = min(error(adc(bits), one, -h, h) for h in np.abs(one).max() * np.linspace(0.02, 1.2, 500))
                assert error(adc(bits), one, -at[0, 0, column], at[0, 0, column]) <= 1.02 * best
    assert (at[..., 3] > at[..., 2]).all(), "sums forty times as large"


def test_whole_numbers_that_fit_lose_nothing_with_the_least_error():
    """The grid of codes falls on that of the sums: an error that only a search with real rounding finds."""
    sums = RNG.integers(-12, 13, (1, 400, 1, 3)).astype(np.float32)
    m = macro(adc(5.0, range_rule="minimum_error"))
    at = float(adc_ranges(found(m, sums), m, 1, 3).high[0, 0, 0])
    assert error(m.adc, sums[0], -at, at) < 0.02 < error(m.adc, sums[0], -12, 12)


# ---------------------------------------------------------------- the other rules


def test_a_percentile_with_two_ends_cuts_as_many_above_as_below():
    sums = heavy(2000)
    m = macro(adc(percentile=98.0, code="offset"))
    at = adc_ranges(found(m, sums), m, 2, 4)
    for tile in range(2):
        np.testing.assert_allclose(at.low[tile, 0, 0], np.percentile(sums[tile], 1), rtol=1e-4)
        np.testing.assert_allclose(at.high[tile, 0, 0], np.percentile(sums[tile], 99), rtol=1e-4)
    other = macro(adc(percentile=98.0))
    widest = np.maximum(np.asarray(at.high), -np.asarray(at.low))
    np.testing.assert_array_equal(adc_ranges(found(m, sums), other, 2, 4).high, widest)


@given(share=st.floats(1e-3, 1.0))
def test_a_range_by_powers_of_two_is_the_narrowest_that_holds_the_percentile(share):
    m = macro(adc(range_rule="power_of_two"))
    largest, wanted = 16.0, np.float32(16.0 * share)
    high = float(adc_ranges(Ranges(jnp.ones(()), jnp.full((1, 1, 1), wanted)), m, 1, 1).high[0, 0, 0])
    power = np.log2(largest / high)
    assert power == round(power) >= 0 and high >= wanted and (high / 2 < wanted)


def test_slices_get_ranges_that_differ_by_powers_of_two():
    w, x = RNG.normal(size=(40, 6)).astype(np.float32), RNG.normal(size=(200, 40)).astype(np.float32)
    m = macro(adc(range_rule="power_of_two", range_per="slice", percentile=99.99), slices=3, weight_bits=8.0)
    ranges = jax.jit(lambda: crossbar.calibrate(program_tiles(jnp.asarray(w), m, None, None), m, jnp.asarray(x)))()
    high = np.asarray(adc_ranges(ranges, m, 3, 6).high)[:, :, 0]
    assert (high == high[:1]).all() and (np.log2(16 / high) == np.round(np.log2(16 / high))).all()


@pytest.mark.parametrize("code", ALL)
def test_a_granular_step_is_the_smallest_product_and_zero_a_code(code):
    fields = {"read_phases": 4} if code == "unsigned" else {}
    m = macro(adc(5.0, range_rule="granular", code=code), **fields)
    at = adc_ranges(None, m, 1, 3)
    unit = float(grid_unit(m))
    assert unit == pytest.approx(1 / 7) and float(m.adc.step(at)[0, 0, 0]) == pytest.approx(unit, rel=1e-6)
    whole = jnp.arange(0, 12)[:, None, None] * unit
    np.testing.assert_allclose(m.adc.convert(whole, at), whole, atol=1e-6)


def test_given_ranges_need_no_calibration_and_know_of_none():
    ranges = Ranges(jnp.ones(()), jnp.ones((2, 1, 1)))
    for converter in (adc(range_rule="given", high=9.0), adc(range_rule="given", high=9.0, code="twos_complement")):
        for at in (adc_ranges(None, macro(converter), 2, 4), adc_ranges(ranges, macro(converter), 2, 4)):
            assert float(at.high.min()) == 9 and float(at.low.max()) == -9


def test_ranges_of_the_least_error_belong_to_a_code():
    sums = heavy(50)
    m = macro(adc(range_rule="minimum_error"))
    other = dataclasses.replace(m, adc=dataclasses.replace(m.adc, code="offset"))
    for ranges, device in ((found(m, sums), other), (found(macro(adc()), sums), m)):
        with pytest.raises(DeviceError, match="needs ranges that were found for it: calibrate with this device"):
            adc_ranges(ranges, device, 2, 4)


@pytest.mark.parametrize("rule", ["full", "percentile", "power_of_two", "snr", "minimum_error", "granular"])
@pytest.mark.parametrize(
    "code", ["sign_magnitude", pytest.param("twos_complement", marks=SLOW), pytest.param("offset", marks=SLOW)]
)
def test_every_rule_and_code_comes_near_the_product(rule, code):
    w, x = RNG.normal(size=(32, 6)).astype(np.float32), RNG.normal(size=(64, 32)).astype(np.float32)
    m = macro(adc(10.0, range_rule=rule, code=code), cast(BitSerialDAC(6, 100.0, 0.0, 0.0)), weight_bits=6.0)
    device = dataclasses.replace(preset("rram-wan2022"), model=m)
    y = np.asarray(program(w, device, key=root_key(0), calibration=x).matmul(x, key=None))
    assert np.linalg.norm(y - x @ w) < 0.06 * np.linalg.norm(x @ w)


# ---------------------------------------------------------------- nothing is lost


def integer_product(w, x, m, full) -> np.ndarray:
    top, limit, scale = 2 ** (m.dac.bits - 1) - 1, 2 ** (int(m.weight_bits) - 1) - 1, np.abs(w).max(axis=0)
    return np.rint(np.clip(x / full, -1, 1) * top) @ np.rint(w / scale * limit) / top / limit * scale * full


@settings(max_examples=5)
@given(
    bits=st.integers(4, 11),
    code=st.sampled_from(ALL),
    slices=st.integers(1, 2),
    width=st.integers(1, 2),
    integer=st.booleans(),
    where=st.sampled_from(["digital", "steps", "all"]),
)
def test_with_codes_enough_the_product_is_that_of_the_integers(bits, code, slices, width, integer, where):
    rule = {"range_rule": "full", "reconstruct": "integer"} if integer else {"range_rule": "granular"}
    dac = cast(BitSerialDAC(4, 100.0, 0.0, 0.0, slice_bits=width))
    m = macro(adc(float(bits), code=code, **rule), dac, slices=slices, rows=8, shift_add=where,
              read_phases=4 if code == "unsigned" else 1)  # fmt: skip
    w, x = np.ones((16, 3), np.float32), np.ones((2, 16), np.float32)  # sums as large as they can be
    w[8:] *= RNG.choice([-1, 3 / 7, 1], size=(8, 3))
    w[:, 1] *= -1
    x[1] = RNG.uniform(-1, 1, 16)
    y = np.asarray(jax.jit(lambda w, x: crossbar.matmul(program_tiles(w, m, None, None), m, x,
                                                        jnp.zeros((2, 2), jnp.uint32), None))(w, x))  # fmt: skip
    exact = integer_product(w, x, m, np.abs(x).max(axis=1, keepdims=True))
    units = float(largest_sum(m) / grid_unit(m))
    enough = 2**bits / (1 if code == "unsigned" else 2) - 1 >= units * (1 - 1e-6)
    if enough:
        np.testing.assert_allclose(y, exact, atol=2e-5 * np.abs(exact).max())
    if where == "digital":
        assert (choose(m, 16, calibrated=False).kind == "lossless") == enough


@pytest.mark.parametrize(
    ("converter", "fields", "lossless"),
    [
        (None, {}, True),
        (adc(5.0, range_rule="granular"), {}, False),  # 16 rows of digits up to 7: 112 each way
        (adc(8.0, range_rule="granular"), {}, True),
        (adc(7.0, range_rule="granular"), {}, False),
        (adc(7.0, range_rule="granular", code="unsigned"), {"read_phases": 4}, True),
        (adc(9.0, range_rule="full"), {}, False),
        (adc(9.0, range_rule="full", reconstruct="integer"), {}, True),
        (adc(9.0, range_rule="full", reconstruct="integer"), {"weight_bits": None}, False),
        (adc(9.0, range_rule="given", high=16.0, reconstruct="integer"), {}, True),
        (adc(9.0, range_rule="given", high=15.9, reconstruct="integer"), {}, False),
        (adc(8.0, range_rule="granular", noise=0.1), {}, False),
        (adc(8.0, range_rule="granular", noise=0.0), {}, True),
        (adc(8.0, range_rule="granular", mismatch=GainOffsetMismatch(0.0, 0.1)), {}, False),
        (adc(7.0, range_rule="granular", code="unsigned"), {"read_phases": 4, "cell": Cell(1e-6, 4e-5, 1e-13)}, False),
        (adc(8.0, range_rule="granular"), {"cell": Cell(1e-6, 4e-5, 1e-13)}, True),
        (adc(16.0, range_rule="full"), {"encoding": "offset"}, False),
    ],
)
def test_what_loses_nothing(converter, fields, lossless):
    assert (choose(macro(converter, **fields), 16, calibrated=False).kind == "lossless") is lossless


def test_the_grid_needs_sums_without_a_pedestal():
    cell = Cell(1e-6, 4e-5, 1e-13)
    device = dataclasses.replace(
        preset("rram-wan2022"), model=macro(adc(8.0, range_rule="granular"), read_phases=4, cell=cell)
    )
    with pytest.raises(DeviceError, match=r"cell\.g_min = 1e-06 S of every cell is in their sums"):
        program(np.ones((4, 4)), device, key=root_key(0))
    with pytest.raises(DeviceError, match=r"'granular' needs sums that are whole numbers.*set weight_bits"):
        adc_ranges(None, macro(adc(range_rule="granular"), weight_bits=None), 1, 1)


def test_ranges_are_of_the_sums_that_they_were_found_for():
    w, x = np.ones((32, 3), np.float32), RNG.uniform(-1, 1, (8, 32)).astype(np.float32)
    m = macro(adc(6.0))
    ranges = crossbar.calibrate(program_tiles(jnp.asarray(w), m, None, None), m, jnp.asarray(x))
    adc_ranges(ranges, m, *ranges.adc.shape[::2])
    with pytest.raises(DeviceError, match=r"were found for .*read_phases = 1.* has .*read_phases = 2.*calibrate again"):
        adc_ranges(ranges, dataclasses.replace(m, read_phases=2), *ranges.adc.shape[::2])
    with pytest.raises(DeviceError, match=r"found for 2 groups of rows and 1 slices, .* has 4 and 1: calibrate again"):
        adc_ranges(ranges, m, 4, 1)
