"""Calibration: the static ranges of input and output converters, found on text that is not scored.

The model runs exactly, layer by layer; at each matrix on an analog device the inputs are driven into the nominal array,
and the ranges that hold the given percentile of inputs and of column sums become leaves of the plan. So do the
statistics that its energy depends on, also those of matrices in digital macros.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pim import crossbar
from pim.costs.digital_operands import DigitalOperands, measure_digital_operands
from pim.costs.operands import Operands, measure_operands
from pim.crossbar import Crossbar
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.emulation import Held, emulated, macros, program_model
from pim.errors import StudyError
from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import layer_path
from pim.llm_workloads.text import ScoredText, as_scored
from pim.llm_workloads.transformer import Matmul
from pim.mapping.plan import Plan
from pim.ranges import Ranges

CALIBRATION_TOKENS = 1024

Found = tuple[Ranges | None, Operands | DigitalOperands]
"""What is found for a matrix."""


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
    nominal = program_model(plan, None)
    devices = emulated(plan)
    found: dict[str, Found] = {}
    params = plan.model.params
    x = transformer.embed(plan.config, params, jnp.asarray(sample.tokens))
    valid = jnp.asarray(sample.valid_tokens())
    layer_index = 0
    for segment in nominal["segments"]:
        for k in range(transformer.segment_length(segment)):
            layer = jax.tree.map(lambda leaf, k=k: leaf[k], segment)
            digital = jax.tree.map(lambda leaf, k=layer_index: leaf[k], params["segments"][0])
            x, stats = _layer(plan.config, layer, digital, devices, x, valid)
            found |= {layer_path(layer_index, operator): stat for operator, stat in stats.items()}
            layer_index += 1
    found |= _outer(plan.config, nominal, params, devices, x, valid)
    record = {
        "sha256": sample.sha256,
        "tokens": int(valid.sum()),
        "context": context,
        "protocol": sample.protocol,
        "percentiles": percentiles(plan),
    }
    return replace(
        plan,
        ranges={path: ranges for path, (ranges, _) in found.items() if ranges is not None},
        operands={path: operands for path, (_, operands) in found.items()},
        calibration={**record, "text": sample},
    )


def percentiles(plan: Plan) -> dict[str, dict[str, float | None]]:
    """The percentiles of the inputs and of the sums, by device, that calibration of this plan goes by."""
    return {
        name: {"input": float(macro.dac.percentile), "adc": None if macro.adc is None else float(macro.adc.percentile)}
        for name, macro in macros(plan).items()
    }


@partial(jax.jit, static_argnums=0)
def _layer(config: ModelConfig, nominal: Any, digital: Any, devices: Any, x: Array, valid: Array):
    """One exact layer, and what its inputs do to the nominal arrays."""
    stats: dict[str, Found] = {}
    cache = jax.tree.map(lambda leaf: leaf[0], transformer.init_cache(config, x.shape[0], capacity=0))
    observe = _observer(nominal, devices, valid, stats)
    y, _ = transformer.layer_step(config, digital, x, cache, observe)
    return y, stats


@partial(jax.jit, static_argnums=0)
def _outer(config: ModelConfig, nominal: Any, digital: Any, devices: Any, x: Array, valid: Array):
    """What is found for the matrices behind the layers."""
    stats: dict[str, Found] = {}
    hidden, ids = transformer.final_norm(config, digital, x), jnp.zeros((*x.shape[:2], 2), jnp.uint32)
    if config.outer_shapes:
        transformer.read_out(config, digital, hidden, ids, _observer(nominal, devices, valid, stats))
    return stats


def _observer(nominal: Any, devices: Any, valid: Array, stats: dict[str, Found]) -> Matmul:
    """The exact products, with what their inputs do to the nominal arrays put into `stats`."""

    def observe(operator: str, w: Array, inputs: Array, ids: Array) -> Array:
        programmed = nominal.get(operator)
        if _has_statistics(programmed, devices):
            stats[operator] = _measure(programmed, devices[programmed.device], inputs, valid)
        return transformer.digital_matmul(operator, w, inputs, ids)

    return observe


def _has_statistics(programmed: Any, devices: Mapping[str, Any]) -> bool:
    """Whether the cost of a matrix depends on what it multiplies: in analog arrays and in digital macros."""
    return isinstance(programmed, Crossbar) or (
        isinstance(programmed, Held) and isinstance(devices[programmed.device], DigitalMacro)
    )


def _measure(programmed: Any, macro: AnalogMacro | DigitalMacro, x: Array, valid: Array) -> Found:
    """Ranges and statistics on the valid tokens: padding is replaced by copies of the first token.

    A digital macro has no ranges.
    """
    flat = x.reshape(-1, x.shape[-1])
    flat = jnp.where(valid.reshape(-1)[:, None], flat, flat[:1])
    if isinstance(macro, DigitalMacro):
        return None, measure_digital_operands(programmed.content, macro, flat)
    ranges = crossbar.calibrate(programmed, macro, flat)
    return ranges, measure_operands(replace(programmed, ranges=ranges), macro, flat)
