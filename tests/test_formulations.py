"""Formulations of whole numbers against integer loops, against each other, and against the analog one."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st

from pim import crossbar
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.exact_product import exact_product, limbs, limbs_of
from pim.formulation import ANALOG, choose, forced
from pim.integer_sums import as_bytes, integer_sums
from pim.mapping.encoding import ENCODINGS
from pim.mapping.weights import weight_scale
from pim.packed_bits import input_planes, packed_sums, weight_planes
from pim.programming import program
from pim.ranges import Ranges
from pim.tile_programming import program_tiles

KEY = root_key(3)
EXACT = MultibitDAC(8.0, 100.0, 0.0, 0.0)


def macro(dac=None, adc: ADC | None = None, cell: dict | None = None, **fields) -> AnalogMacro:
    """A macro without any error but those asked for."""
    settings = {
        "rows": 16,
        "columns": 64,
        "slices": 2,
        "encoding": "differential",
        "weight_scale": "column",
        "input_range": "token",
        "weight_bits": 5.0,
    }
    return cast(
        AnalogMacro(
            **{**settings, **fields},
            v_read=0.2,
            t_read=1e-8,
            vdd=0.9,
            cell=Cell(**{"g_min": 0.0, "g_max": 40e-6, **(cell or {})}),
            dac=dac or serial(4),
            adc=adc,
        )
    )


def device(model: AnalogMacro) -> Device:
    return Device(name="trial", family="analog", summary="", model=model, provenance={}, sources={})


def serial(bits: int, **fields) -> BitSerialDAC:
    return BitSerialDAC(bits, 100.0, 0.0, 0.0, **fields)


def given_range(bits: float, cells: float, **fields) -> ADC:
    """A converter whose range is no ratio of whole numbers, so that no sum lies between two codes."""
    return ADC(bits, 100.0, 8.0, range_rule="given", high=cells * 0.7310585786, **fields)


def matrix(n_in: int, n_out: int, seed: int = 0, batch: int = 5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_in, n_out)).astype(np.float32), rng.normal(size=(batch, n_in)).astype(np.float32)


def _product(m, w, x, key, formulation):
    programmed = program_tiles(w, m, KEY, None, formulation=formulation)
    ids = jnp.stack([jnp.zeros(len(x), jnp.uint32), jnp.arange(len(x), dtype=jnp.uint32)], axis=1)
    return crossbar.matmul(programmed, m, x, ids, key)


programming = jax.jit(program_tiles, static_argnames="formulation")
compiled_product = jax.jit(_product, static_argnames="formulation")


def product(m: AnalogMacro, w, x, formulation, key=None, compiled=compiled_product) -> np.ndarray:
    return np.asarray(compiled(m, jnp.asarray(w), jnp.asarray(x), key, formulation=formulation))


@jax.jit
def input_codes(dac, x):
    return dac.codes(x)


@partial(jax.jit, static_argnames=("which", "rows"))
def scale_of(w, which, rows):
    return weight_scale(w, which, "largest", rows, w.shape[1])


def integers(m: AnalogMacro, w, x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and inputs as the integers that they are rounded to, and what one of each other's products counts."""
    assert m.weight_bits is not None
    limit, top = 2 ** (int(m.weight_bits) - 1) - 1, float(m.dac.top)
    scale = np.asarray(scale_of(jnp.asarray(w), m.weight_scale, m.rows))
    full = np.abs(x).max(axis=1, keepdims=True)
    levels, places = input_codes(m.dac, jnp.asarray(x / full))
    codes = np.einsum("s,sbi->bi", np.asarray(places, np.float64), np.asarray(levels, np.float64))
    w_codes = np.rint(np.asarray(jnp.asarray(w) / scale) * limit)
    return w_codes.astype(np.int64), codes.astype(np.int64), full * scale / (limit * top)


