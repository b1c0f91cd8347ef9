"""The tasks by name."""

from pathlib import Path

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tasks.last_word import LastWord
from pim.llm_workloads.tasks.multiple_choice import MultipleChoice
from pim.llm_workloads.tasks.similarity import Similarity

Task = LastWord | MultipleChoice | Similarity

TASKS = {kind.name: kind for kind in (LastWord, MultipleChoice, Similarity)}


def load_task(kind: str, path: Path | str) -> Task:
    """A task of a kind from its file.

    Args:
        kind: "last-word", "multiple-choice" or "similarity".
        path: JSON, an object a line, with a passage in `text`; with a question, choices and the index of the right one
            (or PIQA's keys); or CSV of two sentences and a score.

    Raises:
        WorkloadError: another kind, or a file that holds anything else: which line, and what is wrong with it.
        OSError: a file that cannot be read.

    Example:
        >>> load_task("last-word", "lambada_dev.jsonl").count
        2500
    """
    if kind not in TASKS:
        raise WorkloadError(f"no task {kind!r}: there are {', '.join(TASKS)}")
    return TASKS[kind].from_file(path)
