"""Scoring: the loss of every chip of a plan on every document, beside the exact model's.

Chips run one after another and, on each, all batches; the points of a sweep share chips and reads. A chip is programmed
anew only when something that its cells depend on has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, hook, program_model
from pim.formulation import choose
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.text import ScoredText
from pim.llm_workloads.transformer import forward
from pim.mapping.plan import Plan

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Scores:
    """Sums over the scored tokens of each document.

    Attributes:
        nll: loss in nats of each point, chip and document.
        kl: Kullback-Leibler divergence of the next-token distribution from the exact model's, in nats.
        agree: tokens at which the most likely next token is the exact model's.
        digital: loss of the exact model.
        tokens: scored tokens of each document.
    """

    nll: Float[np.ndarray, "points chips documents"]
    kl: Float[np.ndarray, "points chips documents"]
    agree: Float[np.ndarray, "points chips documents"]
    digital: Float[np.ndarray, "documents"]
    tokens: Int[np.ndarray, "documents"]


def score(
    plans: Sequence[Plan], text: ScoredText, *, chips: int, seed: int, time: float | None = None, progress: bool = True
) -> Scores:
    """Score plans of one model, which differ in values of their devices, on the same tokens, chips and reads."""
    model = plans[0].model
    assert model is not None
    config = model.config
    batches = list(text.batches(TOKENS_PER_BATCH))
    exact = [_exact(config, model.params, b.tokens) for b in batches]
    blank = np.zeros((len(plans), chips, text.count))
    found = {"nll": blank, "kl": blank.copy(), "agree": blank.copy()}
    digital = np.zeros(text.count)
    for b, logits in zip(batches, exact, strict=True):
        digital[b.index] = np.asarray(_own_loss(logits, b.tokens, b.scored))[b.kept]
    root = root_key(seed)
    bar = tqdm(total=chips * len(plans) * len(batches), desc="scoring", unit="batch", disable=not progress, delay=2)
    for chip in range(chips):
        key = chip_key(root, chip)
        for point, (plan, params) in enumerate(_programmed(plans, key, time)):
            for b, logits in zip(batches, exact, strict=True):
                sums = _score(config, params, emulated(plan), logits, b.tokens, b.documents, b.scored, key)
                for name, values in sums.items():
                    found[name][point, chip, b.index] = np.asarray(values)[b.kept]
                bar.update()
    bar.close()
    return Scores(**found, digital=digital, tokens=text.scored_tokens())


def _programmed(plans: Sequence[Plan], key: Array, time: float | None) -> Iterator[tuple[Plan, Any]]:
    """Each plan with its programmed chip, reusing the last one where the cells would be the same."""
    last, params = None, None
    for plan in plans:
        content = {name: cell_content(model) for name, model in emulated(plan).items()}
        if last is None or not _same(content, last):
            params = program_model(plan, key, time)
        last = content
        yield plan, params


def cell_content(macro: Any) -> tuple[Any, ...]:
    """What programmed cells depend on: of an analog macro costs and most of the ADC are left out, of others nothing."""
    if not isinstance(macro, AnalogMacro):
        return (macro,)
    adc = macro.adc
    shared = () if adc is None else (adc.numbers, adc.columns_per_adc)
    ways = tuple(choose(macro, 1, calibrated=calibrated) for calibrated in (True, False))
    return replace(macro, adc=None, periphery=None, t_read=0.0), shared, ways


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    (left, shape), (right, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return shape == other and all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


@partial(jax.jit, static_argnums=0)
def _exact(config: ModelConfig, params: Any, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time vocab"]:
    return jax.nn.log_softmax(forward(config, params, tokens))


@jax.jit
def _own_loss(logits: Array, tokens: Array, scored: Array) -> Float[Array, " batch"]:
    return (_losses(logits, tokens) * scored).sum(axis=1)


def _losses(logits: Float[Array, "batch time vocab"], tokens: Int[Array, "batch time"]) -> Float[Array, "batch time-1"]:
    """Loss in nats of each next token, from log probabilities."""
    return -jnp.take_along_axis(logits[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]


@partial(jax.jit, static_argnums=0)
def _score(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    exact: Float[Array, "batch time vocab"],
    tokens: Int[Array, "batch time"],
    documents: Array,
    scored: Float[Array, "batch time-1"],
    key: Array,
) -> dict[str, Float[Array, " batch"]]:
    logits = jax.nn.log_softmax(forward(config, params, tokens, documents=documents, matmul=hook(devices, key)))
    kl = (jnp.exp(exact) * (exact - logits)).sum(axis=-1)[:, :-1]
    agree = (exact.argmax(axis=-1) == logits.argmax(axis=-1))[:, :-1]
    sums = {"nll": _losses(logits, tokens), "kl": kl, "agree": agree}
    return {name: (values * scored).sum(axis=1) for name, values in sums.items()}
