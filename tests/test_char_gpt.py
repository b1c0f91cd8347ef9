"""A real GPT-2 (trained on the characters of Shakespeare): golden losses, exact and with weights on given devices."""

import json

import numpy as np
import pytest
from test_golden_curves import device

from pim.devices.device import Device
from pim.devices.macro import Ideal
from pim.evaluation import evaluate
from pim.llm_workloads.model import load_model
from pim.llm_workloads.text import as_scored
from pim.mapping.plan import place
from pim.mapping.system import System, inference_system

SLOW = pytest.mark.slow
EXACT = Device("exact", "test", "exact", Ideal(), {}, {})


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "models.json").read_text())["char_gpt"]


@pytest.fixture(scope="module")
def model(shared):
    return load_model(shared / "data" / "char_gpt")


@pytest.fixture(scope="module")
def text(shared, model):
    whole = (shared / "data" / "text" / "tinyshakespeare.txt").read_text()
    return as_scored(whole[int(0.9 * len(whole)) :], model.tokenizer, context=256)


def loss(model, weights, text, chips=1):
    """Nats per character of each chip."""
    result = evaluate(place(model, inference_system(weights, EXACT)), text, chips=chips, progress=False)
    return result.scores.nll[0].sum(axis=-1) / result.scores.tokens.sum()


def test_loss_per_character(golden, model, text):
    assert text.count == golden["val"]["n_windows"]
    assert model.config.parameters == golden["n_params"]
    assert loss(model, EXACT, text) == pytest.approx(golden["val"]["mean_nll_nats"], abs=2e-4)


@pytest.fixture(scope="module")
def first(text):
    """The first 48 windows, on which the curves were found."""
    return text.head(48 * 256)


@pytest.mark.parametrize("bits", [pytest.param(8, marks=SLOW), pytest.param(6, marks=SLOW), 4])
def test_weight_bits_with_a_scale_a_column(golden, model, first, bits):
    assert first.count == 48
    found = loss(model, device(weight_bits=float(bits)), first)
    assert found == pytest.approx(golden["curves_first48_windows"]["weight_rtn"][str(bits)], rel=0.01)


@SLOW
@pytest.mark.parametrize("sigma", ["0.01", "0.02"])
def test_weight_noise_relative_to_the_matrix(golden, model, first, sigma):
    """The golden matrix holds queries, keys and values side by side: each of them here has the noise of the largest."""
    devices, rules = {"exact": EXACT}, [("*.attention.qk", "exact"), ("*.attention.pv", "exact"), ("head", "exact")]
    (layers,) = model.params["segments"]
    largest = {name: np.abs(np.asarray(layers[name])).max(axis=(1, 2)) for name in model.config.static}
    joined = np.max([largest[f"attention.{name}"] for name in "qkv"], axis=0)
    for layer in range(model.config.num_hidden_layers):
        for name, scales in largest.items():
            whole = joined[layer] if name in ("attention.q", "attention.k", "attention.v") else scales[layer]
            devices[f"{layer}.{name}"] = device(sigma=float(sigma) * whole / scales[layer], weight_scale="matrix")
            rules.append((f"layers.{layer}.{name}", f"{layer}.{name}"))
    result = evaluate(place(model, System(devices, rules)), first, chips=5, progress=False)
    found = result.scores.nll[0].sum(axis=-1) / result.scores.tokens.sum()
    assert np.mean(found) == pytest.approx(golden["curves_first48_windows"]["weight_noise"][sigma]["mean"], rel=0.01)
