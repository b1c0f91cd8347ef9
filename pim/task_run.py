"""The verb `run_task`: what a plan answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pim.errors import StudyError
from pim.evaluation import interpolated, protocol, sequence_scores
from pim.llm_workloads.tasks.known import Task
from pim.llm_workloads.tasks.last_word import LastWord
from pim.llm_workloads.tasks.multiple_choice import MultipleChoice
from pim.llm_workloads.tasks.similarity import Similarity
from pim.llm_workloads.text import ScoredText
from pim.mapping.plan import Plan
from pim.plan_checks import (
    check_calibrated,
    check_causal,
    check_chips,
    check_finite,
    check_length,
    check_text,
    model_of,
)
from pim.sentence_vectors import sentence_vectors
from pim.task_result import TaskResult

Figures = Mapping[str, np.ndarray]


def run_task(
    plan: Plan,
    task: Task,
    *,
    chips: int = 4,
    seed: int = 0,
    time: float | None = None,
    limit: int | None = None,
    context: int | None = None,
    progress: bool = True,
    resume: str | Path | None = None,
) -> TaskResult:
    """What a model on its devices makes of a task, beside the exact model.

    Args:
        plan: a model placed on a system; its static ranges must have been calibrated (`pim.calibrate`).
        task: see `pim.load_task`.
        chips: instances of the hardware; more never change earlier ones.
        seed: of chips and reads.
        time: s since programming; by default each device's reference time.
        limit: most items, taken from the beginning; all by default.
        context: most tokens of a sequence; by default as many as the model was made for.
        progress: show a bar on standard error after two seconds.
        resume: of tasks that score tokens, the folder in which the run is kept; see `pim.evaluate`.

    Raises:
        StudyError: a plan without weights or without ranges, a task that overlaps the calibration text, no chips, items
            or context, a folder to resume from where the task scores no tokens, or a model that does not read as the
            task asks.
        WorkloadError: an item that cannot be asked in this context.

    >>> task = pim.load_task("multiple-choice", "piqa_dev.jsonl")
    >>> result = pim.run_task(plan, task, limit=100)
    >>> result.digital["accuracy"], result.chips["accuracy"].mean()
    """
    model = model_of(plan)
    check_chips(chips)
    if limit is not None and limit < 1:
        raise StudyError(f"limit = {limit}: give at least one item")
    if context is not None and context < 1:
        raise StudyError(f"context = {context}: give room for at least one token")
    if resume is not None and isinstance(task, Similarity):
        raise StudyError(f"resume has no effect: {task.name} scores no tokens, and its runs are not kept")
    task = task.part(slice(limit))
    context = model.config.max_position_embeddings if context is None else context
    text = task.scored(model.tokenizer, context)
    check_length(model.config, text)
    check_calibrated(plan)
    check_text(plan, text)
    options: dict[str, Any] = {"chips": chips, "seed": seed, "time": time, "progress": progress}
    if isinstance(task, Similarity):
        digital, by_chip = _vectors(plan, task, text, **options)
    else:
        digital, by_chip = _losses(plan, task, text, resume, **options)
    told = protocol(plan, text, chips, seed, time)
    counts = {"items": task.count, "sequences": text.count, "tokens": int(text.lengths.sum())}
    described = {"task": task.name, "file": task.file, **told, **counts, "notes": interpolated([plan], time)}
    return TaskResult(plan, {name: float(value) for name, value in digital.items()}, by_chip, described)


def _losses(
    plan: Plan, task: LastWord | MultipleChoice, text: ScoredText, resume: str | Path | None, **options: Any
) -> tuple[Figures, Figures]:
    check_causal(plan.config)
    scores = sequence_scores([plan], text, resume, **options)
    check_finite(scores)
    digital = task.metrics(scores.digital, scores.digital_right, scores.tokens)
    return digital, task.metrics(scores.nll[0], scores.right[0], scores.tokens)


def _vectors(plan: Plan, task: Similarity, text: ScoredText, **options: Any) -> tuple[Figures, Figures]:
    digital, by_chip = sentence_vectors(plan, text, **options)
    if not np.isfinite(by_chip).all():
        chip, sentence, _ = np.argwhere(~np.isfinite(by_chip))[0]
        raise StudyError(f"the vector of sentence {sentence} on chip {chip} is not finite: check the device's ranges")
    return task.metrics(digital), task.metrics(by_chip)
