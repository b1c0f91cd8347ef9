"""Endless small stories whose end depends on their beginning, and whose entropy is known.

A small world of people, places, things and animals is set going, and what happens is told in varied English:
somebody owns a thing, leaves it somewhere, lends it, gives it away, promises something; other things happen; in the
end the thing is found where it was left, the promise is kept as it was made, and questions are asked that only
someone who remembers the beginning can answer.

Each story says how many bits its random choices were worth, so the perplexity of a perfect model of these stories is
known: see `Story.bits`.
"""

from dataclasses import dataclass

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.stories.chance import Chance
from pim.llm_workloads.stories.plots import PLOTS
from pim.llm_workloads.stories.scenes import CLOSINGS, OPENINGS
from pim.llm_workloads.stories.teller import Teller
from pim.llm_workloads.text import SEPARATOR


@dataclass(frozen=True)
class Question:
    """A question inside a story, with the answer that the story's earlier text determines."""

    start: int
    """Where the answer starts in the text, its leading space included: `text[:start]` is the prompt."""
    answer: str
    """The answer with its leading space and the full stop or comma that ends it: ` under the old bridge.`"""


@dataclass(frozen=True)
class Story:
    """A story, its information content and the questions in it."""

    text: str
    bits: float
    """Sum of -log2 p over the choices made. Its mean is an upper bound of the stories' entropy, tight as far as
    different choices tell different texts."""
    questions: tuple[Question, ...]


def stories(seed: int, count: int, start: int = 0, *, questions: int = 3) -> list[Story]:
    """Stories start, start + 1, ... of a seed; each depends on the seed and its number alone.

    Args:
        seed: 0 or more; another seed tells other stories.
        count: how many.
        start: the number of the first.
        questions: how many are asked in each; with other than 3 these are other stories.

    Returns:
        The stories, the same byte for byte on every machine.

    Raises:
        WorkloadError: a negative seed, count or start.

    Example:
        >>> stories(1, 3)[2] == stories(1, 1, start=2)[0]
        True
    """
    if min(seed, count, start) < 0:
        raise WorkloadError(f"stories: seed {seed}, count {count} and start {start} must be 0 or more")
    return [_story(seed, number, questions) for number in range(start, start + count)]


def story_text(seed: int, count: int, start: int = 0) -> str:
    """The same stories as one text, with `<|endoftext|>` between them."""
    return f"\n{SEPARATOR}\n".join(story.text for story in stories(seed, count, start))


def _story(seed: int, number: int, questions: int) -> Story:
    # Two 32-bit words apart: Python mixes a word and its place, so that the keys (n) and (n, n - 1) are one.
    chance = Chance((seed << 64) + number)
    teller = Teller(chance)
    teller.say(OPENINGS, a=teller.hero, s=teller.world.spot)
    chance.pick(PLOTS)(teller)
    teller.ask(questions)
    teller.say(CLOSINGS, a=teller.hero)
    text = teller.telling.text
    answers = tuple(Question(start - 1, text[start - 1 : end + 1]) for start, end in teller.questions)
    return Story(text, chance.bits, answers)
