"""Running a study: from names and paths to a result."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pim.calibration import calibrate
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError
from pim.evaluation import study as evaluate_points
from pim.files import OutputFolder
from pim.holding import reading_time
from pim.llm_workloads.model import load_model
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.result import Result, combinations
from pim.study import Study, find_system
from pim.study_text import StudyTexts, study_texts

ADC_BITS = "weights.adc.bits"
DEFAULT_SWEEP = {ADC_BITS: [4, 5, 6, 7, 8, 10]}
ROOM = 20_000_000
"""Bytes that must be free in `out` before a run starts; results take a fraction of it."""


def run_study(study: Study, progress: bool = True) -> Result:
    """Run a study: place, calibrate, evaluate every point; nothing is written.

    Raises:
        StudyError, DeviceError, MappingError, WorkloadError: what is wrong and how to mend it; as far as it can be
            known, before anything is computed.
        OSError: a file that cannot be read.
    """
    OutputFolder(Path(study.out)).check(ROOM)
    system = find_system(study.system).replace(study.set)
    axes = _axes(study, system)
    for changes in combinations(axes):
        _check_time(study.time, system.replace(changes))
    model = load_model(study.model, resident=study.resume is None)
    plan = place(model, system)
    texts = study_texts(study, model)
    if progress:
        print(_headline(study, plan, axes, texts), file=sys.stderr, flush=True)
    plan = calibrate(plan, texts.calibration, context=study.context)
    options = {"chips": study.chips, "seed": study.seed, "time": study.time, "progress": progress}
    options |= {"resume": study.resume}
    result = evaluate_points(plan, axes, texts.scored, context=study.context, **options)
    return replace(result, protocol={**result.protocol, **texts.origin})


def _axes(study: Study, system: System) -> Mapping[str, Sequence[Any]]:
    """The sweep asked for; by default over the bits of the converters, if there are any and they are not set."""
    if study.sweep is not None:
        both = [path for path in study.sweep if path in study.set]
        if both:
            raise StudyError(f"{both[0]} is set and swept: leave one away")
        return study.sweep
    paths = {f"{name}.{path}" for name, device in system.devices.items() for path in device.paths()}
    return DEFAULT_SWEEP if ADC_BITS in paths and ADC_BITS not in study.set else {}


def _check_time(time: float | None, system: System) -> None:
    """Raise DeviceError for a time at which one of the devices was not measured."""
    for device in system.devices.values():
        if isinstance(device.model, AnalogMacro):
            reading_time(device.model, time)


def _headline(study: Study, plan: Plan, axes: Mapping[str, Sequence[Any]], texts: StudyTexts) -> str:
    points, tokens = len(combinations(axes)), int(texts.scored.scored_tokens().sum())
    return f"pim: {study.model} on {plan.system.name}: {points} points, {study.chips} chips, {tokens:,} tokens"
