"""DRAM cells that are refreshed too late: who fails, what their bits become, what correction leaves, and in chips."""

import json
from dataclasses import replace
from math import erfc, log, sqrt

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from covering import first_few

from pim.devices.arithmetic import FloatArithmetic, IntegerArithmetic
from pim.devices.catalogue import preset
from pim.devices.device import replace as changed
from pim.devices.errors import DeviceError
from pim.devices.loader import load_device
from pim.devices.near_dram import NearDram
from pim.devices.random import USES, chip_key, root_key, site_key
from pim.devices.record import cast
from pim.devices.registry import TYPES
from pim.devices.retention_errors import RetentionErrors, check_bits, log_normal_through
from pim.devices.stored_words import (
    WORD_BITS,
    code_values,
    code_words,
    finite_words,
    float_values,
    float_words,
)
from pim.evaluation import study
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.programming import program

KEY = site_key(root_key(0), use="retention")
NARROW = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def made(interval: float = 4.0, **fields) -> RetentionErrors:
    """Of leaky cells 1 in 10, so that there is something to see."""
    return cast(RetentionErrors(interval, 60.0, 0.6, 0.1, 8.0, 0.9, **fields))


def units(arithmetic, retention=None) -> NearDram:
    """Units that compute so, at cells that forget so."""
    return replace(preset("dram-aim").model, arithmetic=arithmetic, retention=retention)


failing = jax.jit(RetentionErrors.failing, static_argnames=("shape", "bits"))
flip = jax.jit(RetentionErrors.flip, static_argnames="name")


def ones(words) -> int:
    return int(np.bitwise_count(np.asarray(words)).sum())


# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NARROW)
def test_words_are_the_bits_of_the_format_subnormals_included(name):
    words = np.arange(1 << 16, dtype=np.uint16)
    values = words.view(NARROW[name]).astype(np.float32)
    found = jax.jit(float_values, static_argnames="name")(jnp.asarray(words, jnp.uint32), name=name)
    np.testing.assert_array_equal(found, values)
    plain = np.isfinite(values) & ((np.abs(values) >= 2.0**-126) | (values == 0))  # XLA flushes subnormal float32
    back = jax.jit(float_words, static_argnames="name")(jnp.asarray(values), name=name)
    np.testing.assert_array_equal(np.asarray(back)[plain], words[plain])
    finite = float_values(finite_words(jnp.asarray(words, jnp.uint32), name), name)
    assert np.isfinite(finite).all()
    np.testing.assert_array_equal(np.asarray(finite)[np.isfinite(values)], values[np.isfinite(values)])
    assert np.abs(finite).max() == np.abs(values[np.isfinite(values)]).max()


def test_words_of_integers_and_of_float32():
    codes = np.arange(-128, 128, dtype=np.int8)
    words = code_words(jnp.asarray(codes), "int8")
    np.testing.assert_array_equal(words, codes.view(np.uint8))
    np.testing.assert_array_equal(code_values(words, "int8"), codes)
    np.testing.assert_array_equal(code_values(jnp.arange(16, dtype=jnp.uint32), "int4"), [*range(8), *range(-8, 0)])
    x = np.random.default_rng(0).normal(size=99).astype(np.float32)
    np.testing.assert_array_equal(float_words(jnp.asarray(x), "fp32"), x.view(np.uint32))
    assert WORD_BITS == {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4}


# Who fails ----------------------------------------------------------------------------------------------------------


def phi(z: float) -> float:
    return erfc(-z / sqrt(2)) / 2


@pytest.mark.parametrize(("interval", "temperature"), [(0.064, 358.15), (4.0, 358.15), (4.0, 338.15), (40.0, 368.15)])
def test_the_rate_is_that_of_two_log_normal_laws(interval, temperature):
    t = interval * 2 ** ((temperature - 358.15) / 10)
    wanted = 0.9 * phi(log(t / 60) / 0.6) + 0.1 * phi(log(t / 8) / 0.9)
    law = made(interval, temperature=temperature)
    assert float(law.rate()) == pytest.approx(wanted, rel=1e-4)
    found = ones(failing(law, KEY, (400, 500), 16)) / (400 * 500 * 16)
    assert found == pytest.approx(wanted, abs=4 * sqrt(wanted / 3.2e6))


