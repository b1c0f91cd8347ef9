"""Near-DRAM units compute bit for bit as a loop in their own format does, and their cost is not guessed."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from covering import first_few

from pim.describe import device_dict
from pim.device_plot import device_figure
from pim.devices.arithmetic import FloatArithmetic
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.devices.rounding_error import relative_error
from pim.devices.survey import survey
from pim.evaluation import evaluate
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.programming import program
from pim.summary import summary

product = jax.jit(lambda arithmetic, w, x: arithmetic.multiply(arithmetic.hold(w), x))


def draw(n_in: int, n_out: int, vectors: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_in)
    return rng.normal(size=(n_in, n_out)).astype(np.float32), rng.normal(size=(vectors, n_in)).astype(np.float32)


def hbm_pim_loop(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """HBM-PIM in float16, one input after another: tiles of 8 columns of 16 lanes, the even tiles first."""
    w, x = w.astype(np.float16), x.astype(np.float16)
    tiles = -(-len(w) // 128)
    lanes = np.zeros((len(x), w.shape[1], 16), np.float16)
    for tile in [*range(0, tiles, 2), *range(1, tiles, 2)]:
        for i in range(128 * tile, min(128 * (tile + 1), len(w))):
            lanes[..., i % 16] = lanes[..., i % 16] + w[i] * x[:, i : i + 1]
    return lane_after_lane(lanes)


def lane_after_lane(lanes: np.ndarray) -> np.ndarray:
    total = lanes[..., 0]
    for lane in range(1, 16):
        total = total + lanes[..., lane]
    return total.astype(np.float32)


def shapes(count: int) -> list[tuple[int, int, int]]:
    """Inputs, outputs and vectors: one input, one tile and its neighbours, and others by chance."""
    rng = np.random.default_rng(5)
    n_in = [1, 2, 15, 17, 127, 128, 129, 255, 256, 257, 2000, *rng.integers(3, 2000, count - 11)]
    return [(int(n), int(rng.integers(1, 9)), int(rng.integers(1, 5))) for n in n_in]


@pytest.mark.parametrize("shape", first_few(11, shapes(20)), ids=str)  # those by chance are slow
def test_hbm_pim_is_bit_identical_to_a_loop_in_float16(shape):
    n_in, n_out, vectors = shape
    w, x = draw(n_in, n_out, vectors)
    chip = program(w, preset("dram-hbm-pim"), key=root_key(0))
    np.testing.assert_array_equal(chip.matmul(x, key=None), hbm_pim_loop(w, x))


def fused_loop(w: np.ndarray, x: np.ndarray, narrow) -> np.ndarray:
    """HBM-PIM's order with fused multiply-adds: exact in float64, rounded once."""
    w, x = w.astype(narrow).astype(np.float64), x.astype(narrow).astype(np.float64)
    lanes = np.zeros((len(x), w.shape[1], 16), narrow)
    for step in range(-(-len(w) // 16)):
        for lane, i in enumerate(range(16 * step, min(16 * step + 16, len(w)))):
            exact = lanes[..., lane].astype(np.float64) + x[:, i : i + 1] * w[i]
            lanes[..., lane] = exact.astype(narrow)
    return lane_after_lane(lanes)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_a_fused_multiply_add_rounds_once(name):
    """`product` says it: fp32 holds a product exactly, the format of the sums does not. The two must differ."""
    narrow = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[name]
    fused = FloatArithmetic(name, accumulator=name, result=name, lane_sums="separate")
    assert fused.fused and not replace(preset("dram-hbm-pim"), {}).model.arithmetic.fused
    w, x = draw(900, 40, 20)
    found = product(fused, w, x)
    np.testing.assert_array_equal(found, fused_loop(w, x, narrow))
    apart = product(FloatArithmetic(name, name, name, name, lane_sums="separate"), w, x)
    assert 0.1 < (np.asarray(apart) != found).mean() < 1


def test_float32_operands_are_a_loop_in_float32_up_to_its_last_bits():
    """The order is the machine's: held to the rounding of float32, far below that of the narrower formats."""
    w, x = draw(1500, 6)
    arithmetic = FloatArithmetic("fp32")
    assert arithmetic.plain and not arithmetic.fused
    loop = np.zeros((3, 6), np.float32)
    for i in range(len(w)):
        loop = loop + x[:, i : i + 1] * w[i]
    scale = np.sqrt(1500)
    np.testing.assert_allclose(product(arithmetic, w, x), loop, atol=32 * 2.0**-24 * scale, rtol=0)
    assert relative_error(arithmetic, 4096) < 1e-6


def test_subnormal_products_are_kept_as_float16_keeps_them():
    w, x = draw(200, 4)
    w, x = w * np.float32(2e-4), x * np.float32(2e-3)
    found = product(preset("dram-hbm-pim").model.arithmetic, w, x)
    np.testing.assert_array_equal(found, hbm_pim_loop(w, x))


@pytest.mark.parametrize("piece", [0, 100])
def test_a_narrow_accumulator_behind_a_tree_is_a_loop_in_bfloat16(piece):
    narrow = ml_dtypes.bfloat16
    w, x = (values.astype(narrow) for values in draw(230, 4))
    y = np.zeros((3, 4), np.float32)
    for start in range(0, 230, piece or 230):
        total = np.zeros((3, 4), narrow)
        stop = min(start + (piece or 230), 230)
        for i in range(start, stop, 16):
            part = slice(i, min(i + 16, stop))
            exact = x[:, part].astype(np.float64) @ w[part].astype(np.float64)
            total = (total.astype(np.float32) + exact.astype(np.float32)).astype(narrow)
        y = y + total.astype(np.float32)
    arithmetic = FloatArithmetic("bf16", accumulator="bf16", result="bf16", piece=piece)
    found = product(arithmetic, w.astype(np.float32), x.astype(np.float32))
    np.testing.assert_array_equal(found, y)


# What the formats lose -----------------------------------------------------------------------------------------------

BF16 = {"operand": "bf16", "result": "fp32"}
"""Of AiM, with sums that are not rounded when they are read: so was the published sweep of its adder made."""

BF16_ROUNDING = 0.001659
"""Root mean square of the relative error of a value rounded to BF16, its mantissa spread evenly in the logarithm:
2^-7 / sqrt(12) * sqrt((1 - 1/4) / (2 ln 2))."""


def test_errors_at_4096_inputs_are_those_of_the_formats():
    """Must show: HBM-PIM 0.2 to 0.3 %, FP16 with sums in FP32 0.03 to 0.04 %, pieces of 1024 in BF16 0.96 %."""
    assert 0.002 < relative_error(preset("dram-hbm-pim").model.arithmetic, 4096) < 0.003
    assert 0.0003 < relative_error(preset("dram-attacc").model.arithmetic, 4096) < 0.0004
    in_pieces = replace(preset("dram-aim"), {"arithmetic.piece": 1024})
    narrow = replace(in_pieces, {"arithmetic.accumulator": "bf16"})
    assert relative_error(in_pieces.model.arithmetic, 4096) == pytest.approx(0.0029, rel=0.02)
    assert relative_error(narrow.model.arithmetic, 4096) == pytest.approx(0.0096, rel=0.03)
    assert relative_error(preset("dram-hbm-pim").model.arithmetic, 11008) == pytest.approx(0.0039, rel=0.03)


@pytest.mark.parametrize("n_in", [4096, 11008])
def test_a_narrow_accumulator_loses_as_a_random_walk_does(n_in):
    """Of N roundings of a growing sum half a variance each is left: sqrt(N / 2) roundings, beside those of operands."""
    expected = np.hypot(BF16_ROUNDING * np.sqrt(n_in / 16 / 2), relative_error(FloatArithmetic(**BF16), n_in))
    narrow = relative_error(FloatArithmetic(**BF16, accumulator="bf16"), n_in)
    assert narrow == pytest.approx(expected, rel=0.03)
    published = {4096: 0.021, 11008: 0.032}  # one random product each, which scatters by 8 % with 256 outputs
    assert narrow == pytest.approx(published[n_in], rel=0.16)


@pytest.mark.slow
def test_the_published_product_with_a_narrow_accumulator_is_met():
    """Must show: AiM with 24 bits of alignment and a BF16 accumulator over all of 4096 inputs loses 1.9 to 2.3 %.

    Over many products the mean is 1.89 %. The published 2.1 % are of one product, which by its other figure is known
    for one of the worse: with sums in FP32 it lost 0.257 %, where the mean is 0.235 %. So are the products here chosen.
    """
    wide, narrow = cast(FloatArithmetic(**BF16)), cast(FloatArithmetic(**BF16, accumulator="bf16", adder_bits=24.0))
    one = lambda arithmetic, seed: relative_error(arithmetic, 4096, seed=seed, vectors=1)
    like_it = [seed for seed in range(240) if abs(one(wide, seed) - 0.00257) < 0.00004]
    assert len(like_it) > 10
    assert 0.019 < np.mean([one(narrow, seed) for seed in like_it]) < 0.023


def test_a_narrow_adder_tree_loses_as_in_the_published_sweep():
    """10 bits add 37 % (0.357 against 0.257 %) to the error of BF16 operands, 12 bits 3 %, 16 and more nothing."""
    wide = relative_error(FloatArithmetic(**BF16), 4096)
    error = {
        bits: relative_error(cast(FloatArithmetic(**BF16, adder_bits=float(bits))), 4096) / wide
        for bits in (6, 8, 10, 12, 16, 24)
    }
    assert error[6] > error[8] > error[10] == pytest.approx(1.38, rel=0.02)
    assert error[12] == pytest.approx(1.03, abs=0.01)
    assert error[16] == pytest.approx(1.0, abs=1e-3) and error[24] == pytest.approx(1.0, abs=1e-3)


def test_a_sweep_of_the_adders_width_compiles_once():
    compiled = jax.jit(lambda arithmetic, w, x: arithmetic.multiply(arithmetic.hold(w), x))
    w, x = draw(40, 3)
    for bits in (6.0, 10.0, 24.0):
        compiled(cast(FloatArithmetic(**BF16, adder_bits=bits)), w, x)
    assert compiled._cache_size() == 1


def test_products_do_not_depend_on_the_batch():
    w, x = draw(300, 6, vectors=5)
    chip = program(w, preset("dram-hbm-pim"), key=root_key(0))
    together = chip.matmul(x, key=None)
    alone = jnp.concatenate([chip.matmul(x[i : i + 1], key=None) for i in range(5)])
    np.testing.assert_array_equal(together, alone)


def test_int8_at_the_bank_is_the_int8_of_a_digital_macro():
    w, x = draw(300, 7)
    y = [program(w, preset(name), key=root_key(0)).matmul(x, key=None) for name in ("dram-upmem", "sram-digital28")]
    np.testing.assert_array_equal(*y)


def test_an_overflow_is_infinite_as_in_the_format():
    w, x = np.full((64, 1), 200.0, np.float32), np.full((1, 64), 200.0, np.float32)
    assert np.isinf(program(w, preset("dram-hbm-pim"), key=root_key(0)).matmul(x, key=None)).all()


# Cost, survey, refusals ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_accuracy_and_cost_come_together(tmp_path):
    plan = place(load_model("tiny-stories"), inference_system(preset("dram-aim"), preset("digital-28nm")))
    result = evaluate(plan, story_text(2, 1), tokens=64, chips=1, progress=False)
    point = result.points[0]
    assert 0 < point.kl < 1e-3 and point.cost.latency > 0
    found = json.loads(json.dumps(summary(result), allow_nan=False))
    assert found["points"][0]["kl"] == point.kl
    assert json.dumps(point.cost.to_dict(), allow_nan=False)
    assert {file.name for file in result.report(tmp_path)} == {"result.nc", "result.json", "report.html"}


def test_what_is_not_known_of_the_cell_is_said():
    fields = {field.name: field.value for field in survey(preset("dram-upmem").model)}
    assert fields["levels"] == 2 and fields["retention"] == pytest.approx(0.064) and fields["write energy"] is None
    assert device_dict(preset("dram-aim"))["survey"]["retention"] == {"value": None, "unit": "s"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arithmetic.operand": "fp8"}, "none of fp32, bf16, fp16"),
        ({"arithmetic.lanes": 0}, "too small"),
        ({"arithmetic.adder_bits": 2}, "out of range"),
        ({"arithmetic.lane": 8}, "did you mean arithmetic.lane"),
    ],
)
def test_a_bad_format_names_the_field_and_the_remedy(change, words):
    with pytest.raises(DeviceError, match=words):
        replace(preset("dram-aim"), change)


def test_pictures_are_drawn():
    for name in ("dram-hbm-pim", "gpu-a100", "sram-digital28"):
        assert device_figure(preset(name)).axes[0].get_xlabel()
    with pytest.raises(DeviceError, match="to draw"):
        device_figure(preset("ideal"))
