"""The two texts of a study: one that calibrates, another that is scored."""

from dataclasses import dataclass
from pathlib import Path

from pim.calibration import CALIBRATION_TOKENS
from pim.errors import StudyError
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import Model, shipped_models
from pim.llm_workloads.overlap import overlap
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import SEPARATOR, ScoredText, as_scored
from pim.study import Study

SCORED_STORIES, CALIBRATION_STORIES = 2, 3
"""Seeds of stories that the shipped model has not seen: it was trained on those of seed 0."""
SHORTEST_STORY = 50
"""Tokens; so many stories are told that the tokens asked for are there."""


@dataclass(frozen=True)
class StudyTexts:
    """What calibrates, what is scored, and where they come from, for the protocol."""

    calibration: ScoredText
    scored: ScoredText
    origin: dict[str, str]


def study_texts(study: Study, model: Model) -> StudyTexts:
    """The texts of a study: the files that it names, else stories that the shipped model has not seen.

    Raises:
        StudyError: no text, one that cannot be used, or two that overlap.
        OSError: a file that cannot be read.
    """
    if study.text is not None:
        text, source = read_text(study.text), study.text
    elif study.model in shipped_models():
        text, source = _stories(SCORED_STORIES, study.tokens)
    else:
        raise StudyError(f"a text is needed to score {study.model} on: give --text FILE")
    if study.calibration is not None or study.text is None:
        calibration, origin = calibration_text(study, model)
    else:
        first, text = split_text(text, study.text)
        origin = f"the first {len(first):,} characters of {study.text}, the rest of which is scored"
        calibration = _cut(first, origin, model, study.context, CALIBRATION_TOKENS)
    scored = _cut(text, source, model, study.context, study.tokens, study.stride)
    shared = overlap(calibration, scored)
    if shared is not None:
        raise StudyError(f"the calibration text overlaps the scored text: {shared}; give another with --calibration")
    return StudyTexts(calibration, scored, {"text": source, "calibration_text": origin})


def calibration_text(study: Study, model: Model) -> tuple[ScoredText, str]:
    """What calibrates where no text is scored, and where it is from: the file named, or stories for the shipped model.

    Raises:
        StudyError: neither is there, or a file that cannot be used.
        OSError: a file that cannot be read.
    """
    if study.calibration is not None:
        text, origin = read_text(study.calibration), study.calibration
    elif study.model in shipped_models():
        text, origin = _stories(CALIBRATION_STORIES, CALIBRATION_TOKENS)
    else:
        raise StudyError(f"a text is needed to find converter ranges of {study.model} on: give --calibration FILE")
    return _cut(text, origin, model, study.context, CALIBRATION_TOKENS), origin


def _stories(seed: int, tokens: int) -> tuple[str, str]:
    """Enough stories, and what to call them."""
    return story_text(seed, tokens // SHORTEST_STORY + 1), f"stories of seed {seed}, held out from training"


def _cut(text: str, name: str, model: Model, context: int, tokens: int, stride: int | None = None) -> ScoredText:
    try:
        return as_scored(text, model.tokenizer, context=context, max_tokens=tokens, stride=stride)
    except WorkloadError as error:
        raise StudyError(f"{name}: {error}") from None


def read_text(path: str) -> str:
    """The text of a UTF-8 file that has some."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.replace(SEPARATOR, "").strip():
        raise StudyError(f"{path}: there is no text in it, give a file with some")
    return text


def split_text(text: str, name: str = "the text") -> tuple[str, str]:
    """The first documents, or words, to calibrate on, and the rest to score: a quarter, but 8,192 characters at most.

    Raises StudyError if there is too little to be split.

    >>> split_text("one two three four five six seven eight")
    ('one two three', ' four five six seven eight')
    """
    goal = min(len(text) // 4, 8192)
    if SEPARATOR not in text:
        cut = next((i for i in range(goal, len(text)) if text[i].isspace()), len(text))
        if not text[:cut].strip() or not text[cut:].strip():
            raise StudyError(f"{name} is too short to calibrate on a part of it: give --calibration FILE")
        return text[:cut], text[cut:]
    documents = [document for document in text.split(SEPARATOR) if document.strip()]
    count = next((n for n in range(1, len(documents)) if sum(map(len, documents[:n])) >= goal), len(documents) - 1)
    if not count:
        raise StudyError(f"{name} has one document alone, none is left to calibrate on: give --calibration FILE")
    ended = lambda some: "".join(document + SEPARATOR for document in some)
    return ended(documents[:count]), ended(documents[count:])
