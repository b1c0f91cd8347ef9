"""Calibration: the static ranges of input and output converters, found on text that is not scored.

The model runs exactly, layer by layer; at each matrix on an analog device the inputs are driven into the nominal array,
and the ranges that hold the given percentile of inputs and of column sums become leaves of the plan. So do the
statistics that its energy depends on, also those of matrices in digital macros. Keys and values in analog arrays have
ranges too, one for all heads of a layer.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pim import crossbar
from pim.costs.digital_operands import DigitalOperands, measure_digital_operands
from pim.costs.operands import Operands, measure_operands
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.emulation import FUNCTIONS, check_devices, emulated, macros
from pim.errors import StudyError
from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import layer_path
from pim.llm_workloads.quantisation.layerwise import CALIBRATION_TOKENS
from pim.llm_workloads.text import ScoredText, as_scored
from pim.llm_workloads.transformer import Matmul
from pim.mapping.plan import Plan
from pim.ranges import Ranges
from pim.streamed_product import Unprogrammed
from pim.streaming.layers import placed_layer, placed_outer
from pim.streaming.source import outer_parameters, source_of
from pim.tile_programming import program_tiles
from pim.written import Written
from pim.written_ranges import written_ranges

Found = tuple[Ranges | None, Operands | DigitalOperands | None]
"""What is found for a matrix; of keys and values there are no statistics."""


def calibrate(plan: Plan, text: str | ScoredText, *, context: int = 256, tokens: int = CALIBRATION_TOKENS) -> Plan:
    """The plan with converter ranges, and operand statistics, found on a text.

    Args:
        plan: with a model.
        text: text that will not be scored: `evaluate` refuses a text that overlaps it.
        context: tokens a sequence.
        tokens: about how many tokens are used.

    Raises StudyError if the plan has no weights.
    """
    if plan.model is None:
        raise StudyError("this plan was placed from a config alone; calibration needs the model's weights")
    sample = as_scored(text, plan.model.tokenizer, context=context, max_tokens=tokens)
    check_devices(plan)
    source, devices = source_of(plan.model), emulated(plan)
    found: dict[str, Found] = {}
    front = source.outer(without=("embed", "head"))
    x = transformer.embedded(plan.config, front, jnp.asarray(source.embed_rows(sample.tokens)))
    valid = jnp.asarray(sample.valid_tokens())
    for index in range(plan.config.num_hidden_layers):
        layer = placed_layer(plan, index, jax.tree.map(jnp.asarray, dict(source.layer(index))), nominal=True)
        x, stats = _layer(plan.config, layer, devices, x, valid)
        found |= {layer_path(index, operator): stat for operator, stat in stats.items()}
    behind = jax.tree.map(jnp.asarray, dict(outer_parameters(source)))
    found |= _outer(plan.config, placed_outer(plan, behind, nominal=True), devices, x, valid)
    record = {
        "sha256": sample.sha256,
        "tokens": int(valid.sum()),
        "context": sample.context,
        "protocol": sample.protocol,
        "percentiles": percentiles(plan),
    }
    return replace(
        plan,
        ranges={path: ranges for path, (ranges, _) in found.items() if ranges is not None},
        operands={path: operands for path, (_, operands) in found.items() if operands is not None},
        calibration={**record, "text": sample},
    )


def percentiles(plan: Plan) -> dict[str, dict[str, float | None]]:
    """The percentiles of the inputs and of the sums, by device, that calibration of this plan goes by."""
    return {
        name: {"input": float(macro.dac.percentile), "adc": None if macro.adc is None else float(macro.adc.percentile)}
        for name, macro in macros(plan).items()
    }


@partial(jax.jit, static_argnums=0)
def _layer(config: ModelConfig, layer: Any, devices: Any, x: Array, valid: Array):
    """One exact layer, and what its inputs do to the nominal arrays."""
    stats: dict[str, Found] = {}
    exact = {name: value for name, value in layer.items() if name not in FUNCTIONS}
    y, _ = transformer.layer_step(
        config, exact, x, transformer.layer_cache(config, valid), _observer(devices, valid, stats)
    )
    return y, stats


@partial(jax.jit, static_argnums=0)
def _outer(config: ModelConfig, params: Any, devices: Any, x: Array, valid: Array):
    """What is found for the matrices behind the layers."""
    stats: dict[str, Found] = {}
    hidden, ids = transformer.final_norm(config, params, x), jnp.zeros((*x.shape[:2], 2), jnp.uint32)
    if config.outer_shapes:
        transformer.read_out(config, params, hidden, ids, _observer(devices, valid, stats))
    return stats


def _observer(devices: Any, valid: Array, stats: dict[str, Found]) -> Matmul:
    """The exact products, with what their inputs do to the nominal arrays put into `stats`."""

    def observe(operator: str, w: Any, inputs: Array, ids: Array) -> Array:
        if isinstance(w, Written):
            if isinstance(device := devices.get(w.device), AnalogMacro):
                stats[operator] = written_ranges(device, operator, w.content, inputs, valid), None
            return transformer.digital_matmul(operator, w.content, inputs, ids)
        if not isinstance(w, Unprogrammed):
            return transformer.digital_matmul(operator, w, inputs, ids)
        device = devices[w.device]
        if isinstance(device, AnalogMacro | DigitalMacro):
            stats[operator] = _measure(w.weights, device, inputs, valid)
        return transformer.digital_matmul(operator, w.weights, inputs, ids)

    return observe


def _measure(weights: Array, device: AnalogMacro | DigitalMacro, x: Array, valid: Array) -> Found:
    """Ranges and statistics on the valid tokens: padding is replaced by copies of the first token.

    A digital macro has no ranges.
    """
    flat = x.reshape(-1, x.shape[-1])
    flat = jnp.where(valid.reshape(-1)[:, None], flat, flat[:1])
    if isinstance(device, DigitalMacro):
        return None, measure_digital_operands(device.hold(weights, None), device, flat)
    nominal = program_tiles(weights, device, None, None)
    ranges = crossbar.calibrate(nominal, device, flat)
    return ranges, measure_operands(replace(nominal, ranges=ranges), device, flat)
