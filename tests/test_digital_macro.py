"""Digital macros: exact integers whatever the order, cells that fail at a low supply, and gates counted one by one."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.costs.costing import cost
from pim.costs.digital_macro_cost import leakage_power, matrix_cost
from pim.devices.adders import place_value_adders, shortest_cycle
from pim.devices.bit_errors import BitErrorTable
from pim.devices.catalogue import preset
from pim.devices.components.logic import tree_adders
from pim.devices.device import replace as changed
from pim.devices.digital_macro import MOST_BITS, DigitalMacro, flipped
from pim.devices.errors import DeviceError
from pim.devices.loader import load_device
from pim.devices.random import fold, root_key, site_key
from pim.devices.record import cast
from pim.devices.survey import survey
from pim.evaluation import study
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.programming import program

TABLE = cast(BitErrorTable(np.array([0.5, 0.6, 0.7, 0.8]), np.array([0.1, 1e-2, 1e-4, 1e-8])))


def made(**fields: Any) -> DigitalMacro:
    """A record with float32 leaves."""
    usual = {"rows": 4, "outputs": 4, "weight_bits": 8.0, "input_bits": 8.0, "clock": 1e8, "vdd": 0.7}
    return cast(DigitalMacro(**{**usual, **fields}))


def signed(rng: np.random.Generator, bits: int, shape: tuple[int, int]) -> np.ndarray:
    """Codes over the whole range of two's complement."""
    return rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape)


def narrow(value: np.ndarray, bits: int | None, overflow: str) -> np.ndarray:
    """What a register keeps, in words: the value at its bound, or the value less whole turns."""
    if bits is None:
        return value
    half = 1 << (bits - 1)
    return np.clip(value, -half, half - 1) if overflow == "saturate" else (value + half) % (2 * half) - half


def bit_by_bit(x, codes, rows, input_bits, bits=None, overflow="saturate") -> np.ndarray:
    """The slow way of the hardware: one row group, one input bit, one row at a time; the sign bit counts negative."""
    total = np.zeros((len(x), codes.shape[1]), int)
    for start in range(0, codes.shape[0], rows):
        group = np.zeros_like(total)
        for bit in range(input_bits):
            plane = (x[:, start : start + rows] >> bit) & 1
            place = -(1 << bit) if bit == input_bits - 1 else 1 << bit
            for i in range(plane.shape[1]):
                group += place * plane[:, i : i + 1] * codes[start + i][None]
        total = narrow(total + narrow(group, bits, overflow), bits, overflow)
    return total


# Integers ---------------------------------------------------------------------------------------------------------


@given(
    batch=st.integers(1, 5), n_in=st.integers(1, 40), n_out=st.integers(1, 9), rows=st.integers(1, 16),
    weight_bits=st.integers(1, 8), input_bits=st.integers(1, 8), seed=st.integers(0, 999),
)  # fmt: skip
def test_sums_are_the_integer_product_and_that_of_serial_bits(batch, n_in, n_out, rows, weight_bits, input_bits, seed):
    rng = np.random.default_rng(seed)
    x, codes = signed(rng, input_bits, (batch, n_in)), signed(rng, weight_bits, (n_in, n_out))
    found = made(rows=rows).sums(jnp.asarray(x, jnp.int8), jnp.asarray(codes, jnp.int8))
    np.testing.assert_array_equal(found, x @ codes)
    np.testing.assert_array_equal(found, bit_by_bit(x, codes, rows, input_bits))


@settings(max_examples=10)
@given(
    bits=st.integers(2, 20), overflow=st.sampled_from(["saturate", "wrap"]), rows=st.integers(1, 9),
    n_in=st.sampled_from([1, 17, 40]), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_narrow_accumulator_saturates_or_wraps_group_by_group(bits, overflow, rows, n_in, seed):
    rng = np.random.default_rng(seed)
    x, codes = signed(rng, 8, (3, n_in)), signed(rng, 8, (n_in, 4))
    macro = made(rows=rows, accumulator_bits=float(bits), overflow=overflow)
    found = macro.sums(jnp.asarray(x, jnp.int8), jnp.asarray(codes, jnp.int8))
    np.testing.assert_array_equal(found, bit_by_bit(x, codes, rows, 8, bits, overflow))
    if overflow == "wrap":  # as arithmetic modulo 2^bits the order does not matter
        np.testing.assert_array_equal(found, narrow(x @ codes, bits, "wrap"))


def test_long_sums_of_the_largest_codes_are_exact():
    x, codes = np.full((2, 20_000), -128), np.full((20_000, 3), -128)
    found = made(rows=1000).sums(jnp.asarray(x, jnp.int8), jnp.asarray(codes, jnp.int8))
    np.testing.assert_array_equal(found, x @ codes)
    with pytest.raises(DeviceError, match="65536 are exact"):
        made().hold(jnp.zeros((70_000, 1)), None)


def test_a_chip_multiplies_rounded_weights_and_inputs():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(50, 7)).astype(np.float32), rng.normal(size=(2, 3, 50)).astype(np.float32)
    device = changed(preset("sram-digital28"), {"weight_bits": 5, "input_bits": 6})
    y = program(w, device, key=root_key(0)).matmul(x, key=None)
    w_scale, x_scale = abs(w).max(axis=0) / 15, abs(x).max(axis=-1, keepdims=True) / 31
    wanted = (np.round(x / x_scale) @ np.round(w / w_scale)) * x_scale * w_scale
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


