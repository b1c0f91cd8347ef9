"""A task from names and paths: what `pim task` runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pim.calibration import CALIBRATION_TOKENS, calibrate
from pim.errors import StudyError
from pim.llm_workloads.model import load_model, shipped_models
from pim.llm_workloads.tasks.known import Task, load_task
from pim.llm_workloads.text import ScoredText
from pim.mapping.plan import Plan, place
from pim.plan_checks import needs_ranges
from pim.study import Study, find_system
from pim.study_text import calibration_text
from pim.task_result import TaskResult
from pim.task_run import run_task


@dataclass(frozen=True)
class TaskStudy:
    """What is asked of what.

    Attributes:
        kind: of the task, see `pim.load_task`.
        file: of the task.
        model: a shipped model or a Hugging Face folder.
        system: a preset or device file, see `Study`.
        set: values by path, such as {"weights.rows": 128}.
        calibration: file to find converter ranges on; None: stories for a shipped model, else the items behind `limit`.
        limit: most items.
        chips: instances of the hardware.
        seed: of chips and reads.
        context: most tokens of a sequence; None: as many as the model was made for.
        time: s since programming; None: each device's reference time.
    """

    kind: str
    file: str
    model: str = "tiny-stories"
    system: str = "rram-techC"
    set: Mapping[str, Any] = field(default_factory=dict)
    calibration: str | None = None
    limit: int | None = None
    chips: int = 4
    seed: int = 0
    context: int | None = None
    time: float | None = None


def run_task_study(study: TaskStudy, progress: bool = True) -> TaskResult:
    """Load, place, calibrate where converters need it, and ask.

    Raises:
        StudyError, DeviceError, MappingError, WorkloadError: what is wrong and how to mend it.
        OSError: a file that cannot be read.
    """
    task = load_task(study.kind, study.file)
    plan = place(load_model(study.model), find_system(study.system).replace(study.set))
    if needs_ranges(plan) or study.calibration is not None:
        plan = calibrate(plan, _calibration(study, plan, task))
    return run_task(
        plan,
        task,
        chips=study.chips,
        seed=study.seed,
        time=study.time,
        limit=study.limit,
        context=study.context,
        progress=progress,
    )


def _calibration(study: TaskStudy, plan: Plan, task: Task) -> ScoredText:
    """Text that is not scored."""
    assert plan.model is not None
    if study.calibration is not None or study.model in shipped_models():
        texts = Study(model=study.model, calibration=study.calibration)
        return calibration_text(texts, plan.model)[0]
    if study.limit is None or study.limit >= task.count:
        raise StudyError(
            "the converters need ranges, and no text is left to find them on: give --calibration FILE, or a --limit "
            f"below the {task.count} items, the rest of which then calibrates"
        )
    context = study.context or plan.config.max_position_embeddings
    return task.part(slice(study.limit, None)).scored(plan.model.tokenizer, context).head(CALIBRATION_TOKENS)
