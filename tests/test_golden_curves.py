"""Perplexity of a real model (stories260K) under given definitions of noise and quantisation, by the public verbs.

The curves of golden/models.json were computed elsewhere, in PyTorch, with the definitions in that file. Here each
definition is a device: its cells, converters and scales. Below the cliff the values agree within 1 %; random ones,
where their spread over seeds is more than that, within three standard errors of the two means.
"""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from pim.calibration import calibrate
from pim.devices.cells.cell import Cell
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.adc import ADC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.device import Device
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.record import cast
from pim.evaluation import evaluate
from pim.llm_workloads.model import load_model
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.ranges import Ranges

STORIES = 32
SLOW = pytest.mark.slow  # the other points of a curve


def device(
    *, dac_bits=16.0, input_range="token", weight_scale="column", weight_bits=None, sigma=None, adc_bits=None
) -> Device:
    """A macro that does nothing but what is asked for.

    Weights live in the difference of two cells with a window from 1 S to 2 S, so that errors of a few percent never
    meet zero; two independent cells of sigma / sqrt(2) give a weight an error of sigma times the largest weight.
    """
    write_error = None if sigma is None else GaussianWriteError(Polynomial(jnp.array([sigma / np.sqrt(2)])), 1.0, 1.0)
    macro = AnalogMacro(
        rows=64,
        columns=512,
        slices=1,
        encoding="differential",
        weight_scale=weight_scale,
        input_range=input_range,
        v_read=0.2,
        t_read=1e-8,
        vdd=0.9,
        cell=Cell(1.0, 2.0, 1e-13, write_error=write_error),
        dac=MultibitDAC(dac_bits, 100.0, 0.0, 0.0),
        weight_bits=weight_bits,
        adc=None if adc_bits is None else ADC(adc_bits, 100.0, 8.0),
    )
    return Device("definition", "test", "a definition", cast(macro), {}, {})


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "models.json").read_text())["stories260K"]


@pytest.fixture(scope="module")
def model(shared):
    return load_model(shared / "data" / "stories260K")


@pytest.fixture(scope="module")
def text(shared):
    whole = (shared / "data" / "text" / "tinystories_dev.txt").read_text()
    blocks = [block for block in whole.split("<|endoftext|>") if block.strip()]
    return "<|endoftext|>".join(blocks[:STORIES])


def run(model, device, text, chips=1):
    exact = Device("exact", "test", "exact", Ideal(), {}, {})
    plan = place(model, inference_system(device, exact))
    return evaluate(plan, text, chips=chips, progress=False)


def test_the_ideal_device_is_the_golden_base(golden, model, text):
    result = run(model, Device("exact", "test", "exact", Ideal(), {}, {}), text)
    base = golden["curves_dev_first32_stories_ctx256"]
    assert result.scores.tokens.sum() == base["n_tokens"]
    assert result.perplexity == pytest.approx(base["base_ppl"], abs=2e-4)
    assert result.points[0].kl == pytest.approx(0.0, abs=1e-6)
    assert result.points[0].agreement == 1.0


@SLOW  # test_llama.py scores the same text with the exact model alone
def test_the_ideal_device_has_the_golden_perplexity_of_the_whole_text(shared, golden, model):
    whole = (shared / "data" / "text" / "tinystories_dev.txt").read_text()
    result = run(model, Device("exact", "test", "exact", Ideal(), {}, {}), whole)
    base = golden["ppl"]["tinystories_dev/stories/ctx256"]
    assert result.scores.tokens.sum() == base["n_tokens"]
    assert result.perplexity == pytest.approx(base["ppl"], abs=1e-3)


@pytest.mark.parametrize("bits", [pytest.param(8, marks=SLOW), pytest.param(5, marks=SLOW), 4])
def test_weight_bits_with_a_scale_a_column(golden, model, text, bits):
    found = run(model, device(weight_bits=float(bits)), text).perplexity
    assert found == pytest.approx(golden["curves_dev_first32_stories_ctx256"]["weight_rtn"][str(bits)], rel=0.01)