def test_a_row_that_is_always_refreshed_loses_nothing():
    assert float(made(0.0).rate()) == 0 and ones(failing(made(0.0), KEY, (50, 50), 16)) == 0


def test_ten_kelvin_are_worth_twice_the_interval():
    cold, hot = made(8.0, temperature=348.15), made(4.0)
    np.testing.assert_allclose(cold.rate(), hot.rate(), rtol=1e-5)
    measured = made(4.0, temperature=318.15, halving_temperature=11.09)  # AVATAR: 4 s at 45 C are 328 ms at 85 C
    np.testing.assert_allclose(measured.rate(), made(0.328).rate(), rtol=0.02)


def test_the_cells_of_a_process_follow_from_two_of_its_rates():
    """RAIDR, 60 nm: of 32 GB some 30 cells hold less than 128 ms and 1000 less than 256 ms."""
    cells = 8 * 32 * 2**30
    law = RetentionErrors(
        0.128, 60.0, 0.6, 1e-4, *log_normal_through((0.128, 30 / cells), (0.256, 1000 / cells), share=1e-4)
    )
    assert float(cast(law).rate()) * cells == pytest.approx(30, rel=0.01)
    assert float(cast(replace(law, refresh_interval=0.256)).rate()) * cells == pytest.approx(1000, rel=0.01)
    assert float(cast(replace(law, refresh_interval=0.064)).rate()) * cells < 1
    for first, second, share in [((1, 0.1), (2, 0.05), 1), ((2, 0.1), (1, 0.2), 1), ((1, 0.1), (2, 0.2), 0.15)]:
        with pytest.raises(DeviceError, match="no log-normal law"):
            log_normal_through(first, second, share=share)


@pytest.mark.parametrize("ecc_word_bits", [0, 128])
def test_what_fails_fails_at_every_longer_interval_and_higher_temperature(ecc_word_bits):
    words = jnp.asarray(np.random.default_rng(0).integers(0, 1 << 16, (100, 60)), jnp.uint32)
    before = np.zeros((100, 60), np.uint32)
    for interval, temperature in [(1.5, 358.15), (2.0, 358.15), (2.0, 368.15), (8.0, 368.15), (8.0, 400.0)]:
        law = made(interval, temperature=temperature, ecc_word_bits=ecc_word_bits)
        lost = np.asarray(words ^ flip(replace(law, not_finite="stored"), words, name="bf16", key=KEY))
        assert (lost & before == before).all() and ones(lost) > ones(before)
        before = lost


# What bits become ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", first_few(2, sorted(WORD_BITS, key=["bf16", "int4", *WORD_BITS].index)))
def test_only_charge_is_lost_to_zero_in_true_cells_and_to_one_in_anti_cells(name):
    """Bit by bit in a loop."""
    bits = WORD_BITS[name]
    words = np.random.default_rng(1).integers(0, 1 << bits, (30, 40)).astype(np.uint32)
    law = made(8.0, not_finite="stored", anti_cell_share=0.3)
    fails, anti = np.asarray(failing(law, KEY, (30, 40), bits)), np.asarray(law.anti(KEY, 40))
    wanted = words.copy()
    for i, j, bit in np.ndindex(30, 40, bits):
        stored, weak = words[i, j] >> bit & 1, fails[i, j] >> bit & 1
        charged = stored == (0 if anti[j] else 1)
        if weak and charged:
            wanted[i, j] ^= np.uint32(1 << bit)
    found = np.asarray(flip(law, jnp.asarray(words), name=name, key=KEY))
    np.testing.assert_array_equal(found, wanted)
    assert 0 < anti.sum() < 40 and (found != words).any()
    zeros, full = jnp.zeros((30, 40), jnp.uint32), jnp.full((30, 40), (1 << bits) - 1, jnp.uint32)
    true_cells = replace(law, anti_cell_share=jnp.float32(0))
    assert ones(flip(true_cells, zeros, name=name, key=KEY)) == 0
    np.testing.assert_array_equal(full - flip(true_cells, full, name=name, key=KEY), fails)


