"""Every family placed on devices: exact where they are, noisy token by token as in prefill, with costs that add up."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few
from test_golden_curves import device

import pim
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import Ideal
from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, hook, program_model
from pim.errors import StudyError
from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.model import Model
from pim.llm_workloads.operators import operator_paths
from pim.llm_workloads.text import ScoredText
from pim.llm_workloads.transformer import advance, encode, forward, init_cache
from pim.mapping.plan import place
from pim.mapping.system import DIGITAL_RULES, System

HERE = Path(__file__).parent / "golden" / "hf"
FAMILIES = (
    "gemma2",
    "phi",
    "mixtral",
    "gpt2",
    "gpt_neox",
    "qwen3",
    "mistral",
    "opt",
    "qwen2",
    "gemma",
    "phi3",
    "llama3",
)
EXACT = Device("exact", "test", "exact", Ideal(), {}, {})
FORWARD = jax.jit(forward, static_argnums=0, static_argnames="matmul")


@cache
def model(name):
    config, params = load_checkpoint(HERE / name)
    return Model(name, config, params, pim.load_model("tiny-stories").tokenizer)  # texts are cut already


def tokens_of(name):
    with np.load(HERE / name / "io.npz", allow_pickle=False) as golden:
        return jnp.asarray(golden["input_ids"], jnp.int32)


def text_of(ids, lengths):
    rows = np.arange(len(ids), dtype=np.int32)
    lengths = np.array(lengths, np.int32)
    return ScoredText(ids, lengths, np.ones_like(rows), rows, context=32, protocol="a test", sha256="0")


def system(weights):
    return System({"weights": weights, "digital": EXACT}, DIGITAL_RULES)


@pytest.mark.parametrize("name", first_few(2, FAMILIES))
def test_cells_at_their_targets_give_the_digital_logits(name):
    plan, tokens = place(model(name), system(device())), tokens_of(name)
    programmed = program_model(plan, root_key(0))
    found = FORWARD(plan.config, programmed, tokens, matmul=hook(emulated(plan), None))
    exact = model(name).logits(tokens)
    # Inputs have 16 bits, of which a product of some layers keeps 1e-4: it is not zero, they went through the device.
    assert 0 < np.abs(found - exact).max() < 3e-4 * np.abs(exact).max()


@pytest.mark.parametrize("name", first_few(1, FAMILIES))
def test_decoding_has_the_noise_of_prefill(name):
    """Windows, experts and partly turned heads too; by read noise of each token."""
    noisy = pim.replace(pim.preset("rram-techC"), {"input_range": "token", "rows": 32, "columns": 64})
    plan, tokens = place(model(name), system(noisy)), tokens_of(name)[:, :8]
    key = chip_key(root_key(1), 0)
    programmed, matmul = program_model(plan, key), hook(emulated(plan), key)
    whole = FORWARD(plan.config, programmed, tokens, matmul=matmul)
    step = jax.jit(lambda token, cache: advance(plan.config, programmed, token, cache, matmul=matmul))
    cache, parts = init_cache(plan.config, 2, capacity=8), []
    for t in range(8):
        logits, cache = step(tokens[:, t : t + 1], cache)
        parts.append(logits)
    found = jnp.concatenate(parts, axis=1)
    assert np.abs(whole - model(name).logits(tokens)).max() > 1e-2  # it is noisy
    np.testing.assert_allclose(found, whole, atol=1e-4)  # no code of a converter flips


@pytest.mark.parametrize("name", FAMILIES)
def test_costs_cover_every_operator(name):
    plan = place(model(name).config, pim.inference_system(pim.preset("rram-techC"), pim.preset("digital-28nm")))
    found = pim.cost(plan, prompt=16, generate=4)
    named = set(found.decode.ledger.operators)
    assert set(operator_paths(plan.config)) <= named
    assert np.isfinite(found.energy) and found.energy > 0


def test_a_window_of_one_layer_is_priced_for_that_layer():
    config = model("gemma2").config
    plan = place(config, System({"all": pim.preset("digital-28nm")}))
    ledger = pim.cost(plan, prompt=1000, generate=1).prefill.ledger
    energy = {
        operator: sum(float(e) for o, e in zip(ledger.operators, ledger.energy, strict=True) if o == operator)
        for operator in ("layers.0.attention.qk", "layers.1.attention.qk")
    }
    assert config.window(0) is not None and config.window(1) is None
    assert energy["layers.0.attention.qk"] < 0.2 * energy["layers.1.attention.qk"]


@pytest.mark.parametrize("name", first_few(1, ("gpt2", "mixtral", "gemma2")))
def test_the_verbs_take_any_family(name):
    ids = np.asarray(tokens_of(name))
    text = text_of(ids, [ids.shape[1]] * 2)
    other = replace(text, tokens=ids[:, ::-1].copy())
    plan = place(model(name), system(pim.preset("rram-wan2022")))
    plan = pim.calibrate(plan, other)
    result = pim.evaluate(plan, text, chips=2, progress=False)
    assert np.isfinite(result.perplexity) and result.perplexity != result.digital_perplexity


def test_an_encoder_has_vectors_but_no_perplexity():
    config, params = load_checkpoint(HERE / "bert")
    encoder = Model("bert", config, params, pim.load_model("tiny-stories").tokenizer)
    tokens, lengths = tokens_of("bert"), jnp.array([20, 11], jnp.int32)
    plan = place(encoder, system(device()))
    programmed = program_model(plan, root_key(0))
    found = encode(config, programmed, tokens, lengths=lengths, matmul=hook(emulated(plan), None))
    exact = encode(config, params, tokens, lengths=lengths)
    assert 0 < np.abs(found - exact)[1, :11].max() < 3e-4 * np.abs(exact).max()
    changed = encode(config, params, tokens.at[1, 11:].set(0), lengths=lengths)
    np.testing.assert_array_equal(changed[1, :11], exact[1, :11])  # padding is not seen
    kivi = place(encoder, pim.inference_system(pim.formatted(), pim.formatted(keys="int2_min:channel8")))
    with pytest.raises(DeviceError, match="keys with a scale for each channel over past tokens, but a bert model"):
        program_model(kivi, root_key(0))
    text = text_of(np.asarray(tokens), [20, 11])
    with pytest.raises(StudyError, match="reads both ways and says nothing of what comes next"):
        pim.evaluate(plan, text, progress=False)