def slow(m: AnalogMacro, w, x) -> np.ndarray:
    """Tile by tile, slice by slice, step by step, in integers; the ADC in float64."""
    w_codes, _, count = integers(m, w, x)
    assert m.weight_bits is not None
    bits = -(-(int(m.weight_bits) - 1) // m.slices)
    full = np.abs(x).max(axis=1, keepdims=True)
    levels, places = (np.asarray(v).astype(np.int64) for v in input_codes(m.dac, jnp.asarray(x / full)))
    unit = 1.0 / ((2**bits - 1) * float(m.dac.largest_level))
    total = np.zeros((len(x), w.shape[1]))
    for first in range(0, w.shape[0], m.rows):
        rows = slice(first, first + m.rows)
        for part in range(m.slices):
            digit = np.sign(w_codes[rows]) * ((np.abs(w_codes[rows]) >> (bits * part)) & (2**bits - 1))
            for level, place in zip(levels, places, strict=True):
                sums = (level[:, rows] @ digit).astype(np.float64)
                if m.adc is not None:
                    limit = float(m.adc.codes())
                    step = float(m.adc.high) / limit
                    sums = np.clip(np.rint(sums * unit / step), -limit, limit) * step / unit
                total += sums * 2.0 ** (bits * part) * place
    return total * count


@partial(jax.jit, static_argnames="planes")
def sums_of_bits(levels, digits, planes):
    return packed_sums(*input_planes(levels), weight_planes(digits, planes))


@jax.jit
def sums_of_bytes(levels, digits):
    return integer_sums(levels, as_bytes(digits))


@partial(jax.jit, static_argnames="most")
def by_limbs(w, x, most):
    return exact_product(limbs(x, limbs_of(most[1])), limbs(w.T, limbs_of(most[0])))


# Of shapes a few each, so that what has been compiled serves again.
@settings(max_examples=4)
@given(
    st.sampled_from([1, 31, 33, 64]),
    st.sampled_from([1, 9]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 99),
)
def test_sums_of_bytes_and_of_bits_are_those_of_integers(rows, columns, batch, bits, seed):
    rng = np.random.default_rng(seed)
    digits = rng.integers(1 - 2**bits, 2**bits, (rows, columns))
    levels = rng.integers(-1, 2, (batch, rows))
    found = sums_of_bits(jnp.asarray(levels, jnp.float32), jnp.asarray(digits, jnp.float32), bits + 1)
    np.testing.assert_array_equal(found, levels @ digits)
    wide = rng.integers(-127, 128, (batch, rows))
    found = sums_of_bytes(jnp.asarray(wide, jnp.int8), jnp.asarray(digits, jnp.float32))
    np.testing.assert_array_equal(found, (wide @ digits).T)


@settings(max_examples=5)
@given(
    st.sampled_from([1, 300]),
    st.sampled_from([1, 9]),
    st.sampled_from([(1, 127), (127, 255), (2047, 300), (3, 32767)]),
    st.integers(0, 99),
)
def test_product_of_integers_of_any_size_is_exact(n_in, n_out, largest, seed):
    rng = np.random.default_rng(seed)
    w, x = (
        rng.integers(-most, most + 1, shape) for most, shape in zip(largest, ((n_in, n_out), (2, n_in)), strict=True)
    )
    w[0, 0], x[0, 0] = largest
    found = by_limbs(jnp.asarray(w, jnp.float32), jnp.asarray(x, jnp.float32), largest)
    np.testing.assert_array_equal(found, x @ w)


# (n_in, n_out, rows, (weight_bits, slices), dac_bits, adc_bits): each drawn one compiles a dozen programs
LOOPS = [(7, 1, 16, (2.0, 1), 2, 3.0), (50, 6, 32, (5.0, 2), 5, 6.0), (50, 6, 16, (9.0, 4), 2, None)]


@pytest.mark.parametrize("sizes", LOOPS)
def test_every_formulation_is_the_integer_loop(sizes):
    is_the_integer_loop(*sizes, seed=0)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.sampled_from([7, 50]),
    st.sampled_from([1, 6]),
    st.sampled_from([16, 32]),
    st.sampled_from([(2.0, 1), (5.0, 2), (9.0, 4)]),
    st.sampled_from([2, 5]),
    st.sampled_from([None, 3.0, 6.0]),
    st.integers(0, 99),
)
def test_every_formulation_of_any_sizes_is_the_integer_loop(n_in, n_out, rows, weight, dac_bits, adc_bits, seed):
    is_the_integer_loop(n_in, n_out, rows, weight, dac_bits, adc_bits, seed)


