"""What each group of operators loses on each device: nats a token more than the exact model, the group alone there.

All that a device can have is programmed on one chip; for each group in turn its products are taken from the chip and
all others from the exact model. One compiled program serves all groups of a device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from pim.calibration import calibrate
from pim.costs.ledger import kind
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.gain_attention import GainAttention
from pim.devices.holder import Holder
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.random import chip_key, root_key
from pim.devices.record import leaf, part, record, static
from pim.emulation import FUNCTIONS, emulated, hook, program_model
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.feed_forward import FUNCTIONS as ACTIVATIONS
from pim.llm_workloads.model import Model
from pim.llm_workloads.operators import DYNAMIC
from pim.llm_workloads.text import Batch, ScoredText
from pim.llm_workloads.transformer import Matmul, Stateless, digital_matmul, forward, head_matrix
from pim.mapping.errors import MappingError
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.placement.groups import Group
from pim.plan_checks import check_calibrated, check_finite, check_text, needs_ranges
from pim.scoring import by_sequence, cut_batches, score
from pim.token_sums import token_sums

EXACT = "exact"
"""The device of all that is not measured."""


@record
class Either:
    """A matrix, or a function, as a device has it and as the exact model does."""

    placed: Any = part("as the device has it")
    exact: Any = part("the exact one; None until it is known, or of a function")
    on: Float[Array, "*layers"] = leaf("1", "1: the device's is used")
    activation: str = static("the exact function", default="")

    def of(self, matrix: Array) -> "Either":
        """The same for keys or values."""
        return replace(self, placed=self.placed.of(matrix), exact=matrix)

    def __call__(self, x: Array) -> Array:
        """A function's value."""
        return jnp.where(self.on > 0, self.placed(x), ACTIVATIONS[self.activation](x))


def either_hook(devices: Mapping[str, Any], key: Key[Array, ""] | None) -> Matmul:
    """The hook that takes each product from the chip or from the exact model, whichever is on."""
    placed = hook(devices, key)

    @Stateless
    def matmul(operator: str, w: Any, x: Array, ids: Array) -> Array:
        if not isinstance(w, Either):
            return placed(operator, w, x, ids)
        return jnp.where(w.on > 0, placed(operator, w.placed, x, ids), digital_matmul(operator, w.exact, x, ids))

    return matmul


def group_losses(
    model: Model, system: System, groups: Sequence[Group], text: ScoredText, *,
    calibration: str | ScoredText | None, context: int, chips: int, seed: int,
) -> tuple[Float[np.ndarray, "groups devices"], list[dict[str, str]]]:  # fmt: skip
    """The loss of each group on each device, and by group why a device cannot have it after all.

    Args:
        model: with weights.
        system: the devices.
        groups: see `groups_of`.
        text: the text to score.
        calibration: on which converter ranges are found, where a device needs any.
        context: tokens a sequence, of the calibration.
        chips: over which losses are means.
        seed: of chips and reads.

    Returns:
        Losses, never below 0, which is what exact devices lose; and reasons.

    Raises:
        StudyError: ranges are needed, and there is no calibration text.
    """
    losses, refused = np.zeros((len(groups), len(system.devices))), [{} for _ in groups]
    for number, (name, device) in enumerate(system.devices.items()):
        mine = [g for g, group in enumerate(groups) if any(number in way for way in group.ways)]
        if not isinstance(device.model, AnalogMacro | Holder | GainAttention) or not mine:
            continue
        measure = partial(_device_losses, model, name, device, text=text, calibration=calibration, context=context,
                          chips=chips, seed=seed)  # fmt: skip
        try:
            losses[mine, number] = measure([groups[g] for g in mine])
        except (DeviceError, MappingError, StudyError):  # of which of them? each alone
            for g in mine:
                try:
                    losses[g, number] = measure([groups[g]])[0]
                except (DeviceError, MappingError) as error:
                    refused[g][name] = str(error)
    return np.maximum(losses, 0.0), refused


