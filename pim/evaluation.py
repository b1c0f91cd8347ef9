"""The verbs `evaluate` and `sweep`: accuracy and cost of a plan on a text, in one run."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pim._version import __version__
from pim.costs.plan_cost import plan_cost
from pim.emulation import macros
from pim.errors import StudyError
from pim.holding import reading_time
from pim.llm_workloads.text import ScoredText, as_scored
from pim.mapping.plan import Plan
from pim.plan_checks import (
    check_calibrated,
    check_causal,
    check_chips,
    check_finite,
    check_length,
    check_percentiles,
    check_text,
    model_of,
)
from pim.result import Result, combinations
from pim.scoring import Scores, score
from pim.streaming.scoring import score_streamed

KEPT_TOKENS = 512
"""Tokens of the scored text that a result keeps, for `Result.snr`."""


def evaluate(
    plan: Plan,
    text: str | ScoredText,
    *,
    context: int = 256,
    chips: int = 4,
    seed: int = 0,
    tokens: int | None = None,
    stride: int | None = None,
    time: float | None = None,
    progress: bool = True,
    resume: str | Path | None = None,
) -> Result:
    """What a model loses on its devices, and what it costs there.

    Args:
        plan: a model placed on a system; its static ranges must have been calibrated (`pim.calibrate`).
        text: the text to score; `<|endoftext|>` separates documents, else it is scored in windows.
        context: most tokens of a sequence.
        chips: instances of the hardware; more never change earlier ones.
        seed: of chips and reads.
        tokens: most tokens to score; all by default.
        stride: tokens from one window to the next, where they are to overlap; see `as_scored`.
        time: s since programming; by default each device's reference time.
        progress: show a bar on standard error after two seconds.
        resume: folder in which the run keeps what it has done; started again with the same folder after it was
            interrupted, it goes on from the last layer and chip that were finished, to the same bits. The model is
            then read layer by layer, as one loaded with `resident=False` always is.

    Raises:
        StudyError: a plan without weights or without ranges, a text that overlaps the calibration text, no chips,
            `tokens` or `stride` beside a text that is cut already, a folder that holds another run.

    >>> result = pim.evaluate(pim.calibrate(plan, calibration_text), text, tokens=2048)
    >>> result.perplexity, result.points[0].cost.energy_per_token
    """
    options = {"context": context, "tokens": tokens, "stride": stride, "time": time, "progress": progress}
    return study(plan, {}, text, chips=chips, seed=seed, resume=resume, **options)


def sweep(plan: Plan, axes: Mapping[str, Sequence[Any]], text: str | ScoredText, **options: Any) -> xr.Dataset:
    """Evaluate a plan over values of its devices' fields, all on the same tokens, chips and reads.

    Args:
        plan: as for `evaluate`, as are the options.
        axes: values to try by path, such as {"weights.adc.bits": [4, 6, 8]}; several axes make a grid.
        text: the text to score.

    Returns a dataset with an axis for each path (see `Result.to_dataset`).
    """
    return study(plan, axes, text, **options).to_dataset()


def study(
    plan: Plan,
    axes: Mapping[str, Sequence[Any]],
    text: str | ScoredText,
    *,
    context: int = 256,
    chips: int = 4,
    seed: int = 0,
    tokens: int | None = None,
    stride: int | None = None,
    time: float | None = None,
    progress: bool = True,
    resume: str | Path | None = None,
) -> Result:
    """The result of a sweep (of one point, if there are no axes), as `Result`; see `evaluate`."""
    model = model_of(plan)
    empty = [path for path, values in axes.items() if not len(values)]
    if empty:
        raise StudyError(f"the sweep over {empty[0]!r} has no values: give at least one")
    check_chips(chips)
    if isinstance(text, ScoredText) and (tokens is not None or stride is not None):
        name = "tokens" if tokens is not None else "stride"
        raise StudyError(f"{name} has no effect on a text that is cut already: give it to as_scored, or text as a str")
    scored = as_scored(text, model.tokenizer, context=context, max_tokens=tokens, stride=stride)
    check_causal(model.config)
    check_length(model.config, scored)
    check_calibrated(plan)
    check_text(plan, scored)
    plans = [plan.replace(changes) for changes in combinations(axes)]
    for point in plans:
        check_percentiles(point)
    costs = [plan_cost(p) for p in plans]  # first: what has no known cost is refused before it is computed
    options = {"chips": chips, "seed": seed, "time": time, "progress": progress}
    scores = sequence_scores(plans, scored, resume, **options).summed(scored.source)
    check_finite(scores)
    return Result(
        plan,
        dict(axes),
        scores,
        costs,
        protocol(plan, scored, chips, seed, time) | {"notes": interpolated(plans, time)},
        scored.head(KEPT_TOKENS),
    )


def sequence_scores(plans: Sequence[Plan], scored: ScoredText, resume: str | Path | None, **options: Any) -> Scores:
    """The scores of each sequence, with the model in memory or, where it is not or the run is kept, layer by layer."""
    if resume is None and model_of(plans[0]).checkpoint is None:
        return score(plans, scored, **options)
    return score_streamed(plans, scored, resume=None if resume is None else Path(resume), **options)


def interpolated(plans: Sequence[Plan], time: float | None) -> list[str]:
    """Which devices of plans are read between the times at which they were measured, a sentence for each."""
    found = []
    for plan in plans:
        for name, macro in macros(plan).items():
            between = macro.cell.interpolation(reading_time(macro, time), macro.temperature)
            found += [f"{name}: {between}"] if between else []
    return list(dict.fromkeys(found))


def protocol(plan: Plan, scored: ScoredText, chips: int, seed: int, time: float | None) -> dict[str, Any]:
    """Under what the result was found."""
    return {
        **setting(plan, chips, seed, time),
        "text_sha256": scored.sha256,
        "text_protocol": scored.protocol,
        "documents": len(np.unique(scored.source)),
        "scored_tokens": int(scored.scored_tokens().sum()),
        "context": scored.context,
    }


def setting(plan: Plan, chips: int, seed: int, time: float | None) -> dict[str, Any]:
    """What was run, with which chips and versions, whatever was asked of it."""
    assert plan.model is not None
    return {
        "model": plan.model.name,
        "system": plan.system.name,
        "devices": {name: device.name for name, device in plan.system.devices.items()},
        "rules": [list(rule) for rule in plan.system.rules],
        "calibration": {k: v for k, v in (plan.calibration or {}).items() if k != "text"} or None,
        "chips": chips,
        "seed": seed,
        "time_s": time if time is not None else "reference time of each device",
        "versions": {"pim": __version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy")}},
    }