def is_the_integer_loop(n_in, n_out, rows, weight, dac_bits, adc_bits, seed):
    w, x = matrix(n_in, n_out, seed)
    adc = None if adc_bits is None else given_range(adc_bits, rows / 4)
    m = macro(serial(dac_bits), adc, rows=rows, weight_bits=weight[0], slices=weight[1])
    expected = slow(m, w, x)
    for kind in ("analog", "integer", "packed") + (("lossless",) if adc is None else ()):
        y = product(m, w, x, forced(kind, m, n_in, calibrated=False))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max(), err_msg=kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "adc"),
    [
        ({"encoding": "offset_reference"}, given_range(5.0, 8.0)),
        ({"encoding": "differential_two_sided"}, given_range(5.0, 8.0)),
        ({"encoding": "differential_digital"}, given_range(5.0, 8.0)),
        ({"encoding": "offset_digital"}, given_range(5.0, 8.0)),
        ({"encoding": "offset"}, given_range(5.0, 8.0)),
        ({"read_phases": 4}, given_range(5.0, 8.0)),
        ({"weight_scale": "tile"}, given_range(5.0, 8.0)),
        ({"active_rows": 4}, given_range(5.0, 2.0)),
        ({"dac": EXACT}, given_range(6.0, 8.0)),
        ({"dac": serial(5, code="twos_complement")}, given_range(6.0, 8.0)),
        ({"cell": {"levels": 4.0, "g_min": 1e-6}}, given_range(6.0, 8.0)),
    ],
)
def test_all_kinds_of_macros(fields, adc):
    w, x = matrix(40, 7)
    m = macro(adc=adc, **fields)
    expected = product(m, w, x, ANALOG)
    kinds = [kind for kind in ("integer", "packed") if not (kind == "packed" and fields.get("dac") is EXACT)]
    for kind in kinds:
        y = product(m, w, x, forced(kind, m, 40))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5, err_msg=kind)


LOSSLESS = {
    "none": None,
    "granular": ADC(7.0, 100.0, 8.0, range_rule="granular"),
    "full": ADC(7.0, 100.0, 8.0, range_rule="full", reconstruct="integer"),
    "twos_complement": ADC(7.0, 100.0, 8.0, range_rule="granular", code="twos_complement"),
}