@pytest.mark.parametrize("bits", [pytest.param(8, marks=SLOW), pytest.param(6, marks=SLOW)])
def test_weight_bits_with_a_scale_a_matrix(golden, model, text, bits):
    found = run(model, device(weight_bits=float(bits), weight_scale="matrix"), text).perplexity
    curve = golden["curves_dev_first32_stories_ctx256"]["weight_rtn_tensor"]
    assert found == pytest.approx(curve[str(bits)], rel=0.01)


@pytest.mark.parametrize("bits", [pytest.param(8, marks=SLOW), 5])
def test_input_bits_with_a_range_a_token(golden, model, text, bits):
    found = run(model, device(dac_bits=float(bits)), text).perplexity
    assert found == pytest.approx(golden["curves_dev_first32_stories_ctx256"]["act_rtn"][str(bits)], rel=0.01)


def random_agrees(perplexities, reference):
    theirs = np.array(reference["values"])
    error = np.sqrt(perplexities.var(ddof=1) / len(perplexities) + theirs.var(ddof=1) / len(theirs))
    assert abs(perplexities.mean() - theirs.mean()) < 3 * error
    assert 0.2 < perplexities.std(ddof=1) / theirs.std(ddof=1) < 5


def check_noise(perplexities, reference, below_the_cliff):
    random_agrees(perplexities, reference)
    if below_the_cliff:
        assert perplexities.mean() == pytest.approx(reference["mean"], rel=0.01)


@SLOW
@pytest.mark.parametrize("sigma", ["0.002", "0.005", "0.01", "0.02"])
def test_weight_noise_relative_to_the_matrix(golden, model, text, sigma):
    result = run(model, device(sigma=float(sigma), weight_scale="matrix"), text, chips=5)
    reference = golden["curves_dev_first32_stories_ctx256"]["weight_noise"][sigma]
    check_noise(result.points[0].perplexity, reference, float(sigma) <= 0.01)


@pytest.mark.parametrize("sigma", [*(pytest.param(s, marks=SLOW) for s in ("0.01", "0.02")), "0.03", "0.05"])
def test_weight_noise_relative_to_the_column(golden, model, text, sigma):
    result = run(model, device(sigma=float(sigma)), text, chips=5)
    reference = golden["row_noise_dev_first32_stories_ctx256"]["row_relative"][sigma]
    check_noise(result.points[0].perplexity, reference, float(sigma) <= 0.03)


@pytest.mark.parametrize(
    "bits", [pytest.param(10, marks=SLOW), pytest.param(8, marks=SLOW), pytest.param(7, marks=SLOW)]
)
def test_adc_bits_with_the_range_of_the_largest_partial_sum(golden, model, text, bits):
    """The golden range is that of a matrix over a batch of at most 16 length-sorted stories."""
    tokenizer, blocks = model.tokenizer, text.split("<|endoftext|>")
    by_length = sorted(blocks, key=lambda block: min(256, 1 + len(tokenizer.encode(block.strip()))))
    exact = Device("exact", "test", "exact", Ideal(), {}, {})
    definition = device(adc_bits=float(bits), input_range="calibrated", weight_scale="matrix")
    nll, tokens = 0.0, 0
    for start in range(0, STORIES, 16):
        batch = "<|endoftext|>".join(["", *by_length[start : start + 16]])
        plan = place(model, inference_system(definition, exact))
        plan = calibrate(plan, batch, tokens=10**6)
        of_matrix = {p: Ranges(r.x, jnp.full_like(r.adc, r.adc.max())) for p, r in plan.ranges.items()}
        plan = replace(plan, ranges=of_matrix, calibration=None)
        result = evaluate(plan, batch, chips=1, progress=False)
        nll, tokens = nll + result.scores.nll.sum(), tokens + result.scores.tokens.sum()
    found = float(np.exp(nll / tokens))
    assert found == pytest.approx(golden["curves_dev_first32_stories_ctx256"]["adc"][str(bits)], rel=0.01)
