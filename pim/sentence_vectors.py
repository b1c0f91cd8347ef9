"""The vectors of sentences on every chip of a plan, beside the exact model's."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, hook, program_model
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.text import Batch, ScoredText
from pim.llm_workloads.transformer import encode
from pim.mapping.plan import Plan
from pim.scoring import TOKENS_PER_BATCH


def sentence_vectors(
    plan: Plan, text: ScoredText, *, chips: int, seed: int, time: float | None = None, progress: bool = True
) -> tuple[Float[np.ndarray, "rows hidden"], Float[np.ndarray, "chips rows hidden"]]:
    """The mean vector over the tokens of each row, of the exact model and of each chip."""
    model = plan.model
    assert model is not None
    batches = list(text.batches(TOKENS_PER_BATCH))
    digital = _rows(model.config, model.in_memory, {}, batches, None)
    found, root = [], root_key(seed)
    bar = tqdm(total=chips * len(batches), desc="encoding", unit="batch", disable=not progress, delay=2)
    for chip in range(chips):
        key = chip_key(root, chip)
        found.append(_rows(model.config, program_model(plan, key, time), emulated(plan), batches, key, bar.update))
    bar.close()
    return digital, np.stack(found)


def _rows(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    batches: Sequence[Batch],
    key: Array | None,
    done: Callable[[], Any] = lambda: None,
) -> Float[np.ndarray, "rows hidden"]:
    found = np.zeros((sum(len(batch.index) for batch in batches), config.hidden_size), np.float32)
    for batch in batches:
        vectors = _mean(config, params, devices, batch.tokens, batch.lengths, batch.documents, key)
        found[batch.index] = np.asarray(vectors)[batch.kept]
        done()
    return found


@partial(jax.jit, static_argnums=0)
def _mean(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    tokens: Int[Array, "batch time"],
    lengths: Int[Array, " batch"],
    documents: Array,
    key: Array | None,
) -> Float[Array, "batch hidden"]:
    x = encode(config, params, tokens, documents=documents, lengths=lengths, matmul=hook(devices, key))
    valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid[:, :, None], x, 0.0).sum(axis=1) / lengths[:, None]