@pytest.mark.parametrize(("encoding", "adc"), covering(["differential", "offset_reference"], [*LOSSLESS]))
def test_lossless_is_the_integer_product(adc, encoding):
    w, x = matrix(100, 7)
    m = macro(serial(8), LOSSLESS[adc], encoding=encoding)
    chip = program(w, device(m), key=KEY)
    assert chip.formulation is not None
    assert chip.formulation.kind == "lossless", chip.formulation
    w_codes, x_codes, count = integers(m, w, x)
    y = np.asarray(chip.matmul(x, key=KEY), np.float64)
    np.testing.assert_array_equal(np.rint(y / count), x_codes @ w_codes)
    np.testing.assert_allclose(y, (x_codes @ w_codes) * count, rtol=1e-6)
    tiled = program(w, device(m), key=KEY, formulation="packed")
    np.testing.assert_allclose(tiled.matmul(x, key=KEY), y, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_noise_behind_exact_sums_is_the_same_in_every_formulation():
    w, x = matrix(40, 7)
    m = macro(adc=given_range(12.0, 16.0, noise=3.0))
    ys = [product(m, w, x, forced(kind, m, 40), KEY) for kind in ("analog", "integer", "packed")]
    assert np.abs(ys[0] - product(m, w, x, ANALOG)).max() > 1e-3
    for y in ys[1:]:
        assert np.mean(np.abs(y - ys[0]) > 1e-4) < 0.05  # a code flips where noise comes to lie between two


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["analog", "integer", "packed", "lossless"])
def test_vectors_do_not_know_of_each_other(kind, monkeypatch):
    w, x = matrix(40, 7, batch=9)
    m = macro()
    how = forced(kind, m, 40)
    together = product(m, w, x, how)
    np.testing.assert_allclose(product(m, w, x[:1], how), together[:1], rtol=2e-6, atol=1e-6)
    monkeypatch.setattr(crossbar, "_most_at_once", lambda _: 4)
    anew = jax.jit(_product, static_argnames="formulation")  # what was compiled knows nothing of the change
    np.testing.assert_allclose(product(m, w, x, how, compiled=anew), together, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({}, "packed", "one bit"),
        ({"dac": EXACT}, "integer", "targets"),
        ({"slices": 1}, "integer", "targets"),
        ({"cell": {"write_error": ProportionalReadNoise(0.1)}}, "analog", "cell.write_error"),
        ({"cell": {"read_noise": AdditiveReadNoise(1e-6)}}, "analog", "cell.read_noise"),
        ({"cell": {"levels": 3.0}}, "analog", "3 levels"),
        ({"cell": {"g_floor": 1e-6}}, "analog", "targets"),
        ({"cell": {"g_min": 1e-6}, "encoding": "differential_digital"}, "analog", "g_min"),
        ({"weight_bits": None, "slices": 1}, "analog", "continuous"),
        ({"weight_bits": 9.0, "slices": 1}, "analog", "byte"),
        ({"dac": MultibitDAC(9.0, 100.0, 0.0, 0.0)}, "analog", "255"),
        ({"dac": serial(4, noise=0.1)}, "analog", "input converters"),
        ({"shift_add": "all"}, "analog", "shift_add"),
        ({"rows": 4096}, "integer", "targets"),
    ],
)
def test_choice_and_its_reason(fields, kind, reason):
    m = macro(**{"adc": given_range(6.0, 8.0), **fields})
    found = choose(m, 100)
    assert found.kind == kind
    assert reason in str(found)


def test_what_is_asked_for_must_hold():
    w, x = matrix(40, 7)
    noisy = device(macro(cell={"read_noise": AdditiveReadNoise(1e-6)}))
    with pytest.raises(DeviceError, match=r"'packed' does not give .* cell.read_noise; .* 'analog'"):
        program(w, noisy, key=KEY, formulation="packed")
    with pytest.raises(DeviceError, match="'fast' is none of lossless, packed, integer, analog"):
        program(w, noisy, key=KEY, formulation="fast")
    clipping = device(macro(adc=ADC(7.0, 99.0, 8.0)))
    with pytest.raises(DeviceError, match="measured"):
        program(w, clipping, key=KEY, calibration=x, formulation="lossless")
    exact = device(macro())
    assert program(w, exact, key=KEY, formulation="analog").crossbar.weights.dtype == jnp.float32
    assert program(w, exact, key=KEY, formulation="integer").crossbar.weights.dtype == jnp.int8
    packed = program(w, exact, key=KEY, formulation="packed")
    assert packed.crossbar.weights.dtype == jnp.uint32
    np.testing.assert_allclose(packed.rewrite(2 * w).matmul(x, key=None), 2 * packed.matmul(x, key=None), rtol=1e-6)
    with pytest.raises(DeviceError, match="no analog cells"):
        program(w, preset("ideal"), key=KEY, formulation="integer")


def test_of_traced_values_nothing_is_chosen():
    chosen = []
    jax.eval_shape(lambda m: chosen.append(choose(m, 100)) or m.vdd, macro())
    assert chosen[0].kind == "analog"
    assert "traced" in chosen[0].reason


@pytest.mark.parametrize("kind", ["packed", "integer"])
def test_a_structure_compiles_once(kind):
    w, x = matrix(40, 7)
    matmul = jax.jit(lambda programmed, m, x, ids: crossbar.matmul(programmed, m, x, ids, None))
    ids = jnp.zeros((5, 2), jnp.uint32)
    for bits, high in ((4.0, 3.0), (6.0, 7.0)):
        m = macro(adc=given_range(bits, high))
        programmed = programming(jnp.asarray(w), m, None, None, formulation=forced(kind, m, 40))
        matmul(programmed, m, jnp.asarray(x), ids)
    assert matmul._cache_size() == 1