def test_a_word_that_becomes_infinite_or_nan_is_the_largest_finite_one_or_what_is_stored():
    """1.5 in FP16 is 0 01111 1000000000: in anti cells its top exponent bit may go to one, and NaN is read."""
    words = jnp.full((600, 30), 0x3E00, jnp.uint32)
    anti = {"anti_cell_share": 1.0}
    stored = np.asarray(float_values(flip(made(8.0, not_finite="stored", **anti), words, name="fp16", key=KEY), "fp16"))
    largest = np.asarray(float_values(flip(made(8.0, **anti), words, name="fp16", key=KEY), "fp16"))
    assert np.isnan(stored).any() and np.isfinite(largest).all()
    assert set(np.abs(largest[~np.isfinite(stored)])) == {65504.0}
    np.testing.assert_array_equal(largest[np.isfinite(stored)], stored[np.isfinite(stored)])
    np.testing.assert_array_equal(np.signbit(largest), np.signbit(stored))
    overflow = jnp.full((600, 30), 0x7C00, jnp.uint32)  # infinite as it was written: nothing of the memory's
    assert np.isinf(float_values(flip(made(0.0), overflow, name="fp16", key=KEY), "fp16")).all()


@pytest.mark.parametrize("name", first_few(1, ["bf16", "int8", "int4"]))
def test_correction_leaves_code_words_with_more_than_one_error(name):
    """Data bits alone in a loop; the check bits fail too, so that some code words of one error are left as well."""
    bits = WORD_BITS[name]
    size = 128 // bits
    words = jnp.asarray(np.random.default_rng(2).integers(0, 1 << bits, (3 * size + 5, 50)), jnp.uint32)
    law = made(4.0, not_finite="stored")
    plain = np.asarray(words ^ flip(law, words, name=name, key=KEY))
    left = np.asarray(words ^ flip(replace(law, ecc_word_bits=128), words, name=name, key=KEY))
    single = kept = 0
    for start in range(0, len(words), size):
        for j in range(50):
            lost, now = plain[start : start + size, j], left[start : start + size, j]
            if ones(lost) > 1:
                np.testing.assert_array_equal(now, lost)
            else:
                assert ones(now) in (0, ones(lost))
                single, kept = single + ones(lost), kept + ones(now)
    assert single > 30 and 0 < kept < 0.3 * single
    rare = made(0.2, ecc_word_bits=128)
    assert ones(words ^ flip(rare, words, name=name, key=KEY)) == 0


def test_check_bits_are_those_of_the_least_hamming_code():
    assert [check_bits(n) for n in (4, 11, 64, 128, 256)] == [3, 4, 7, 8, 9]
    with pytest.raises(DeviceError, match=r"ecc_word_bits = 100 holds no whole number of words of 16 bits"):
        made(ecc_word_bits=100).flip(jnp.zeros((3, 3), jnp.uint32), "fp16", KEY)


# Devices ------------------------------------------------------------------------------------------------------------


def forgetful(name: str, interval: float = 2.0, **fields):
    return changed(preset(name), {"retention": made(interval, **fields)})


