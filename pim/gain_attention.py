"""Attention of a model on an engine of gain cells: what a run of its layers has in place of the softmax."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from pim.devices.gain_attention import GainAttention, HeadScale
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.mapping.plan import Plan

SCALES = ("query", "key", "value", "output")
"""Parts of an engine that may differ by layer and head."""


def engine_of(plan: Plan, layers: range) -> GainAttention | None:
    """What computes the attention of a run of layers on gain cells, with a leading axis of layers; None: elsewhere.

    The scales of the engine are one number for all, one for each head, or [layers of the model, heads].
    """
    engine = plan.model_of(layer_path(layers.start, DYNAMIC[0]))
    if not isinstance(engine, GainAttention):
        return None
    scales = {name: _by_layer(getattr(engine, name), layers) for name in SCALES}
    rest = jax.tree.map(lambda leaf: _repeated(leaf, layers), replace(engine, **dict.fromkeys(SCALES)))
    return replace(rest, **scales)


def _by_layer(scale: HeadScale, layers: range) -> HeadScale:
    """The scales of some layers: those of the model's layers, or the same for all."""
    ends = slice(layers.start, layers.stop)
    return jax.tree.map(lambda leaf: leaf[ends] if jnp.ndim(leaf) == 2 else _repeated(leaf, layers), scale)


def _repeated(leaf, layers: range):
    return jnp.broadcast_to(leaf, (len(layers), *jnp.shape(leaf)))