@pytest.mark.parametrize("noise", [None, AdditiveReadNoise(1e-6), ProportionalReadNoise(0.05)])
def test_a_chip_takes_three_times_its_weights(noise):
    """The weights asked for, those of the cells, and the variance of each where cells differ in it."""
    w, _ = matrix(512, 512)
    m = macro(weight_bits=None, slices=1, rows=128, columns=1024, cell={"read_noise": noise}, adc=given_range(8.0, 8.0))
    chip = program(w, device(m), key=KEY)
    taken = sum(leaf.nbytes for leaf in jax.tree.leaves(chip) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))
    assert taken <= (3.01 if isinstance(noise, ProportionalReadNoise) else 2.01) * w.nbytes


def test_one_variance_for_all_cells_makes_the_noise_of_one_for_each():
    w, x = matrix(40, 7)
    m = macro(weight_bits=None, slices=1, cell={"read_noise": AdditiveReadNoise(1e-6)})
    programmed = programming(jnp.asarray(w), m, KEY, None)
    assert programmed.variance is not None
    assert programmed.variance.shape == (3, 1, 1)
    each = dataclasses.replace(programmed, variance=jnp.broadcast_to(programmed.variance, programmed.weights.shape))
    ids = jnp.zeros((5, 2), jnp.uint32)
    y, expected = (jax.jit(crossbar.matmul)(p, m, jnp.asarray(x), ids, KEY) for p in (programmed, each))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def read_in(encoding: str, phases: int, g_min: float) -> AnalogMacro:
    return macro(adc=given_range(6.0, 12.0), cell={"g_min": g_min}, encoding=encoding, read_phases=phases)


def is_whole(encoding: str, phases: int, g_min: float) -> bool:
    """With the g_min of cells in the sums of single lines, and halves of digits on them, they are no whole numbers."""
    lines = phases == 4 or encoding in ("differential_digital", "offset", "offset_digital")
    halves = phases == 4 and encoding == "differential_two_sided"
    return not ((lines and g_min > 0) or halves)


READS = [
    (encoding, phases, g_min)
    for encoding in sorted(ENCODINGS)
    for phases in ((1, 2, 4) if encoding in ("differential", "differential_two_sided") else (1, 2))
    for g_min in (0.0, 4e-6)
]
QUICK_READS = [
    ("differential", 4, 0.0), ("differential_two_sided", 2, 4e-6), ("differential_digital", 1, 0.0),
    ("offset", 1, 0.0), ("offset_reference", 1, 4e-6), ("offset_digital", 2, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "phases", "g_min"), READS)
def test_sums_are_whole_numbers_in_the_encodings_and_phases_that_give_them(encoding, phases, g_min):
    chosen = choose(read_in(encoding, phases, g_min), 20, calibrated=False)
    assert chosen.whole is is_whole(encoding, phases, g_min), chosen


@pytest.mark.parametrize(
    ("encoding", "phases", "g_min"),
    [pytest.param(*read, marks=() if read in QUICK_READS else pytest.mark.slow) for read in READS if is_whole(*read)],
)
def test_what_is_chosen_is_the_analog_product_in_every_encoding_and_phase(encoding, phases, g_min):
    w, x = matrix(20, 5)
    m = read_in(encoding, phases, g_min)
    chosen = choose(m, 20, calibrated=False)
    np.testing.assert_allclose(product(m, w, x, chosen), product(m, w, x, ANALOG), atol=2e-5 * np.abs(x @ w).max())


@pytest.mark.parametrize("kind", ["lossless", "packed", "integer"])
def test_what_is_not_a_number_does_not_get_lost(kind):
    w, x = matrix(20, 5)
    x[1, 3] = np.nan
    m = dataclasses.replace(macro(), input_range="calibrated")
    ranges = Ranges(x=jnp.float32(2.0), adc=jnp.ones((2, 2, 1)))
    programmed = programming(jnp.asarray(w), m, KEY, None, ranges=ranges, formulation=forced(kind, m, 20))
    y = np.asarray(jax.jit(crossbar.matmul)(programmed, m, jnp.asarray(x), jnp.zeros((5, 2), jnp.uint32), None))
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, axis=0)).all()