# Cells that fail ----------------------------------------------------------------------------------------------------


def test_the_rate_is_a_straight_line_of_logarithms():
    rate = jax.vmap(TABLE.rate)(jnp.asarray([0.5, 0.6, 0.65, 0.75, 0.8, 0.45]))
    np.testing.assert_allclose(rate[:5], [0.1, 1e-2, 1e-3, 1e-6, 1e-8], rtol=1e-4)
    assert np.isnan(rate[5])


def test_failures_are_nested_and_as_many_as_the_table_says():
    supplies = jnp.asarray([0.8, 0.7, 0.62, 0.55, 0.5])
    fails = np.asarray(jax.vmap(lambda v: TABLE.failing(root_key(0), (1000, 1000), v))(supplies))
    for higher, lower in pairwise(fails):
        assert not (higher & ~lower).any()
    counted, rates = fails.mean(axis=(1, 2)), np.asarray(jax.vmap(TABLE.rate)(supplies))
    assert (abs(counted - rates) <= 5 * np.sqrt(rates / 1e6) + 1e-9).all()


def test_a_failing_bit_is_turned_over_for_good():
    rng = np.random.default_rng(0)
    codes = signed(rng, 8, (30, 20))
    fails = rng.random((8, 30, 20)) < 0.3
    for bits in (2, 5, 8):
        narrowed = np.clip(codes, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        mask = sum(fails[b].astype(int) << b for b in range(bits))
        wanted = narrow(narrowed ^ mask, bits, "wrap")
        found = flipped(jnp.asarray(narrowed, jnp.int8), lambda bit: jnp.asarray(fails)[bit], float(bits))
        np.testing.assert_array_equal(found, wanted)


def test_a_chip_keeps_its_failures_and_its_neighbour_has_others():
    rng = np.random.default_rng(1)
    w = jnp.asarray(rng.normal(size=(64, 32)), jnp.float32)

    hold = jax.jit(lambda macro, key: macro.hold(w, lambda use: site_key(key, use=use)).codes)

    def held(seed, **fields):
        return np.asarray(hold(made(bit_errors=TABLE, **fields), root_key(seed)))

    clean = np.asarray(made().hold(w, None).codes)
    np.testing.assert_array_equal(held(0, vdd=0.8), clean)
    np.testing.assert_array_equal(made(bit_errors=TABLE, vdd=0.5).hold(w, None).codes, clean)
    low, lower = held(0, vdd=0.6), held(0, vdd=0.5)
    assert 0.04 < (low != clean).mean() < 0.11  # 8 bits at 1 %
    assert ((lower != clean) >= (low != clean)).all()
    np.testing.assert_array_equal(held(0, vdd=0.6, rows=16), low)
    assert (held(1, vdd=0.6) != low).any()
    first = np.asarray(TABLE.failing(fold(site_key(root_key(0), use="bits"), 0), w.shape, jnp.float32(0.6)))
    np.testing.assert_array_equal(((low ^ clean) & 1).astype(bool), first)


def test_a_supply_outside_the_table_is_refused_and_a_traced_one_gives_nan(tmp_path, unchecked):
    file = tmp_path / "low.toml"
    text = """
name = "low"
family = "digital-sram"
summary = "at a low supply"
base = "sram-digital28"
[device]
vdd = 0.65
[device.bit_errors]
type = "BitErrorTable"
voltages = [0.6, 0.7]
rates = [1e-3, 1e-6]
"""
    file.write_text(text)
    device = load_device(file)
    assert device["vdd"] == pytest.approx(0.65)
    with pytest.raises(DeviceError, match=r"vdd = 0.5 V lies outside the table of bit errors, 0.6 to 0.7 V"):
        changed(device, {"vdd": 0.5})
    for old, new, words in [
        ("[1e-3, 1e-6]", "[1e-6, 1e-3]", "must not grow"),
        ("[0.6, 0.7]", "[0.7, 0.6]", "ascending"),
        ("[1e-3, 1e-6]", "[1e-3]", "of the same length"),
        ("[1e-3, 1e-6]", "[0.0, 0.0]", "out of range"),
    ]:
        file.write_text(text.replace(old, new))
        with pytest.raises(DeviceError, match=words):
            load_device(file)
    traced = jax.jit(lambda v: replace(device.model, vdd=v).hold(jnp.ones((2, 2)), lambda use: root_key(0)).scale)
    assert np.isnan(traced(jnp.float32(0.5))).all() and np.isfinite(traced(jnp.float32(0.65))).all()


# Cost ---------------------------------------------------------------------------------------------------------------


def adders_one_by_one(inputs: int, bits: int) -> int:
    """Full adders of a tree, level by level."""
    found = 0
    while inputs > 1:
        found, inputs, bits = found + inputs // 2 * bits, inputs // 2, bits + 1
    return found


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_tree_has_the_adders_that_its_levels_have(bits):
    for inputs in (1, 2, 4, 64, 256):
        assert float(tree_adders(inputs, bits)) == adders_one_by_one(inputs, bits)


def test_a_matrix_costs_what_its_gates_cost_one_by_one():
    """200 x 20 on arrays of two groups of 64 inputs by 16 outputs, two bits a cycle."""
    change = {"rows": 64, "outputs": 16, "row_groups": 2, "serial_bits": 2, "weight_bits": 4, "input_bits": 6}
    macro = changed(preset("sram-digital28"), change).model
    found = cost(macro, (200, 20), vectors=3)
    ledger = dict(zip(found.ledger.components, np.asarray(found.ledger.energy, np.float64), strict=True))
    nand, v2, active = 0.7e-15, 0.81, 0.25
    adder, flip_flop, cycles = 6 * nand, 3 * nand, 3
    groups = [64, 64, 64, 8]
    trees = sum(adders_one_by_one(group, 4) for group in groups)
    assert ledger["adder_tree"] == pytest.approx(3 * 20 * 2 * trees * cycles * active * adder * v2, rel=1e-5)
    assert ledger["multipliers"] == pytest.approx(3 * 2 * 200 * 20 * 4 * cycles * active * nand / 2 * v2, rel=1e-5)
    assert float(place_value_adders(macro)) == 10 + 2 * 0.5
    assert ledger["place_value"] == pytest.approx(3 * 4 * 20 * 11 * cycles * active * adder * v2, rel=1e-5)
    assert ledger["accumulators"] == pytest.approx(3 * 4 * 20 * 16 * cycles * (adder + flip_flop) * v2, rel=1e-5)
    assert ledger["group_sums"] == pytest.approx(3 * 3 * 20 * 18 * (adder + flip_flop) * v2, rel=1e-5)
    assert ledger["cells"] == pytest.approx(3 * 200 * 20 * 4 * 3 * nand / 2 * v2, rel=1e-5)
    assert ledger["registers"] == pytest.approx(3 * (200 * 2 * 6 + 20 * 18) * flip_flop * v2, rel=1e-5)
    assert float(found.latency) == pytest.approx(3 * (2 * 3 + 1) / 2.59e8, rel=1e-5)
    assert ledger["leakage"] == pytest.approx(float(leakage_power(macro, 200, 20) * found.latency), rel=1e-5)
    assert float(found.area) == pytest.approx(float(matrix_cost(macro, 250, 30).area.sum()), rel=2e-2)  # whole arrays


def test_shapes_are_arrays_and_energy_follows_the_square_of_the_supply():
    device = preset("sram-digital28")
    many = cost(device, (np.array([128, 4096, 300]), 256), vectors=np.array([1, 2, 3]))
    for i, (n_in, vectors) in enumerate([(128, 1), (4096, 2), (300, 3)]):
        alone = cost(device, (n_in, 256), vectors=vectors)
        np.testing.assert_allclose(
            [many.energy[i], many.latency[i], many.area[i]], [alone.energy, alone.latency, alone.area], rtol=1e-5
        )
    low = cost(changed(device, {"vdd": 0.6}), (128, 128)).ledger.without("leakage")
    high = cost(device, (128, 128)).ledger.without("leakage")
    np.testing.assert_allclose(np.asarray(low.energy) * 2.25, high.energy, rtol=1e-5)


def test_the_stock_macro_of_zigzag_comes_out():
    """128 x 128, all bits toggling: 0.267 pJ a multiply-accumulate, 0.802 mm2, 3.757 ns (run of zigzag-dse 3.9.1)."""
    device = changed(preset("sram-digital28"), {"input_toggle": 1, "weight_density": 1})
    found = cost(device, (128, 128))
    assert float(found.energy) / 128**2 == pytest.approx(0.267e-12, rel=0.01)
    assert float(found.area) == pytest.approx(0.802e-6, rel=0.1)
    cycle = float(shortest_cycle(device.model))
    assert cycle == pytest.approx(3.757e-9, rel=0.05)
    assert 1 / device["clock"] == pytest.approx(cycle, rel=0.01)


def test_a_published_chip_comes_out_within_a_factor_of_two(shared):
    """Tu et al., ISSCC 2022: 36.6 TOPS/W on 0.941 mm2; it recodes inputs after Booth, which halves the trees."""
    records = json.loads((shared / "golden" / "silicon_macros.json").read_text())["silicon"]
    chip = next(record for record in records if record["id"] == "tu22")
    found = cost(preset("sram-tu2022"), (32, 64 * 6))
    efficiency, area = 2e-12 * 32 * 64 * 6 / float(found.energy), 1e6 * float(found.area)
    rate = 2e-12 * 32 * 64 * 6 / float(found.latency)
    ratios = efficiency / chip["tops_per_w"], area / chip["area_mm2"], rate / chip["tops"]
    print("Tu 2022, ours/published: TOPS/W {:.2f}, area {:.2f}, TOPS {:.2f}".format(*ratios))
    assert all(0.5 < ratio < 2 for ratio in ratios)
    assert ratios[2] == pytest.approx(1.0, rel=0.01)


def test_what_is_not_known_is_said_or_refused():
    device = preset("sram-digital28")
    told = " ".join(cost(device, (64, 64)).notes)
    assert "not measured on this model" in told and "writing weights" in told and "faster" not in told
    assert "leakage of the cells is unknown" in " ".join(cost(changed(device, {"cell_leakage": None}), (64, 64)).notes)
    assert "faster than" in " ".join(cost(changed(device, {"clock": 1e9}), (64, 64)).notes)
    with pytest.raises(DeviceError, match="cell_area is unknown"):
        cost(changed(device, {"cell_area": None}), (64, 64))
    with pytest.raises(DeviceError, match="gates of this digital macro are unknown"):
        cost(changed(device, {"gates": None}), (64, 64))
    with pytest.raises(DeviceError, match="out of range"):
        changed(device, {"weight_bits": 17})
    with pytest.raises(DeviceError, match="no law of ageing"):
        program(np.ones((2, 2)), device, key=root_key(0), time=1.0)


def test_the_survey_says_what_is_unknown():
    fields = {field.name: field.value for field in survey(preset("sram-digital28").model)}
    assert fields["levels"] == 2 and fields["density"] == pytest.approx(1 / 2.195e-13)
    assert fields["write energy"] == pytest.approx(0.095e-12 / 8, rel=0.01)
    assert fields["retention"] is None and fields["endurance"] is None and len(fields) == 9
    assert {field.value for field in survey(preset("ideal").model)} == {None}


def test_a_sweep_of_the_supply_compiles_once():
    hold = jax.jit(lambda macro, w: macro.hold(w, lambda use: site_key(root_key(0), use=use)).codes)
    macro = made(bit_errors=TABLE)
    for vdd in (0.5, 0.6, 0.7):
        hold(replace(macro, vdd=jnp.float32(vdd)), jnp.ones((3, 3)))
    assert hold._cache_size() == 1 and MOST_BITS == 8


# A language model ---------------------------------------------------------------------------------------------------


def test_a_language_model_runs_on_digital_macros_and_fails_at_a_low_supply():
    """Exact at the full supply up to the rounding to 8 bits; what is left at 0.5 V has failed bits in all matrices."""
    model, text = load_model("tiny-stories"), story_text(2, 1)
    device = changed(preset("sram-digital28"), {"bit_errors": BitErrorTable([0.5, 0.9], [1e-2, 1e-12])})
    plan = place(model, inference_system(device, preset("digital-28nm")))
    result = study(plan, {"weights.vdd": [0.9, 0.5]}, text, tokens=96, chips=1, progress=False)
    clean, broken = result.points
    assert clean.kl < 1e-3 and broken.kl > 20 * clean.kl
    assert clean.cost.energy_per_token > broken.cost.energy_per_token > 0
    assert clean.cost.ledger.by_component().components[0] == "cells"


def test_cells_leak_in_compiled_costs_too():
    device = preset("sram-digital28")
    leaking = lambda power: float(leakage_power(changed(device, {"cell_leakage": power}).model, 64, 64))
    cells = 128 * 128 * 8
    assert leaking(1e-9) - leaking(None) == pytest.approx(cells * 1e-9, rel=1e-4)
    assert {field.name: field.value for field in survey(device.model)}["leakage"] == pytest.approx(6.15e-12)
