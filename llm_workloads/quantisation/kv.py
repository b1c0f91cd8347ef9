"""Quantised keys and values: a hook around the hook.

Values, and keys if so wished, are quantised token by token and head by head. Keys have a few large channels, so that a
scale for each channel over a group of tokens is much better for them (Liu et al., KIVI, arXiv 2402.02750). A group is
quantised once it is complete and another token follows; the keys of later tokens stay as they are. Each query sees what
was quantised at its time, so that decoding token by token equals prefill.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from pim.llm_workloads.attention import Matmul
from pim.llm_workloads.formats.format import Format, quantised
from pim.llm_workloads.formats.names import parse_format


def quantised_cache(matmul: Matmul, keys: str | Format | None = None, values: str | Format | None = None) -> Matmul:
    """The hook with keys (after rotation by position) and values quantised.

    Args:
        matmul: the hook that computes, such as `transformer.digital_matmul`.
        keys: a format or its name: "int4:token" (and head), "int4:group32" (channels of a head), "int2_min:channel32"
            (each channel over 32 tokens), "mxfp4"; None: exact.
        values: likewise.

    Raises:
        WorkloadError: a format that makes no sense for keys and values.

    Example:
        >>> kivi = quantised_cache(digital_matmul, keys="int2_min:channel32", values="int2_min:group32")
        >>> forward(config, params, tokens, matmul=kivi)
    """
    of_keys, of_values = (parse_format(f, "cache") if isinstance(f, str) else f for f in (keys, values))

    def hook(operator: str, w: Any, x: Array, ids: Array) -> Array:
        if operator == "attention.qk" and of_keys is not None:
            return with_keys(matmul, of_keys, w, x, ids)
        if operator == "attention.pv" and of_values is not None:
            return with_values(matmul, of_values, w, x, ids)
        return matmul(operator, w, x, ids)

    return hook


def with_keys(
    matmul: Matmul,
    how: Format,
    w: Float[Array, "batch kv_heads head_dim slots"],
    x: Float[Array, "batch kv_heads rows head_dim"],
    ids: UInt32[Array, "batch time 2"],
) -> Float[Array, "batch kv_heads rows slots"]:
    """Scores of queries with quantised keys."""
    if how.per != "channel":
        return matmul("attention.qk", quantised(w, how, -2), x, ids)
    old = matmul("attention.qk", quantised(w, how, -1), x, ids)
    return jnp.where(complete(how, w.shape[-1], x.shape[2], ids), old, matmul("attention.qk", w, x, ids))


def with_values(
    matmul: Matmul,
    how: Format,
    w: Float[Array, "batch kv_heads slots head_dim"],
    x: Float[Array, "batch kv_heads rows slots"],
    ids: UInt32[Array, "batch time 2"],
) -> Float[Array, "batch kv_heads rows head_dim"]:
    """Mixed values, which are quantised."""
    if how.per != "channel":
        return matmul("attention.pv", quantised(w, how, -1), x, ids)
    old = complete(how, w.shape[2], x.shape[2], ids)
    mixed = matmul("attention.pv", quantised(w, how, -2), jnp.where(old, x, 0.0), ids)
    return mixed + matmul("attention.pv", w, jnp.where(old, 0.0, x), ids)


def complete(
    how: Format, slots: int, rows: int, ids: UInt32[Array, "batch time 2"]
) -> Bool[Array, "batch 1 rows slots"]:
    """Which slots are of groups of tokens that were complete before the token of each row."""
    assert how.size is not None, "parse_format lets no channel of a cache pass without its number of tokens"
    ends = (jnp.arange(slots, dtype=jnp.int32) // how.size + 1) * how.size
    position = jnp.tile(ids[:, :, 1].astype(jnp.int32), (1, rows // ids.shape[1]))
    return (ends[None, None, :] <= position[:, :, None])[:, None]
