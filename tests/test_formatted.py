"""Number formats as a device, the digital baseline of a study, and what outliers do to analog arrays beside it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_golden_curves import device

import pim
from pim.calibration import calibrate
from pim.devices.errors import DeviceError
from pim.emulation import emulated, hook, program_model
from pim.llm_workloads.formats.format import quantised
from pim.llm_workloads.formats.names import parse_format
from pim.llm_workloads.model import load_model
from pim.llm_workloads.quantisation.inputs import quantised_inputs
from pim.llm_workloads.quantisation.kv import quantised_cache
from pim.llm_workloads.quantisation.outliers import with_outliers
from pim.llm_workloads.quantisation.quantise import quantise
from pim.llm_workloads.quantisation.rotation import rotate
from pim.llm_workloads.quantisation.smoothquant import smooth
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.llm_workloads.transformer import advance, digital_matmul, forward, init_cache

TOKENS = jnp.asarray(np.random.default_rng(0).integers(3, 400, (2, 12)), jnp.int32)


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-stories")


@pytest.fixture(scope="module")
def small(shared):
    return load_model(shared / "data" / "stories260K")


@pytest.fixture(scope="module")
def told(shared):
    whole = (shared / "data" / "text" / "tinystories_dev.txt").read_text()
    return [block for block in whole.split("<|endoftext|>") if block.strip()]


def on(model, weights=None, attention=None):
    plan = pim.place(model, pim.inference_system(weights or pim.formatted(), attention or pim.formatted()))
    return hook(emulated(plan), None), program_model(plan, None)


# What it computes


def test_without_formats_it_is_exact(model):
    run, params = on(model)
    exact = forward(model.config, model.params, TOKENS)
    np.testing.assert_allclose(forward(model.config, params, TOKENS, matmul=run), exact, atol=1e-5)


def test_a_plan_gives_what_the_model_and_the_hooks_give(model):
    run, params = on(
        model,
        pim.formatted(weights="int4:group32", inputs="int6:token"),
        pim.formatted(keys="int2_min:channel4", values="int3:token"),
    )
    coarse = quantised_inputs(quantised_cache(digital_matmul, "int2_min:channel4", "int3:token"), "int6:token")
    rounded = quantise(model, "int4:group32")
    expected = forward(rounded.config, rounded.params, TOKENS, matmul=coarse)
    np.testing.assert_allclose(forward(model.config, params, TOKENS, matmul=run), expected, atol=1e-4)


def test_decoding_token_by_token_is_prefill_on_it(model):
    run, params = on(model, pim.formatted(inputs="int8:token"), pim.formatted(keys="int3_min:channel4", values="mxfp4"))
    whole = forward(model.config, params, TOKENS, matmul=run)
    step = jax.jit(lambda token, cache: advance(model.config, params, token, cache, matmul=run))
    cache, found = init_cache(model.config, 2, 16), []
    for k in range(TOKENS.shape[1]):
        one, cache = step(TOKENS[:, k : k + 1], cache)
        found.append(one)
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), whole, atol=1e-4)


def test_a_matrix_alone_can_be_held():
    rng = np.random.default_rng(1)
    w, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((40, 6), (5, 40)))
    chip = pim.program(w, pim.formatted(weights="mxfp4", inputs="fp8"), key=pim.root_key(0))
    expected = quantised(x, parse_format("fp8"), -1) @ quantised(w, parse_format("mxfp4"), -2)
    np.testing.assert_allclose(chip.matmul(x, key=None), expected, atol=1e-5)


def test_large_inputs_meet_exact_weights():
    w = jnp.asarray(np.random.default_rng(2).normal(size=(8, 3)), jnp.float32)
    x = jnp.eye(8)[:2] * jnp.array([[1.0], [50.0]])
    chip = pim.program(w, pim.formatted(weights="int2:channel", threshold=6.0), key=pim.root_key(0))
    found = chip.matmul(x, key=None)
    np.testing.assert_allclose(found[0], quantised(w, parse_format("int2:channel"), -2)[0], atol=1e-6)
    np.testing.assert_allclose(found[1], 50.0 * w[1], rtol=1e-6)


def test_its_formats_can_be_swept_and_it_costs_nothing(model):
    plan = pim.place(model, pim.inference_system(pim.formatted(), pim.formatted()))
    text = story_text(2, 2)
    found = pim.sweep(plan, {"weights.weights": ["exact", "int2:channel"]}, text, chips=1, progress=False)
    exact, coarse = found["perplexity"].values.ravel()
    assert coarse > 1.5 * exact
    cost = pim.cost(plan)
    assert (cost.energy, cost.loading.energy) == (0.0, 0.0)
    assert pim.cost(pim.formatted(weights="int4:channel"), (64, 64)).energy == 0.0


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ({"weights": "int4"}, "weights: format 'int4' does not say what shares a scale"),
        ({"inputs": "int8:tensor"}, "inputs: format 'int8:tensor' makes no sense for inputs"),
        ({"keys": "int2:channel"}, "keys: format 'int2:channel' makes no sense for cache"),
        ({"threshold": -1.0}, "threshold = -1 is out of range"),
    ],
)
def test_bad_formats_say_what_would_be_right(unchecked, formats, message):
    with pytest.raises(DeviceError, match=message):
        pim.formatted(**formats)


def test_a_changed_format_is_checked():
    with pytest.raises(DeviceError, match="no number is called 'int44'"):
        pim.replace(pim.formatted(), {"weights": "int44:channel"})


# Against the golden curves and trends


def test_golden_curves_by_the_public_verbs(shared, small, told):
    golden = json.loads((shared / "golden" / "models.json").read_text())["stories260K"]
    curves, text = golden["curves_dev_first32_stories_ctx256"], "<|endoftext|>".join(told[:32])
    for weights, attention, expected in (
        (pim.formatted(weights="int6:channel"), None, curves["weight_rtn"]["6"]),
        (None, pim.formatted(keys="int8:token", values="int8:token"), curves["kv_rtn"]["8"]),
    ):
        system = pim.inference_system(weights or pim.formatted(), attention or pim.formatted())
        found = pim.evaluate(pim.place(small, system), text, chips=1, progress=False)
        assert found.perplexity == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "rel"), [(8, 1e-3), (4, 1e-3), (3, 0.01)])
def test_golden_weight_bits_of_an_encoder(shared, bits, rel):
    golden = json.loads((shared / "golden" / "models.json").read_text())["minilm"]["curves_stsb_dev_first200"]
    encoder = load_model(shared / "data" / "minilm")
    plan = pim.place(encoder, pim.inference_system(pim.formatted(weights=f"int{bits}:channel"), pim.formatted()))
    task = pim.load_task("similarity", shared / "data" / "text" / "stsb_en_dev.csv")
    found = pim.run_task(plan, task, chips=1, limit=200, progress=False).chips["spearman"][0]
    assert found == pytest.approx(golden["weight_rtn"][str(bits)], rel=rel)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["8", "6", "4"])
def test_golden_weight_bits_of_a_gpt2(shared, bits):
    golden = json.loads((shared / "golden" / "models.json").read_text())["char_gpt"]["curves_first48_windows"]
    characters = load_model(shared / "data" / "char_gpt")
    whole = (shared / "data" / "text" / "tinyshakespeare.txt").read_text()
    text = as_scored(whole[int(0.9 * len(whole)) :], characters.tokenizer, context=256).head(48 * 256)
    plan = pim.place(characters, pim.inference_system(pim.formatted(weights=f"int{bits}:channel"), pim.formatted()))
    scores = pim.evaluate(plan, text, chips=1, progress=False).scores
    assert scores.nll.sum() / scores.tokens.sum() == pytest.approx(golden["weight_rtn"][bits], rel=1e-3)


@pytest.mark.parametrize("input_range", ["token", pytest.param("calibrated", marks=pytest.mark.slow)])
def test_outliers_break_eight_bit_converters_and_moving_them_mends_it(small, told, input_range):
    """NORA's finding (DATE 2025): arrays bear what moves into the weights."""
    text, calibration = "<|endoftext|>".join(told[:3]), "<|endoftext|>".join(told[40:46])
    macro = device(dac_bits=8.0, adc_bits=8.0, weight_bits=8.0, input_range=input_range)
    large = with_outliers(small, (5, 40), 100.0)

    def on_arrays(model):
        plan = pim.place(model, pim.inference_system(macro, pim.formatted()))
        return pim.evaluate(calibrate(plan, calibration), text, chips=1, progress=False).perplexity

    base, broken = on_arrays(small), on_arrays(large)
    assert broken > 10 * base
    assert on_arrays(smooth(large, calibration)) == pytest.approx(base, rel=0.02)
    assert on_arrays(rotate(large)) == pytest.approx(base, rel=0.02)


def test_arrays_are_calibrated_beside_attention_in_formats(model):
    plan = pim.place(model, pim.inference_system(device(adc_bits=8.0), pim.formatted(keys="int8:token")))
    assert calibrate(plan, story_text(3, 1)).ranges
