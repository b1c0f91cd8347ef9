"""Normalisation of vectors by the root mean square, or by mean and deviation.

Sources: Zhang and Sennrich, arXiv 1910.07467 (RMSNorm); Ba et al., arXiv 1607.06450 (LayerNorm).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.llm_workloads.config import Norm


def normed(norm: Norm, x: Float[Array, "*rows n"], weights: Mapping[str, Any], name: str) -> Float[Array, "*rows n"]:
    """`x` normalised over its last axis, times the gain `weights[name]`, plus `weights[name + ".bias"]` if there."""
    lead = (None,) * (x.ndim - 1)
    gain = weights[name][lead]
    gain = 1.0 + gain if norm.one_added else gain
    if norm.kind == "layer":
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + norm.eps) * gain
    bias = weights.get(f"{name}.bias")
    return y if bias is None else y + bias[lead]
