"""Attention of a model on an engine of gain cells: which layers have it there, and what must hold."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from pim.devices.gain_attention import GainAttention
from pim.errors import StudyError
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.mapping.plan import Plan

SCALES = ("query", "key", "value", "output")
"""Parts of an engine that may differ by layer and head."""


def engine_of(plan: Plan, layers: range) -> GainAttention | None:
    """What computes the attention of a run of layers on gain cells, with a leading axis of layers; None: elsewhere.

    The scales of the engine are one number for all, one for each head, or [layers of the model, heads].

    Raises:
        StudyError: one of the two products of attention alone is on the engine, or a matrix of weights, or the model's
            attention is not what it computes.
        DeviceError: a head wider than its arrays.
    """
    names = {operator: plan.assignment[layer_path(layers.start, operator)] for operator in DYNAMIC}
    models = {operator: plan.system.devices[name].model for operator, name in names.items()}
    for operator in plan.config.static:
        _check_weights(plan, layer_path(layers.start, operator))
    engines = [model for model in models.values() if isinstance(model, GainAttention)]
    if not engines:
        return None
    if len(set(names.values())) != 1:
        told = " and ".join(f"{operator} to {name!r}" for operator, name in names.items())
        raise StudyError(
            f"layer {layers.start} sends {told}: gain cells compute attention as a whole, without a softmax between "
            "its products; send both to the engine or neither"
        )
    _check_attention(plan, names[DYNAMIC[0]])
    engine = engines[0]
    engine.check_head(plan.config.head_dim)
    scales = {name: _by_layer(getattr(engine, name), layers) for name in SCALES}
    rest = jax.tree.map(lambda leaf: _repeated(leaf, layers), replace(engine, **dict.fromkeys(SCALES)))
    return replace(rest, **scales)


def _by_layer(scale, layers: range):
    """The scales of some layers: those of the model's layers, or the same for all."""
    ends = slice(layers.start, layers.stop)
    return jax.tree.map(lambda leaf: leaf[ends] if jnp.ndim(leaf) == 2 else _repeated(leaf, layers), scale)


def _repeated(leaf, layers: range):
    return jnp.broadcast_to(leaf, (len(layers), *jnp.shape(leaf)))


def _check_weights(plan: Plan, path: str) -> None:
    """A matrix of weights is not on an engine."""
    if isinstance(plan.model_of(path), GainAttention):
        raise StudyError(
            f"{path} is a matrix of weights, but goes to {plan.assignment[path]!r}, which computes attention alone: "
            "add a rule that sends it elsewhere"
        )


def _check_attention(plan: Plan, name: str) -> None:
    """The model's attention looks back, over plain scores."""
    attention = plan.config.attention
    if not attention.causal:
        raise StudyError(
            f"{name}: a {plan.config.family} model reads both ways, but gain cells keep the tokens that were: "
            "send its attention to a digital device"
        )
    if attention.softcap is not None:
        raise StudyError(
            f"{name}: the scores of a {plan.config.family} model are bent by a soft cap, which gain cells do not do: "
            "send its attention to a digital device"
        )
