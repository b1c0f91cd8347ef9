"""A model on its devices: programming every matrix of a plan, and the hook that runs its products there."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from pim import crossbar, stored_keys, streamed_product, written
from pim.crossbar import Crossbar
from pim.devices.activation_table import ActivationTable
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.holder import Holder
from pim.devices.kv_store import KeyValueStore
from pim.devices.macro import AnalogMacro
from pim.devices.number_format import rounded
from pim.devices.random import name_id, site_key
from pim.devices.record import part, record, static
from pim.errors import StudyError
from pim.formulation import ANALOG, Formulation, choose
from pim.gain_attention import engine_of
from pim.holding import reading_time
from pim.llm_workloads.checkpoint import NO_WINDOW
from pim.llm_workloads.config import Kept
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.llm_workloads.transformer import Matmul, Stateless, digital_matmul, head_matrix
from pim.mapping.formatted import Formatted
from pim.mapping.plan import Plan
from pim.mapping.stores import holding_store
from pim.ranges import Ranges
from pim.stored_keys import Stored
from pim.streamed_product import Unprogrammed
from pim.sum_grid import check_pedestal
from pim.tile_programming import program_tiles
from pim.written import Written, takes_activations
from pim.written_arrays import check_macro

WEIGHTS_OF_VALUES = DYNAMIC[1]
"""The product whose inputs are never negative: weights of a softmax."""


@record
class Held:
    """A matrix, or a run of them, that a digital device has in its own format."""

    content: object = part("what the device stores of the matrix")
    device: str = static("name of the device in its system")


def macros(plan: Plan) -> dict[str, AnalogMacro]:
    """The analog devices of a plan's system, by name: what jitted code needs of them."""
    models = {name: device.model for name, device in plan.system.devices.items()}
    return {name: model for name, model in models.items() if isinstance(model, AnalogMacro)}


def emulated(plan: Plan) -> dict[str, Any]:
    """The devices of a plan's system that compute otherwise than the exact model: analog macros, holders and stores.

    Raises StudyError for a plan whose queries score inputs or a share of the tokens, which nothing here computes.
    """
    if plan.config.attention.attended < 1:
        raise StudyError("a share of the scores is priced, not emulated: take a system with attended = 1")
    if plan.config.attention.scored != "keys":
        raise StudyError("queries that score inputs are priced, not emulated: take a system with scored = 'keys'")
    models = {name: device.model for name, device in plan.system.devices.items()}
    return {name: model for name, model in models.items() if isinstance(model, AnalogMacro | Holder | KeyValueStore)}


def hook(devices: Mapping[str, Any], key: Key[Array, ""] | None) -> Matmul:
    """The hook that runs matrices on their device (see `emulated`) and all other products exactly.

    `key` is that of the chip's reads, and of the cells of matrices that are still to be programmed; None reads without
    noise.
    """

    @Stateless
    def matmul(operator: str, w: Any, x: Array, ids: Array) -> Array:
        if isinstance(w, Stored):
            return stored_keys.product(w, devices, operator, x, ids, key)
        if isinstance(w, Written):
            return written.product(w, devices[w.device], operator, x, ids, key)
        if not isinstance(w, Crossbar | Held | Unprogrammed):
            return digital_matmul(operator, w, x, ids)
        flat, rows = x.reshape(-1, x.shape[-1]), ids.reshape(-1, 2)
        if isinstance(w, Held):
            y = devices[w.device].multiply(w.content, flat)
        elif isinstance(w, Unprogrammed):
            y = streamed_product.matmul(w, devices[w.device], flat, rows, key)
        else:
            y = crossbar.matmul(w, devices[w.device], flat, rows, key)
        return y.reshape(*x.shape[:-1], -1)

    return matmul


@record
class TabledSilu:
    """SiLU through the table that a device has at its banks: its own, or the sigmoid's, multiplied there by x."""

    table: ActivationTable = part("table of SiLU or of the sigmoid")

    def __call__(self, x: Array) -> Array:
        """What comes out for values of any shape."""
        return self.table(x) if self.table.function == "silu" else rounded(x * self.table(x), self.table.result)


def activation_of(plan: Plan, layers: range) -> TabledSilu | None:
    """The activation of a run of layers where their gates' device has a table for it, with a leading axis of layers."""
    ffn = plan.config.ffn
    front = "ffn.experts.0" if ffn.experts else "ffn"
    path = layer_path(layers.start, f"{front}.gate" if ffn.gated else f"{front}.up")
    table = getattr(plan.model_of(path), "activation", None)
    if table is None:
        return None
    if ffn.activation != "silu" or table.function not in ("silu", "sigmoid"):
        raise StudyError(
            f"{plan.assignment[path]}: the model's activation is {ffn.activation!r}, but activation.function is "
            f"{table.function!r}: take silu, sigmoid (multiplied by its input at the banks; both for 'silu' alone) or, "
            "for an exact one, activation = none"
        )
    return TabledSilu(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(layers), *leaf.shape)), table))


