"""A whole model on its devices: the same draws however it is run, placements, calibration, and what is refused."""

from dataclasses import dataclass
from dataclasses import replace as changed

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.calibration import calibrate
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.random import chip_key, root_key
from pim.emulation import hook, macros, program_model
from pim.errors import StudyError
from pim.evaluation import evaluate, study, sweep
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import Model
from pim.llm_workloads.transformer import advance, forward, init_cache
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System, inference_system

CONFIG = llama_config(
    vocab_size=48,
    hidden_size=32,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    tie_word_embeddings=True,
    max_position_embeddings=64,
)


@dataclass(frozen=True)
class Letters:
    """A tokenizer of single characters, enough for a model of random weights."""

    bos_id: int | None = 0
    eos_id: int | None = None
    vocab_size: int = 48

    def encode(self, text: str) -> list[int]:
        return [1 + ord(c) % 47 for c in text]

    def decode(self, ids) -> str:
        return "".join(chr(i) for i in ids)


@pytest.fixture(scope="module")
def model() -> Model:
    rng = np.random.default_rng(5)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[-2]), jnp.float32)
    layers = {name: draw(3, *shape) for name, shape in CONFIG.matrix_shapes.items() if name != "head"}
    norms = {name: jnp.ones((3, 32)) for name in ("input_norm", "post_norm")}
    params = {"embed": draw(48, 32), "segments": [{**layers, **norms}], "norm": jnp.ones(32)}
    return Model("random", CONFIG, params, Letters())


def story(seed: int, documents: int = 4) -> str:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 40, documents)
    return "<|endoftext|>".join("".join(chr(97 + c) for c in rng.integers(0, 26, n)) for n in lengths)


@pytest.fixture(scope="module")
def system() -> System:
    return inference_system(replace(preset("rram-techC"), {"rows": 16}), preset("ideal"))


@pytest.fixture(scope="module")
def plan(model, system):
    return calibrate(place(model, system), story(1))


def emulated(plan, params, tokens, documents, key):
    return _emulated(params, macros(plan), tokens, documents, key)


@jax.jit
def _emulated(params, devices, tokens, documents, key):
    return forward(CONFIG, params, tokens, documents=documents, matmul=hook(devices, key))


@jax.jit
def decoded(params, devices, token, cache, key):
    return advance(CONFIG, params, token, cache, matmul=hook(devices, key))


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(2).integers(1, 48, (3, 12)), jnp.int32)


def test_decoding_token_by_token_equals_prefill_noise_included(plan, tokens):
    key = chip_key(root_key(0), 0)
    params = program_model(plan, key)
    documents = jnp.arange(3, dtype=jnp.uint32)
    whole = emulated(plan, params, tokens, documents, key)
    cache = init_cache(CONFIG, 3, capacity=16, documents=documents)
    for position in range(12):
        logits, cache = decoded(params, macros(plan), tokens[:, position : position + 1], cache, key)
        close = np.isclose(logits[:, 0], whole[:, position], atol=1e-4).mean()
        assert close > 0.99, "an ADC code may flip at a tie, and few do"
    other = emulated(plan, params, tokens, documents, chip_key(root_key(0), 1))  # the same cells, read with other noise
    assert np.abs(np.asarray(whole - other)).max() > 1e-3


def test_draws_do_not_depend_on_the_batch(plan, tokens):
    key = chip_key(root_key(0), 0)
    params, documents = program_model(plan, key), jnp.asarray([7, 8, 9], jnp.uint32)
    together = emulated(plan, params, tokens, documents, key)
    alone = jnp.concatenate([emulated(plan, params, tokens[i : i + 1], documents[i : i + 1], key) for i in range(3)])
    assert np.isclose(together, alone, atol=1e-4).mean() > 0.99


def test_more_chips_and_more_points_never_change_earlier_ones(plan):
    text = story(3)
    few = evaluate(plan, text, chips=1, progress=False)
    many = study(plan, {"weights.adc.bits": [8, 6]}, text, chips=3, progress=False)
    np.testing.assert_allclose(many.scores.nll[0, 0], few.scores.nll[0, 0], rtol=1e-5)
    assert np.abs(many.scores.nll[0, 1] - many.scores.nll[0, 0]).max() > 1e-3
    again = evaluate(plan, text, chips=1, progress=False)
    np.testing.assert_array_equal(again.scores.nll, few.scores.nll)


