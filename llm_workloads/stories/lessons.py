"""What `tiny-stories` is trained on, and in which order: drills that teach to look things up, and then the stories.

A story holds few answers among many words, and a model that sees stories alone learns late to look them up: first it
only learns how answers sound. So a run begins with drills, one to six happenings and questions about all of them,
more happenings as it goes on; then come stories with many questions, and in the end the stories as they are.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from pim.llm_workloads.stories import Question, Story, stories
from pim.llm_workloads.stories.chance import Chance
from pim.llm_workloads.stories.scenes import DAYS
from pim.llm_workloads.stories.teller import Teller

WIDTH_STEP = 32
"""Batches are so many tokens wide, or a multiple, so that few shapes are compiled and little is padding."""

DRILLED = (
    "owns left took lent will_return returned gave keeps promised praised helped repaid swapped errand "
    "aside aside aside"
).split()
"""Happenings of the drills; the place of somebody's thing is the hardest to look up, and comes most often."""


def drills(seed: int, count: int, start: int = 0, *, most: int) -> list[Story]:
    """One to `most` happenings that have nothing to do with each other, and up to eight questions about them."""
    return [_drill(Chance((seed << 64) + number), most) for number in range(start, start + count)]


def _drill(chance: Chance, most: int) -> Story:
    teller = Teller(chance)
    world = teller.world
    for _ in range(1 + chance.below(most)):
        what = chance.pick(DRILLED)
        teller.happens(
            what,
            a=world.child(),
            b=chance.pick((world.child, world.adult))(),
            t=world.thing(),
            u=world.thing(),
            p=world.place(),
            q=world.place(),
            x=world.animal() if what == "took" else world.adult(),
            c=world.chore(),
            d=chance.pick(DAYS),
        )
    teller.ask(8)
    text = teller.telling.text
    return Story(text, chance.bits, tuple(Question(a - 1, text[a - 1 : b + 1]) for a, b in teller.questions))


@dataclass(frozen=True)
class Lesson:
    """What is told, `tell(seed, count, start)`, and what a token of an answer counts in the loss.

    The best model stays the same whatever an answer weighs, since the text before it determines it.
    """

    tell: Callable[[int, int, int], list[Story]]
    answer_weight: float


COURSE = (
    (0.06, (Lesson(functools.partial(drills, most=2), 4.0),)),
    (0.18, (Lesson(functools.partial(drills, most=4), 4.0),)),
    (0.60, (Lesson(functools.partial(drills, most=6), 4.0), Lesson(functools.partial(stories, questions=6), 4.0))),
    (1.00, (Lesson(stories, 3.0),)),
)
"""(Share of the run when it ends, lessons that take turns)."""


def lessons(progress: float) -> tuple[Lesson, ...]:
    """The lessons that take turns when `progress` (0 to 1) of a run is over."""
    return next((turns for end, turns in COURSE if progress < end), COURSE[-1][1])


def batches(
    tokenizer: Tokenizer, lesson: Lesson, seed: int, start: int, *, tokens: int, context: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless token ids [rows, width], one story a row between BOS and EOS, and their weights in the loss.

    Stories of about the same length come together, about `tokens` tokens a batch; what is longer than `context` is
    cut. A token weighs 1, one of an answer `lesson.answer_weight`, BOS and padding 0. `start` is the number of the
    first story. The special tokens are EOS 0 and BOS 1.
    """
    waiting: dict[int, list[tuple[list[int], np.ndarray]]] = defaultdict(list)
    while True:
        for ids, weights in _weighed(tokenizer, lesson.tell(seed, 256, start), lesson.answer_weight):
            width = min(context, WIDTH_STEP * math.ceil(len(ids) / WIDTH_STEP))
            waiting[width].append((ids[:width], weights[:width]))
            if len(waiting[width]) == tokens // width:
                yield _padded(waiting.pop(width), width)
        start += 256


def _padded(rows: list[tuple[list[int], np.ndarray]], width: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, weights = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
    for row, (ids, weighed) in enumerate(rows):
        tokens[row, : len(ids)] = ids
        weights[row, : len(ids)] = weighed
    return tokens, weights


def _weighed(tokenizer: Tokenizer, told: list[Story], answer_weight: float) -> Iterator[tuple[list[int], np.ndarray]]:
    for story, encoding in zip(told, tokenizer.encode_batch([story.text for story in told]), strict=True):
        starts, ends = np.array(encoding.offsets).T
        weights = np.ones(len(starts) + 2, np.float32)
        weights[0] = 0.0
        for question in story.questions:
            answers = (ends > question.start) & (starts < question.start + len(question.answer))
            weights[1:-1][answers] = answer_weight
        yield [1, *encoding.ids, 0], weights
