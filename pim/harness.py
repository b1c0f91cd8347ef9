"""The verb `harness_model`: a plan as a model of lm-evaluation-harness."""

from typing import TYPE_CHECKING

from pim.errors import StudyError
from pim.mapping.plan import Plan

if TYPE_CHECKING:
    from pim.harness_lm import PlanLM


def harness_model(
    plan: Plan, *, chip: int | None = 0, seed: int = 0, time: float | None = None, context: int | None = None
) -> "PlanLM":
    """A plan as a model of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness).

    Needs the extra `lm-eval`. What a request answers depends on its place among those of its kind, not on how they
    are batched.

    Args:
        plan: a model placed on a system; its static ranges must have been calibrated (`pim.calibrate`).
        chip: which instance of the hardware; None: the exact model, to compare with.
        seed: of chips and reads.
        time: s since programming; by default each device's reference time.
        context: most tokens of a sequence; by default as many as the model was made for.

    Raises:
        StudyError: lm-evaluation-harness is not installed, or a plan that cannot be evaluated.

    >>> model = pim.harness_model(plan, chip=0)
    >>> lm_eval.simple_evaluate(model, tasks=["lambada_openai"], limit=100)["results"]
    """
    try:
        from pim.harness_lm import PlanLM
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise StudyError("lm-evaluation-harness is not installed: pip install 'pim-emulator[lm-eval]'") from None
    return PlanLM(plan, chip=chip, seed=seed, time=time, context=context)