FUNCTIONS = ("ffn.activation", "attention.engine")
"""Entries of a layer that take the place of the model's own functions."""


def functions_of(plan: Plan, layers: range) -> dict[str, Any]:
    """Those of `FUNCTIONS` that devices have for a run of layers, with a leading axis of layers, and what is kept of a
    context where a store keeps less than all."""
    found = dict(zip(FUNCTIONS, (activation_of(plan, layers), engine_of(plan, layers)), strict=True))
    return {name: function for name, function in found.items() if function is not None} | _kept_tokens(plan, layers)


def _kept_tokens(plan: Plan, layers: range) -> dict[str, Array]:
    """The entries "attention.window" and "attention.sinks" of a run of layers, if a store has a window."""
    if plan.config.attention.kept is None:
        return {}
    each = [plan.config.seen(layer) or Kept(NO_WINDOW) for layer in layers]
    window, sinks = zip(*each, strict=True)
    return {"attention.window": jnp.asarray(window, jnp.int32), "attention.sinks": jnp.asarray(sinks, jnp.int32)}


def check_devices(plan: Plan) -> None:
    """Raise DeviceError for devices on which the products of the plan's model cannot be computed as they are meant."""
    for name, macro in macros(plan).items():
        mine = {path for path, device in plan.assignment.items() if device == name}
        if macro.dac.code == "unsigned" and not all(path.endswith(WEIGHTS_OF_VALUES) for path in mine):
            raise DeviceError(
                f"{name}: dac.code = 'unsigned' drives nothing below zero, but activations of a language model have "
                "either sign: take dac.code = 'sign_magnitude'"
            )
        check_pedestal(macro)
        if any(path.endswith(DYNAMIC) for path in mine):
            check_macro(macro, name)
    if plan.config.attention.causal:
        return
    for name in {plan.assignment[layer_path(i, o)] for i in range(plan.config.num_hidden_layers) for o in DYNAMIC}:
        model = plan.system.devices[name].model
        if isinstance(model, Formatted) and model.by_channel():
            raise DeviceError(
                f"{name}: {' and '.join(model.by_channel())} with a scale for each channel over past tokens, but a "
                f"{plan.config.family} model reads both ways: take a scale a token, such as int4:token"
            )


def program_model(plan: Plan, key: Key[Array, ""] | None, time: float | None = None) -> dict[str, Any]:
    """The parameters of a plan's model with every matrix that goes to an analog device or a holder programmed there.

    Args:
        plan: with a model.
        key: key of the chip; without one it is nominal, without write error, drift and faults.
        time: s since programming; by default each device's reference time.

    Returns a tree like the model's own, split into the plan's segments, for `transformer.forward` with `hook`.
    """
    assert plan.model is not None, "a plan of a config alone has no weights to program"
    check_devices(plan)
    params = plan.model.params
    (digital,) = params["segments"]
    segments = []
    for layers in plan.segments():
        segment = jax.tree.map(lambda leaf, a=layers.start, b=layers.stop: leaf[a:b], digital)
        for operator in plan.config.static:
            programmed = _program_run(plan, operator, layers, segment[operator], key, time)
            segment[operator] = segment[operator] if programmed is None else programmed
        segments.append({**segment, **written_operators(plan, layers, time), **functions_of(plan, layers)})
    outer = {path: _program_outer(plan, path, params, key, time) for path in plan.config.outer_shapes}
    return {**params, "segments": segments, **{path: held for path, held in outer.items() if held is not None}}


def written_operators(
    plan: Plan, layers: range, time: float | None = None, *, nominal: bool = False
) -> dict[str, Written | Stored]:
    """What stands, in a run of layers, for the products of two activations that a device has its own way with, or
    whose keys and values are in a store.

    Args:
        plan: where each operator goes.
        layers: which, all on the same devices.
        time: s since programming; by default each device's reference time.
        nominal: without converter ranges, which are to be found, and without stores.
    """
    found: dict[str, Written | Stored] = {}
    for operator in DYNAMIC:
        name = plan.assignment[layer_path(layers.start, operator)]
        device = (
            _written(plan, operator, layers, time, nominal)
            if takes_activations(plan.system.devices[name].model)
            else None
        )
        store = None if nominal else holding_store(plan.system, name)
        if store is not None:
            found[operator] = Stored(store, device, **_numbers(operator, layers))
        elif device is not None:
            found[operator] = device
    return found


