"""One layer of a plan while it is in memory: its matrices as they go to their devices, and the step through it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from pim.devices.digital_macro import DigitalMacro
from pim.devices.holder import Holder
from pim.devices.macro import AnalogMacro
from pim.devices.random import name_id
from pim.emulation import formulation_of, functions_of, hook, written_operators
from pim.holding import reading_time
from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import layer_path
from pim.mapping.plan import Plan
from pim.streamed_product import Unprogrammed


def placed_layer(
    plan: Plan, index: int, layer: Mapping[str, Any], *, nominal: bool = False, time: float | None = None
) -> dict[str, Any]:
    """A layer's parameters, each matrix on an analog device or a holder as one that is to be programmed there.

    Args:
        plan: where each operator goes.
        index: of the layer.
        layer: its parameters, as `transformer.layer_step` takes them.
        nominal: for a product without any error, on which ranges are found.
        time: s since programming; by default each device's reference time.
    """
    found = dict(layer)
    for operator in plan.config.static:
        found[operator] = _placed(plan, layer_path(index, operator), index, operator, layer[operator], nominal, time)
    one = range(index, index + 1)
    beside = {**written_operators(plan, one, time, nominal=nominal), **functions_of(plan, one)}
    return found | jax.tree.map(lambda leaf: leaf[0], beside)


def placed_outer(
    plan: Plan, params: Mapping[str, Any], *, nominal: bool = False, time: float | None = None
) -> dict[str, Any]:
    """The parameters outside the layers, likewise."""
    found, behind = dict(params), plan.config.num_hidden_layers
    for path in plan.config.outer_shapes:
        if isinstance(plan.model_of(path), AnalogMacro | Holder):
            weights = transformer.head_matrix(params) if path == "head" else params[path]
            found[path] = _placed(plan, path, behind, path, weights, nominal, time)
    return found


def _placed(plan: Plan, path: str, index: int, operator: str, weights: Array, nominal: bool, time: float | None) -> Any:
    model = plan.model_of(path)
    at = jnp.int32(index), jnp.asarray(np.uint32(name_id(operator)))
    if isinstance(model, Holder):
        if isinstance(model, DigitalMacro):
            model.check_bits()
        return Unprogrammed(weights, *at, device=plan.assignment[path])
    if not isinstance(model, AnalogMacro):
        return weights
    ranges = None if nominal else plan.ranges.get(path)
    how = formulation_of(model, weights.shape[0], nominal, ranges)
    return Unprogrammed(weights, *at, reading_time(model, time), ranges, plan.assignment[path], how)


@partial(jax.jit, static_argnums=0)
def through_layer(
    config: ModelConfig,
    layer: Mapping[str, Any],
    devices: Mapping[str, Any],
    x: Float[Array, "batch time hidden"],
    documents: UInt32[Array, " batch"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch time hidden"]:
    """The residual stream of whole sequences behind one layer, of the exact model or on a chip (`hook`)."""
    cache = jax.tree.map(lambda leaf: leaf[0], transformer.init_cache(config, x.shape[0], 0, documents))
    return transformer.layer_step(config, layer, x, cache, hook(devices, key))[0]
