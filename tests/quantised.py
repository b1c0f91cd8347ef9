"""Perplexity of quantised models on the stories of the shipped one, for docs/quantisation.md and its test."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pim.llm_workloads.attention import Matmul
from pim.llm_workloads.model import Model, load_model
from pim.llm_workloads.quantisation.awq import rescaled
from pim.llm_workloads.quantisation.inputs import quantised_inputs
from pim.llm_workloads.quantisation.kv import quantised_cache
from pim.llm_workloads.quantisation.outliers import with_key_outliers, with_outliers
from pim.llm_workloads.quantisation.quantise import quantise
from pim.llm_workloads.quantisation.rotation import rotate
from pim.llm_workloads.quantisation.smoothquant import smooth
from pim.llm_workloads.quantisation.split import split_outliers
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.llm_workloads.transformer import digital_matmul, forward

CHANNELS, FACTOR = (5, 40), 300.0
KEY_CHANNELS, KEY_FACTOR = (1,), 10.0


def perplexity(model: Model, text: str, matmul: Matmul = digital_matmul) -> float:
    """Perplexity of documents, each scored from its beginning, in contexts of 256 tokens."""
    scored = as_scored(text, model.tokenizer, context=256)
    total = 0.0
    for batch in scored.batches(4096):
        losses = np.asarray(_losses(model.config, matmul, model.params, batch.tokens, batch.scored))
        total += float(losses[batch.kept].sum())
    return float(np.exp(total / scored.scored_tokens().sum()))


@partial(jax.jit, static_argnums=(0, 1))
def _losses(config, matmul, params, tokens, scored):
    logs = jax.nn.log_softmax(forward(config, params, tokens, matmul=matmul))
    return -(jnp.take_along_axis(logs[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0] * scored).sum(axis=1)


class Stories(NamedTuple):
    """What is computed with: the shipped model, a text to score and another one that calibrates."""

    model: Model
    scored: str
    calibration: str

    def of(self, model: Model | None = None, matmul: Matmul = digital_matmul) -> float:
        return perplexity(self.model if model is None else model, self.scored, matmul)


@cache
def shipped() -> Stories:
    return Stories(load_model("tiny-stories"), story_text(2, 24), story_text(3, 24))


WEIGHTS = ("int8:channel", "int4:channel", "int3:channel", "int3:group32", "int2_asym:group32", "fp4:channel", "mxfp4")
INPUTS = ("int8:token", "int6:token", "fp8:token", "mxfp8", "mxint8")
KEYS = ("int4:token", "int3:token", "int2_min:token", "int4:channel32", "int3:channel32", "int2_min:channel32")


def weights_of(stories: Stories, name: str) -> dict[str, float]:
    """Weights rounded to nearest, by GPTQ, and AWQ."""
    text = {"rtn": None, "gptq": stories.calibration, "awq": stories.calibration}
    return {m: stories.of(quantise(stories.model, name, m, text[m])) for m in text}


@cache
def rounded_inputs(name: str) -> Matmul:
    return quantised_inputs(digital_matmul, name)


@cache
def with_and_without(stories: Stories) -> dict[str, Model]:
    """The model, one with outlier channels, and what is made of that."""
    large = with_outliers(stories.model, CHANNELS, FACTOR)
    return {
        "no outliers": stories.model,
        "outliers": large,
        "smoothed": smooth(large, stories.calibration),
        "rescaled (AWQ)": rescaled(large, stories.calibration, "int4:channel"),
        "rotated": rotate(large),
    }


def inputs_of(stories: Stories, name: str) -> dict[str, float]:
    """Quantised inputs of each, and with large inputs on a path of their own."""
    coarse, models = rounded_inputs(name), with_and_without(stories)
    found = {what: stories.of(model, coarse) for what, model in models.items()}
    return found | {"split": stories.of(models["outliers"], split_outliers(coarse, digital_matmul))}


def keys_of(stories: Stories, name: str) -> dict[str, float]:
    """Quantised keys of the model, and of one with outlier channels in them."""
    hook = quantised_cache(digital_matmul, keys=name)
    large = with_key_outliers(stories.model, KEY_CHANNELS, KEY_FACTOR)
    return {"no outliers": stories.of(stories.model, hook), "outliers": stories.of(large, hook)}