@pytest.mark.parametrize("name", first_few(2, ["dram-hbm-pim", "dram-upmem", "dram-aim", "dram-attacc"]))
def test_a_chip_keeps_its_failures_and_its_neighbour_has_others(name):
    """By products with unit vectors, which read the stored weights one by one."""
    w = np.random.default_rng(3).normal(size=(40, 30)).astype(np.float32) * 0.1
    read = lambda device, key: np.asarray(program(w, device, key=key).matmul(np.eye(40, dtype=np.float32), key=None))
    clean = read(preset(name), root_key(0))
    assert "retention" not in preset(name).paths()
    chip, again, other = (read(forgetful(name), root_key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(chip, again)
    assert (chip != clean).any() and (chip != other).any()
    np.testing.assert_array_equal(read(forgetful(name, 0.0), root_key(0)), clean)
    later = read(changed(forgetful(name), {"retention.refresh_interval": 4.0}), root_key(0))
    assert ((later != clean) >= (chip != clean)).all() and (later != chip).any()


def test_many_chips_are_the_single_ones():
    w = np.random.default_rng(4).normal(size=(64, 20)).astype(np.float32) * 0.1
    x = np.random.default_rng(5).normal(size=(3, 64)).astype(np.float32)
    many = np.asarray(program(w, forgetful("dram-aim"), key=root_key(0), chips=3).matmul(x, key=None))
    assert many.shape == (3, 3, 20)
    for chip in range(3):
        one = program(w, forgetful("dram-aim"), key=chip_key(root_key(0), chip)).matmul(x, key=None)
        np.testing.assert_array_equal(many[chip], one)
    assert (many[0] != many[1]).any()


def test_a_nominal_matrix_has_no_failures():
    w = jnp.asarray(np.random.default_rng(6).normal(size=(20, 5)), jnp.float32)
    for arithmetic in (FloatArithmetic("fp16"), IntegerArithmetic("int4")):
        broken = units(arithmetic, made(50.0))
        np.testing.assert_array_equal(
            jax.tree.leaves(broken.hold(w, None))[0], jax.tree.leaves(units(arithmetic).hold(w, None))[0]
        )


def test_a_sweep_of_interval_and_temperature_compiles_once():
    hold = jax.jit(lambda device, w: device.hold(w, lambda use: site_key(root_key(0), use=use)))
    device = cast(units(FloatArithmetic("bf16"), made()))
    for interval, temperature in [(0.064, 358.15), (1.0, 318.15), (2.0, 318.15)]:
        law = made(interval, temperature=temperature)
        hold(replace(device, retention=law), jnp.ones((9, 4)))
    assert hold._cache_size() == 1


def test_a_device_file_names_the_law(tmp_path):
    file = tmp_path / "hot.toml"
    file.write_text("""
name = "hot"
family = "near-dram"
summary = "AiM that is refreshed late"
base = "dram-aim"
[device.retention]
type = "RetentionErrors"
refresh_interval = 0.5
median = 60
spread = 0.6
weak_share = 1e-4
weak_median = 9.1
weak_spread = 0.9
temperature = 368.15
ecc_word_bits = 128
""")
    device = load_device(file)
    assert device["retention.temperature"] == pytest.approx(368.15) and device["retention.ecc_word_bits"] == 128
    with pytest.raises(DeviceError, match=r"weak_share = 2 is out of range"):
        changed(device, {"retention.weak_share": 2.0})
    with pytest.raises(DeviceError, match=r"none of largest, stored"):
        changed(device, {"retention.not_finite": "zero"})
    assert TYPES["RetentionErrors"] is RetentionErrors and USES[-1] == "retention" and "LogNormal" not in TYPES
    assert json.dumps(device.paths()["retention.not_finite"]) == '"largest"'


def test_a_language_model_forgets_when_it_is_refreshed_late():
    device = changed(preset("dram-attacc"), {"retention": made(0.0, anti_cell_share=0.0)})
    plan = place(load_model("tiny-stories"), inference_system(device, preset("digital-28nm")))
    result = study(
        plan, {"weights.retention.refresh_interval": [0.0, 0.6]}, story_text(2, 1), tokens=64, chips=2, progress=False
    )
    clean, late = result.points
    assert clean.kl < 1e-3 and np.isfinite(late.kl) and late.kl > 10 * clean.kl