def test_an_ideal_system_loses_nothing(model):
    ideal = place(model, System({"weights": preset("ideal")}))
    result = evaluate(ideal, story(3), chips=1, progress=False)
    assert result.perplexity == pytest.approx(result.digital_perplexity, rel=1e-6)
    assert result.points[0].agreement == 1.0


def test_layers_on_other_devices_become_segments_with_the_same_chips(model, system, plan):
    mixed = System({**system.devices}, [("layers.1.*", "digital"), *system.rules])
    parts = changed(place(model, mixed), ranges=plan.ranges)
    assert parts.segments() == [range(0, 1), range(1, 2), range(2, 3)]
    assert plan.segments() == [range(3)]
    key = chip_key(root_key(0), 0)
    split, one = program_model(parts, key), program_model(plan, key)
    for operator in ("attention.q", "ffn.down"):
        for part, layer in ((0, 0), (2, 2)):
            np.testing.assert_array_equal(
                split["segments"][part][operator].weights[0], one["segments"][0][operator].weights[layer]
            )
    exact = split["segments"][1]["attention.q"]
    np.testing.assert_array_equal(exact[0], model.params["segments"][0]["attention.q"][1])


@pytest.mark.slow
def test_the_head_can_go_to_arrays_too(model, system, tokens):
    plan = calibrate(place(model, System({**system.devices}, system.rules[:2])), story(1))
    key = chip_key(root_key(0), 0)
    logits = emulated(plan, program_model(plan, key), tokens, jnp.arange(3, dtype=jnp.uint32), key)
    assert "head" in plan.ranges and np.isfinite(logits).all()


def test_attention_at_the_banks_is_computed_in_their_format(model, tokens):
    """Each head's scores and contexts are products on the device, one head and sequence at a time."""
    device = preset("dram-hbm-pim")
    params = program_model(place(model, System({"weights": device})), None)
    rng = np.random.default_rng(0)
    keys, queries = (jnp.asarray(rng.normal(size=(2, 3, *shape)), jnp.float32) for shape in ((8, 20), (5, 8)))
    marker = params["segments"][0]["attention.qk"]
    found = hook({"weights": device.model}, None)(
        "attention.qk", marker.of(keys), queries, jnp.zeros((2, 5, 2), jnp.uint32)
    )
    for sequence, head in np.ndindex(2, 3):
        alone = device.model.multiply(device.model.hold(keys[sequence, head], None), queries[sequence, head])
        np.testing.assert_array_equal(found[sequence, head], alone)

    device = preset("dram-attacc")
    systems = System({"weights": device}), inference_system(device, preset("digital-28nm"))
    run = jax.jit(lambda p: forward(CONFIG, p, tokens, matmul=hook({"weights": device.model}, None)))
    logits = [run(program_model(place(model, system), None)) for system in systems]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05


def test_decoding_with_attention_at_the_banks_equals_prefill(model, tokens):
    device = preset("dram-hbm-pim")
    plan = place(model, System({"weights": device}))
    params, devices = program_model(plan, None), {"weights": device.model}
    whole = _emulated(params, devices, tokens[:1, :10], None, None)
    cache, steps = init_cache(CONFIG, 1, 16), []
    for i in range(10):
        logits, cache = decoded(params, devices, tokens[:1, i : i + 1], cache, None)
        steps.append(logits)
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, atol=2e-2)  # a rounding may fall the other way
    assert np.abs(np.concatenate(steps, axis=1) - whole).mean() < 1e-3