def _device_losses(
    model: Model, name: str, device: Device, groups: Sequence[Group], *,
    text: ScoredText, calibration: Any, context: int, chips: int, seed: int,
) -> list[float]:  # fmt: skip
    """The losses of the groups that a device can have."""
    plan = _alone(model, name, device, groups)
    plan = calibrated(plan, calibration, context)
    check_text(plan, text)
    if isinstance(device.model, GainAttention):  # both of its groups are the engine's: half of the loss each
        return [measured_loss(plan, text, chips=chips, seed=seed) / len(groups)] * len(groups)
    batches, root = cut_batches(text, model.config.vocab_size), root_key(seed)
    found = np.zeros(len(groups) + 1)
    for chip in range(chips):
        key = chip_key(root, chip)
        params = program_model(plan, key)
        for i, group in enumerate([None, *groups]):
            either = _with_either(plan, params, () if group is None else group.kinds)
            found[i] += _loss(model.config, either, emulated(plan), batches, key)
    return list((found[1:] - found[0]) / chips / text.scored_tokens().sum())


def _alone(model: Model, name: str, device: Device, groups: Sequence[Group]) -> Plan:
    """A model with some groups on a device, and all else exact."""
    exact = Device(EXACT, "ideal", "the exact product", Ideal(), {}, {})
    kinds = [each for group in groups for each in group.kinds]
    plan = place(model, System({EXACT: exact, name: device}))
    assignment = {path: name if kind(path) in kinds else EXACT for path in plan.assignment}
    return replace(plan, assignment=assignment)


def calibrated(plan: Plan, calibration: Any, context: int) -> Plan:
    """The plan with the ranges that it needs; raises StudyError where there is no text to find them on."""
    if not needs_ranges(plan):
        return plan
    if calibration is None:
        check_calibrated(plan)  # it is not, which is said there
        return plan
    return calibrate(plan, calibration, context=context)


def measured_loss(plan: Plan, text: ScoredText, *, chips: int, seed: int) -> float:
    """Nats a token that a plan loses beyond the exact model, mean over chips."""
    scores = score([plan], text, chips=chips, seed=seed, progress=False)
    check_finite(scores)
    return float((scores.nll.sum(axis=-1).mean() - scores.digital.sum()) / scores.tokens.sum())


def _with_either(plan: Plan, params: Any, kinds: Sequence[str]) -> Any:
    """A programmed model whose matrices and functions of some kinds are used, and the exact ones of all others."""
    assert plan.model is not None
    exact, layers = plan.model.params, plan.config.num_hidden_layers
    on = lambda name: jnp.full(layers, float(kind(name) in kinds), jnp.float32)
    (digital,), (segment,) = exact["segments"], params["segments"]
    gate = "ffn.experts.0" if plan.config.ffn.experts else "ffn"
    first = f"{gate}.gate" if plan.config.ffn.gated else f"{gate}.up"
    mixed = dict(segment)
    for operator in (*plan.config.static, *DYNAMIC):
        if operator in segment and segment[operator] is not digital.get(operator):
            mixed[operator] = Either(segment[operator], digital.get(operator), on(operator))
    if FUNCTIONS[0] in segment:
        mixed[FUNCTIONS[0]] = Either(segment[FUNCTIONS[0]], None, on(first), plan.config.ffn.activation)
    outer = {}
    for path in plan.config.outer_shapes:
        if path in params and params[path] is not exact.get(path):
            whole = head_matrix(exact) if path == "head" else exact[path]
            outer[path] = Either(params[path], whole, jnp.float32(kind(path) in kinds))
    return {**params, "segments": [mixed], **outer}


def _loss(
    config: ModelConfig, params: Any, devices: Mapping[str, Any], batches: Sequence[Batch], key: Key[Array, ""]
) -> float:
    """Nats over all scored tokens."""
    sums = (_nll(config, params, devices, batch.tokens, batch.documents, batch.scored, key) for batch in batches)
    return float(by_sequence(batches, ({"nll": each} for each in sums))["nll"].sum())


@partial(jax.jit, static_argnums=0)
def _nll(
    config: ModelConfig,
    params: Any,
    devices: Mapping[str, Any],
    tokens: Int[Array, "batch time"],
    documents: Array,
    scored: Float[Array, "batch time-1"],
    key: Key[Array, ""],
) -> Float[Array, " batch"]:
    logits = forward(config, params, tokens, documents=documents, matmul=either_hook(devices, key))
    logits = jax.nn.log_softmax(logits)
    return token_sums(logits, logits, tokens, scored)["nll"]
