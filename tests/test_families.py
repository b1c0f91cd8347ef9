"""Every model family against `transformers`: tiny random checkpoints, read and run here, give what they give there.

The folders are those of `golden/hf`, which `make_hf_fixtures.py` makes, and of `hf_parity` in the shared data.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.llm_workloads.checkpoint import load_checkpoint, load_config
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.families.known import FAMILIES
from pim.llm_workloads.transformer import advance, encode, forward, init_cache

GOLDEN = Path(__file__).parent / "golden" / "hf"
FOLDERS = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
PARITY = ("bert", "gpt2", "llama", "opt")
QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes nearly all of the time here, and half of that goes into speed that no test needs."""

compiled = partial(jax.jit, static_argnums=0, compiler_options=QUICK)


@compiled
def whole_and_by_token(config: ModelConfig, params: dict[str, Any], tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits of whole sequences, and with a cache of one token after the other."""

    def step(cache, column):
        logits, cache = advance(config, params, column[:, None], cache)
        return cache, logits[:, 0]

    _, decoded = jax.lax.scan(step, init_cache(config, *tokens.shape), tokens.T)
    return forward(config, params, tokens), decoded.swapaxes(0, 1)


@compiled
def encoded(
    config: ModelConfig, params: dict[str, Any], tokens: jax.Array, types: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """What an encoder makes of padded sequences: the residual stream, and logits where it has a head."""
    logits = None if config.head == "none" else forward(config, params, tokens, types=types, lengths=lengths)
    return encode(config, params, tokens, types=types, lengths=lengths), logits


def golden_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "io.npz", allow_pickle=False) as file:
        return dict(file)


def check(folder: Path) -> None:
    config, params = load_checkpoint(folder)
    golden = golden_of(folder)
    tokens = jnp.asarray(golden["input_ids"], jnp.int32)
    if config.attention.causal:
        whole, decoded = whole_and_by_token(config, params, tokens)
        np.testing.assert_allclose(whole, golden["logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(decoded, golden["decode_logits"], rtol=0, atol=1e-4)
        return
    mask = golden["attention_mask"]
    types = jnp.asarray(golden["token_type_ids"], jnp.int32)
    states, logits = encoded(config, params, tokens, types, jnp.asarray(mask.sum(axis=1), jnp.int32))
    np.testing.assert_allclose(states, golden["hidden_states"][-1], rtol=0, atol=1e-4)
    if logits is not None:
        np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", FOLDERS)
def test_outputs_equal_those_of_transformers(name):
    check(GOLDEN / name)


@pytest.mark.parametrize("name", PARITY)
def test_outputs_equal_those_of_the_shared_fixtures(shared, name):
    check(shared / "data" / "hf_parity" / name)


def test_every_family_has_a_fixture():
    assert {load_config(GOLDEN / name).family for name in FOLDERS} == {family.name for family in FAMILIES}
