"""Scoring: the loss of every chip of a plan on every document, beside the exact model's.

Chips run one after another and, on each, all batches; the points of a sweep share chips and reads. A chip is programmed
anew only when something that its cells depend on has changed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import repeat
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, hook, program_model
from pim.formulation import choose
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.text import Batch, ScoredText
from pim.llm_workloads.transformer import forward
from pim.mapping.plan import Plan
from pim.token_sums import token_sums

TOKENS_PER_BATCH = 4096
LOGITS_PER_BATCH = 2**26
"""Most logits of a batch, which bounds its tokens where the vocabulary is large."""
KEPT_LOGITS = 2**28
"""Most logits of the exact model that are kept for all chips (1 GiB); more are computed anew for each."""


@dataclass(frozen=True)
class Scores:
    """Sums over the scored tokens of each document (of each sequence, as `score` returns them).

    Attributes:
        nll: loss in nats of each point, chip and document.
        kl: Kullback-Leibler divergence of the next-token distribution from the exact model's, in nats.
        agree: tokens at which the most likely next token is the exact model's.
        right: tokens at which the most likely next token is the one that follows.
        digital: loss of the exact model.
        digital_right: tokens that the exact model has right.
        tokens: scored tokens of each document.
    """

    nll: Float[np.ndarray, "points chips documents"]
    kl: Float[np.ndarray, "points chips documents"]
    agree: Float[np.ndarray, "points chips documents"]
    right: Float[np.ndarray, "points chips documents"]
    digital: Float[np.ndarray, "documents"]
    digital_right: Float[np.ndarray, "documents"]
    tokens: Int[np.ndarray, "documents"]

    def summed(self, source: Int[np.ndarray, " sequences"]) -> "Scores":
        """The sums of each document from those of its sequences; `source` is the document of each sequence.

        >>> scores.summed(text.source)
        """
        starts = np.flatnonzero(np.diff(source, prepend=-1))
        return Scores(**{
            field.name: np.add.reduceat(getattr(self, field.name), starts, axis=-1) for field in fields(self)
        })  # fmt: skip


def score(
    plans: Sequence[Plan], text: ScoredText, *, chips: int, seed: int, time: float | None = None, progress: bool = True
) -> Scores:
    """Score plans of one model, which differ in values of their devices, on the same tokens, chips and reads.

    The sums are those of each sequence of the text.
    """
    model = plans[0].model
    assert model is not None
    config = model.config
    batches = cut_batches(text, config.vocab_size)
    exact = _reference(config, model.params, batches)
    digital = by_sequence(batches, (_own_sums(e, b.tokens, b.scored) for e, b in zip(exact(), batches, strict=True)))
    found = {name: np.zeros((len(plans), chips, text.count)) for name in digital}
    root = root_key(seed)
    bar = tqdm(total=chips * len(plans) * len(batches), desc="scoring", unit="batch", disable=not progress, delay=2)
    for chip in range(chips):
        key = chip_key(root, chip)
        for point, (plan, params) in enumerate(_programmed(plans, key, time)):
            sums = chip_sums(config, params, emulated(plan), batches, key, exact(), bar.update)
            for name, values in sums.items():
                found[name][point, chip] = values
    bar.close()
    return Scores(**found, digital=digital["nll"], digital_right=digital["right"], tokens=text.scored_tokens())


def cut_batches(text: ScoredText, vocab_size: int) -> list[Batch]:
    """The batches of a text for a model of this vocabulary."""
    return list(text.batches(min(TOKENS_PER_BATCH, max(1, LOGITS_PER_BATCH // vocab_size))))


def chip_sums(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    batches: Sequence[Batch],
    key: Array | None,
    exact: Iterable[Array] | None = None,
    done: Callable[[], Any] = lambda: None,
) -> dict[str, Float[np.ndarray, " sequences"]]:
    """Sums over the scored tokens of each sequence (see `token_sums`), on one chip.

    Args:
        config: of the model.
        params: of the model, programmed on the chip (`program_model`).
        devices: see `emulated`.
        batches: of the text, see `cut_batches`.
        key: of the chip's reads.
        exact: log probabilities of the exact model, one batch after the other; without them the chip is compared with
            itself.
        done: called behind each batch.
    """

    def sums() -> Iterator[dict[str, Array]]:
        for batch, logits in zip(batches, repeat(None, len(batches)) if exact is None else exact, strict=True):
            yield _score(config, params, devices, logits, batch.tokens, batch.documents, batch.scored, key)
            done()

    return by_sequence(batches, sums())


def by_sequence(
    batches: Sequence[Batch], sums: Iterable[Mapping[str, Array]]
) -> dict[str, Float[np.ndarray, " sequences"]]:
    """The sums of batches, each by its rows, as those of the sequences of the text."""
    count = sum(len(batch.index) for batch in batches)
    found: dict[str, np.ndarray] = {}
    for batch, values in zip(batches, sums, strict=True):
        for name, rows in values.items():
            found.setdefault(name, np.zeros(count))[batch.index] = np.asarray(rows)[batch.kept]
    return found


def _reference(config: ModelConfig, params: Any, batches: Sequence[Batch]) -> Callable[[], Iterable[Array]]:
    """What gives the exact model's log probabilities of the batches, from memory where all of them fit."""
    find = lambda: (_exact(config, params, batch.tokens) for batch in batches)
    if sum(batch.tokens.size for batch in batches) * config.vocab_size > KEPT_LOGITS:
        return find
    kept = list(find())
    return lambda: kept


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
def _own_sums(logits: Array, tokens: Array, scored: Array) -> dict[str, Float[Array, " batch"]]:
    return token_sums(logits, logits, tokens, scored)


@partial(jax.jit, static_argnums=0)
def _score(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    exact: Float[Array, "batch time vocab"] | None,
    tokens: Int[Array, "batch time"],
    documents: Array,
    scored: Float[Array, "batch time-1"],
    key: Array | None,
) -> dict[str, Float[Array, " batch"]]:
    logits = jax.nn.log_softmax(forward(config, params, tokens, documents=documents, matmul=hook(devices, key)))
    return token_sums(logits, logits if exact is None else exact, tokens, scored)
