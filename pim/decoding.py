"""Decoding: tokens written one by one behind a prompt, each read with the noise that it has in a whole text."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from pim.devices.random import row_keys
from pim.emulation import hook
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.transformer import advance, digital_matmul, forward, init_cache
from pim.sampling import Sampling

DOCUMENT = 0
"""Identity of the text that is written: noise and choices hang on it and on the position."""


@partial(jax.jit, static_argnums=(0, 8))
def decode(
    config: ModelConfig,
    params: Any,
    devices: Any,
    noise: Key[Array, ""] | None,
    prompt: Int32[Array, "1 time"],
    sampling: Sampling,
    choices: Key[Array, ""],
    end: Int32[Array, ""],
    count: int,
) -> tuple[Int32[Array, "count"], Float[Array, "count"], Int32[Array, ""]]:
    """Up to `count` tokens behind a prompt: the prompt is read at once, each token then with the keys of those before.

    Args:
        config: shapes and constants.
        params: the model's, or those that `program_model` has made of them.
        devices: what they run on (see `emulated`); None: the exact model.
        noise: key of the chip's reads; None: without noise.
        prompt: what they continue.
        sampling: how tokens are chosen.
        choices: key of the random numbers by which they are.
        end: token that ends the text; -1 if there is none.
        count: most tokens.

    Returns:
        The tokens, their log probabilities in nats by this model (before temperature and what may be chosen), and how
        many there are; the rest is 0.

    >>> ids, log_probabilities, n = decode(config, params, None, None, prompt, greedy, key, np.int32(-1), 50)
    """
    matmul = digital_matmul if devices is None else hook(devices, noise)
    time = prompt.shape[1]
    cache = init_cache(config, 1, time + count - 1, jnp.full(1, DOCUMENT, jnp.uint32))  # the last one is not read

    def chosen(logits: Array, n: Array) -> tuple[Array, Array]:
        """The token behind `n` that are written, and its log probability."""
        row = jnp.stack([jnp.uint32(DOCUMENT), jnp.uint32(time) + n.astype(jnp.uint32)])
        token = sampling.choose(logits[:, -1], row_keys(choices, row[None, :]))[0]
        return token, jax.nn.log_softmax(logits[0, -1])[token]

    def unfinished(state: Any) -> Array:
        n, ids, _, _ = state
        return (n < count) & (ids[n - 1] != end)

    def step(state: Any) -> Any:
        n, ids, values, cache = state
        logits, cache = advance(config, params, ids[n - 1][None, None], cache, matmul=matmul)
        token, value = chosen(logits, n)
        return n + 1, ids.at[n].set(token), values.at[n].set(value), cache

    logits, cache = advance(config, params, prompt, cache, matmul=matmul)
    token, value = chosen(logits, jnp.int32(0))
    ids, values = jnp.zeros(count, jnp.int32).at[0].set(token), jnp.zeros(count, jnp.float32).at[0].set(value)
    n, ids, values, _ = jax.lax.while_loop(unfinished, step, (jnp.int32(1), ids, values, cache))
    return ids, values, n


@partial(jax.jit, static_argnums=0)
def exact_log_probabilities(config: ModelConfig, params: Any, tokens: Int32[Array, "1 time"]) -> Float[Array, "time-1"]:
    """Log probability in nats that the exact model gives to each token of a text behind the first."""
    logits = jax.nn.log_softmax(forward(config, params, tokens)[0, :-1])
    return jnp.take_along_axis(logits, tokens[0, 1:, None], axis=-1)[:, 0]