def test_the_activation_goes_through_the_table_at_the_banks(model, tokens):
    """A table of the sigmoid times its input is SiLU; a coarse one moves the logits, a fine one hardly."""
    device = replace(preset("dram-aim-cent"), {"arithmetic.operand": "fp32", "arithmetic.result": "fp32"})
    fine = {"activation.segments": 4096, "activation.entry": "fp32", "activation.result": "fp32"}
    found = {}
    for name, changes in {
        "none": {"activation": None},
        "fine": fine,
        "coarse": {**fine, "activation.segments": 8},
    }.items():
        system = System({"weights": replace(device, changes)})
        matmul = hook({"weights": system.devices["weights"].model}, None)
        found[name] = forward(CONFIG, program_model(place(model, system), None), tokens[:1], matmul=matmul)
    np.testing.assert_allclose(found["fine"], found["none"], atol=1e-4)
    assert np.abs(found["coarse"] - found["none"]).max() > 1e-2
    with pytest.raises(StudyError, match=r"activation is 'silu', but activation.function is 'tanh'"):
        wrong = System({"weights": replace(device, {"activation.function": "tanh"})})
        program_model(place(model, wrong), None)


def test_time_is_a_path_of_the_same_chips(plan):
    early, late = (evaluate(plan, story(3), chips=2, time=t, progress=False) for t in (1.0, 1e5))
    reference = evaluate(plan, story(3), chips=2, progress=False)
    np.testing.assert_array_equal(early.scores.nll, reference.scores.nll)
    assert late.points[0].kl > early.points[0].kl


def test_a_sweep_is_a_dataset_with_an_axis_a_path(plan):
    axes = {"weights.adc.bits": [5, 8], "weights.cell.read_noise.sigma": [0.0, 1e-6]}
    data = sweep(plan, axes, story(3), chips=2, progress=False)
    assert data.perplexity.dims == ("weights.adc.bits", "weights.cell.read_noise.sigma", "chip")
    assert data.perplexity.shape == (2, 2, 2)
    assert float(data.kl.sel({"weights.adc.bits": 5}).mean()) > float(data.kl.sel({"weights.adc.bits": 8}).mean())
    assert data.attrs["digital_perplexity"] > 1


@pytest.mark.slow
def test_the_rule_of_the_ranges_can_change_after_calibration(plan):
    """A range that nothing can clip is many times too wide for six bits; the two others are near each other."""
    six, path = plan.replace({"weights.adc.bits": 6}), "weights.adc.range_rule"
    kl = sweep(six, {path: ["full", "percentile", "snr"]}, story(3), chips=1, progress=False).kl
    full, percentile, snr = kl.mean([axis for axis in kl.dims if axis != path]).values
    assert full > 3 * max(percentile, snr)
    matrix = evaluate(six.replace({"weights.adc.range_per": "matrix"}), story(3), chips=1, progress=False)
    assert np.isfinite(matrix.points[0].kl) and matrix.points[0].kl != pytest.approx(percentile, rel=1e-4)


def test_what_cannot_be_run_is_refused_in_words(model, system, plan):
    with pytest.raises(MappingError, match="names the device 'digtal'; did you mean digital"):
        System({**system.devices}, [("head", "digtal")])
    narrow = replace(preset("rram-techC"), {"columns": 1})
    with pytest.raises(MappingError, match="cannot hold one weight"):
        place(model, inference_system(narrow, preset("ideal")))
    with pytest.raises(StudyError, match=r"has no converter ranges: call pim.calibrate"):
        evaluate(place(model, system), story(3), progress=False)
    with pytest.raises(StudyError, match="overlaps the scored text"):
        evaluate(plan, story(1), progress=False)
    with pytest.raises(StudyError, match="needs the model's weights"):
        evaluate(place(CONFIG, system), story(3))
    with pytest.raises(StudyError, match="chips = 0"):
        evaluate(plan, story(3), chips=0)
    with pytest.raises(MappingError, match=r"'wights\.adc\.bit' names no field.*did you mean weights\.adc\.bits"):
        plan.replace({"wights.adc.bit": 3})
    with pytest.raises(StudyError, match=r"adc percentile of 'weights' is 99.0, but ranges were found with 99.9"):
        study(plan, {"weights.adc.percentile": [99.0]}, story(3))
    with pytest.raises(StudyError, match="has no values"):
        study(plan, {"weights.adc.bits": []}, story(3))
