"""What must hold of a plan and a text before their accuracy is found, and of the scores behind it."""

import numpy as np

from pim.calibration import percentiles
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.model import Model
from pim.llm_workloads.overlap import overlap
from pim.llm_workloads.positions import Learned
from pim.llm_workloads.text import ScoredText
from pim.mapping.plan import Plan
from pim.scoring import Scores


def model_of(plan: Plan) -> Model:
    """The model of a plan that has its weights."""
    if plan.model is None:
        raise StudyError("this plan was placed from a config alone; accuracy needs the model's weights")
    return plan.model


def check_causal(config: ModelConfig) -> None:
    """The model says what comes next."""
    if not config.attention.causal:
        raise StudyError(f"a {config.family} model reads both ways and says nothing of what comes next: take another")


def check_length(config: ModelConfig, scored: ScoredText) -> None:
    """No sequence is longer than a table of positions."""
    if isinstance(config.positions, Learned):
        config.positions.check(int(scored.lengths.max()))


def check_chips(chips: int) -> None:
    """At least one chip."""
    if chips < 1:
        raise StudyError(f"chips = {chips}: give at least one")


def check_finite(scores: Scores) -> None:
    """No loss is infinite or no number."""
    if not np.isfinite(scores.nll).all():
        point, chip, document = np.argwhere(~np.isfinite(scores.nll))[0]
        raise StudyError(
            f"the loss of point {point}, chip {chip}, document {document} is not finite: a conductance or an "
            "activation has overflowed, or with wires a circuit was not solved; check the device's ranges and errors"
        )


def needs_ranges(plan: Plan) -> list[str]:
    """Operators on analog devices whose ranges must be found on a text first."""
    return [
        path
        for path in plan.assignment
        if isinstance(macro := plan.model_of(path), AnalogMacro) and macro.input_range == "calibrated"
    ]


def check_calibrated(plan: Plan) -> None:
    """Static ranges exist where they are needed, and were found under the plan's own percentiles."""
    missing = [path for path in needs_ranges(plan) if path not in plan.ranges]
    if missing:
        raise StudyError(
            f"{missing[0]} (and {len(missing) - 1} more) has no converter ranges: call pim.calibrate(plan, text) "
            "first, or give its device input_range = 'token'"
        )
    check_percentiles(plan)


def check_text(plan: Plan, scored: ScoredText) -> None:
    """Ranges come from other text than what is scored."""
    if plan.calibration is not None:
        shared = overlap(plan.calibration["text"], scored)
        if shared is not None:
            raise StudyError(f"the calibration text overlaps the scored text: {shared}; calibrate on other text")


def check_percentiles(plan: Plan) -> None:
    """Ranges stay when a calibrated plan is changed: other percentiles would be without effect."""
    if plan.calibration is None:
        return
    then = plan.calibration["percentiles"]
    for name, now in percentiles(plan).items():
        changed = [kind for kind in now if now[kind] is not None and now[kind] != then[name][kind]]
        if changed:
            raise StudyError(
                f"the {changed[0]} percentile of {name!r} is {now[changed[0]]}, but ranges were found with "
                f"{then[name][changed[0]]}: set it before you calibrate, a plan for each value"
            )
