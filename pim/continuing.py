"""Several prompts continued together, always by the likeliest token, until each has come to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, UInt32

from pim.emulation import hook
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.model import Model
from pim.llm_workloads.transformer import Cache, advance, init_cache

PROMPTS, SLOTS = 16, 4096
"""Most prompts that are read together, and most tokens of all of them that are kept."""
STEPS = 16
"""Tokens that are written between two looks at the texts; prompts are padded to a multiple of four times as many."""


def continued(
    model: Model,
    params: Any,
    devices: Mapping[str, Any],
    key: Array | None,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    ends: Sequence[Sequence[str]],
) -> list[str]:
    """What the model writes behind each prompt.

    The number of a prompt is the identity of its text for the chip's reads, so that what is written does not depend on
    the prompts beside it.

    Args:
        model: with its tokenizer.
        params: of the model, programmed on a chip (`program_model`) or as they are.
        devices: see `emulated`; none for the exact model.
        key: of the chip's reads.
        prompts: tokens, at least one each.
        counts: most tokens to write behind each.
        ends: texts before which each is cut off; the tokenizer's EOS ends it too.
    """
    if not prompts:
        return []
    longest = _padded(max(map(len, prompts))) + _rounds(counts) * STEPS
    rows = max(1, min(PROMPTS, len(prompts), SLOTS // longest))
    found: list[str] = []
    for start in range(0, len(prompts), rows):
        some, documents = slice(start, start + rows), np.arange(start, start + rows, dtype=np.uint32)
        found += _batch(model, params, devices, key, prompts[some], counts[some], ends[some], documents)
    return found


def _padded(length: int) -> int:
    return -(-length // (4 * STEPS)) * 4 * STEPS


def _rounds(counts: Sequence[int]) -> int:
    return -(-max(counts) // STEPS)


def _batch(
    model: Model,
    params: Any,
    devices: Mapping[str, Any],
    key: Array | None,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    ends: Sequence[Sequence[str]],
    documents: UInt32[np.ndarray, " rows"],
) -> list[str]:
    """The texts of some prompts, of which there may be fewer than rows."""
    rows, time, rounds = len(documents), _padded(max(map(len, prompts))), _rounds(counts)
    tokens, lengths = np.zeros((rows, time), np.int32), np.ones(rows, np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)], lengths[row] = prompt, len(prompt)
    last, cache = _read(model.config, params, devices, key, tokens, lengths, documents, time + rounds * STEPS)
    written, texts = np.zeros((rows, 0), np.int32), []
    for _ in range(rounds):
        ids, last, cache = _write(model.config, params, devices, key, last, cache)
        written = np.concatenate([written, np.asarray(ids)], axis=1)
        texts = [_text(model, *row) for row in zip(written[: len(prompts)], counts, ends, strict=True)]
        if None not in texts:
            break
    return [text for text in texts if text is not None]


def _text(model: Model, ids: Int32[np.ndarray, " written"], count: int, ends: Sequence[str]) -> str | None:
    """The text up to its end; None if it has not come to it."""
    kept = ids[:count].tolist()
    done = len(ids) >= count
    if model.tokenizer.eos_id in kept:
        kept, done = kept[: kept.index(model.tokenizer.eos_id)], True
    text = model.tokenizer.decode(kept)
    at = min((text.index(end) for end in ends if end and end in text), default=None)
    if at is not None:
        return text[:at]
    return text if done else None


@partial(jax.jit, static_argnums=(0, 7))
def _read(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    key: Array | None,
    tokens: Int32[Array, "batch time"],
    lengths: Int32[Array, " batch"],
    documents: UInt32[Array, " batch"],
    capacity: int,
) -> tuple[Int[Array, " batch"], Cache]:
    """The first token behind each prompt, and the cache with the prompts; what pads them is written over."""
    cache = init_cache(config, tokens.shape[0], capacity, documents)
    logits, cache = advance(config, params, tokens, cache, matmul=hook(devices, key))
    last = jnp.take_along_axis(logits, lengths[:, None, None] - 1, axis=1)[:, 0].argmax(axis=-1)
    return last, replace(cache, position=jnp.broadcast_to(lengths[None], cache.position.shape))


@partial(jax.jit, static_argnums=0)
def _write(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    key: Array | None,
    last: Int[Array, " batch"],
    cache: Cache,
) -> tuple[Int[Array, "batch steps"], Int[Array, " batch"], Cache]:
    """The next tokens, the one to read next, and the cache."""

    def step(state: tuple[Array, Cache], _: None) -> tuple[tuple[Array, Cache], Array]:
        token, cache = state
        logits, cache = advance(config, params, token[:, None], cache, matmul=hook(devices, key))
        return (logits[:, -1].argmax(axis=-1), cache), token

    (last, cache), ids = jax.lax.scan(step, (last, cache), length=STEPS)
    return ids.T, last, cache