def _written(plan: Plan, operator: str, layers: range, time: float | None, nominal: bool) -> Written:
    path = layer_path(layers.start, operator)
    model = plan.model_of(path)
    if isinstance(model, DigitalMacro):
        model.check_bits()
    when = reading_time(model, time) if isinstance(model, AnalogMacro) else None
    return Written(
        plan.assignment[path],
        time=None if when is None else jnp.broadcast_to(when, len(layers)),
        ranges=None if nominal else stacked_ranges(plan, operator, layers),
        **_numbers(operator, layers),
    )


def _numbers(operator: str, layers: range) -> dict[str, Array]:
    """What names the products of an operator in a run of layers, for the keys of noise."""
    return {
        "layer": jnp.arange(layers.start, layers.stop, dtype=jnp.int32),
        "operator": jnp.full(len(layers), np.uint32(name_id(operator))),
    }


def stacked_ranges(plan: Plan, operator: str, layers: range) -> Ranges | None:
    """The converter ranges of an operator in a run of layers; None where one has none."""
    ranges = [plan.ranges.get(layer_path(i, operator)) for i in layers]
    return None if None in ranges else jax.tree.map(lambda *r: jnp.stack(r), *ranges)


def _program_run(plan: Plan, operator: str, layers: range, weights: Array, key, time) -> Crossbar | Held | None:
    """The matrices of one operator in a run of layers, on the run's device; None if that is exact."""
    path = layer_path(layers.start, operator)
    macro, name = plan.model_of(path), np.uint32(name_id(operator))
    index = jnp.arange(layers.start, layers.stop, dtype=jnp.int32)
    if isinstance(macro, Holder):
        return Held(_hold_layers(weights, index, macro, key, name), plan.assignment[path])
    if not isinstance(macro, AnalogMacro):
        return None
    stacked, when = stacked_ranges(plan, operator, layers), reading_time(macro, time)
    how = formulation_of(macro, weights.shape[1], key is None, stacked)
    return _program_layers(weights, index, stacked, macro, key, when, name, plan.assignment[path], how)


def _program_outer(plan: Plan, path: str, params: Mapping[str, Any], key, time) -> Crossbar | Held | None:
    """A matrix behind the layers on its device; None if that is exact."""
    macro, name = plan.model_of(path), np.uint32(name_id(path))
    if not isinstance(macro, AnalogMacro | Holder):
        return None
    weights = head_matrix(params) if path == "head" else params[path]
    layer = jnp.asarray([plan.config.num_hidden_layers], jnp.int32)
    if isinstance(macro, Holder):
        run = Held(_hold_layers(weights[None], layer, macro, key, name), plan.assignment[path])
    else:
        ranges = plan.ranges.get(path)
        stacked = None if ranges is None else jax.tree.map(lambda r: r[None], ranges)
        when = reading_time(macro, time)
        how = formulation_of(macro, weights.shape[0], key is None, stacked)
        run = _program_layers(weights[None], layer, stacked, macro, key, when, name, plan.assignment[path], how)
    return jax.tree.map(lambda leaf: leaf[0], run)


def formulation_of(macro: AnalogMacro, n_in: int, nominal: bool, ranges: Ranges | None) -> Formulation:
    """The fastest way to the product; of the nominal matrix, on which ranges are found, the one by its cells."""
    return ANALOG if nominal else choose(macro, n_in, calibrated=ranges is not None)


def _hold_layers(weights: Float[Array, "layers n_in n_out"], layers: Array, model: Any, key, operator) -> Any:
    if isinstance(model, DigitalMacro):
        model.check_bits()
    return _held_layers(weights, layers, model, key, operator)


@jax.jit
def _held_layers(weights: Float[Array, "layers n_in n_out"], layers: Array, model: Any, key, operator) -> Any:
    def one(args):
        w, layer = args
        if key is None:
            return model.hold(w, None)
        return model.hold(w, lambda use: site_key(key, layer=layer, operator=operator, use=use))

    return jax.lax.map(one, (weights, layers))


@partial(jax.jit, static_argnames=("device", "formulation"))
def _program_layers(
    weights: Float[Array, "layers n_in n_out"],
    layers: Array,
    ranges: Ranges | None,
    macro: AnalogMacro,
    key,
    time,
    operator,
    device: str,
    formulation: Formulation,
) -> Crossbar:
    def one(args):
        w, layer, r = args
        return program_tiles(
            w, macro, key, time, layer=layer, operator=operator, device=device, ranges=r, formulation=formulation
        )

    return jax.lax.map(one, (weights, layers, ranges))
