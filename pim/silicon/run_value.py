"""What our model has for a published figure of a language model on a system."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean, geometric_mean

from pim.costs.costing import cost
from pim.costs.plan_cost import PlanCost
from pim.costs.step_cost import StepCost
from pim.devices.errors import DeviceError
from pim.errors import StudyError
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.published_runs import Asked, Run, RunPoint
from pim.mapping.system_file import load_system


def run_value(point: RunPoint) -> float:
    """The figure of a point by our model, in its unit; NaN where the model does not know it.

    Raises DeviceError, naming the file and the point, for what cannot run.
    """
    try:
        return _ACROSS[point.across]([_ours(point, run) for run in point.runs])
    except (DeviceError, StudyError, MappingError) as error:
        raise DeviceError(f"{point.where}: {error}") from None


_ACROSS = {"geometric": geometric_mean, "arithmetic": fmean, "smallest": min, "largest": max}
"""What is made of the figures of several runs."""


def _ours(point: RunPoint, run: Run) -> float:
    ours = _figure(point.figure, run, point.of)
    return ours if point.relative_to is None else ours / _figure(point.figure, run, point.relative_to)


def _figure(figure: str, run: Run, asked: Asked) -> float:
    """The figure of a run on the best of the systems that are asked for."""
    found = [_on_one(figure, run, asked, system) for system in asked.systems]
    return (max if figure.endswith(LARGER_IS_BETTER) else min)(found)


LARGER_IS_BETTER = ("per_second", "per_joule")
"""How figures end that are better if they are larger."""


def _on_one(figure: str, run: Run, asked: Asked, system: Path) -> float:
    found = _priced(
        replace(run, batch=run.batch if asked.batch is None else asked.batch), system, json.dumps(dict(asked.set))
    )
    return step_figure(found, figure) if isinstance(found, StepCost) else run_figure(found, figure)


@lru_cache(maxsize=64)
def _priced(run: Run, system: Path, changes: str) -> StepCost | PlanCost:
    """The cost of a run, kept: a publication gives speed and energy of the same runs, over the same baseline."""
    plan = place(run.model, load_system(system)).replace(json.loads(changes))
    if run.context is not None:
        return cost(plan, batch=run.batch, context=run.context, tokens=run.tokens)
    assert run.prompt is not None and run.generate is not None, "checked by `read_runs`"
    return cost(plan, batch=run.batch, prompt=run.prompt, generate=run.generate)


def step_figure(step: StepCost, figure: str) -> float:
    """A figure of a step of decoding."""
    if figure == "tokens_per_joule":
        return 1.0 / float(step.energy_per_token)
    return float(getattr(step, {"decode_latency": "latency"}.get(figure, figure)))


def run_figure(run: PlanCost, figure: str) -> float:
    """A figure of a run: of decoding, unless it says prefill."""
    if figure == "tokens_per_joule":
        return 1.0 / run.energy_per_token
    if figure == "power":
        return float(run.decode.energy) / float(run.decode.latency)
    if figure == "prefill_tokens_per_second":
        return run.prefill_tokens / run.prefill_latency
    return float(getattr(run, figure))
