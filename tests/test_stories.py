"""The stories: the same everywhere, varied, of known information content, with questions that their text answers."""

import hashlib
import itertools
import math
import re
from collections import Counter
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import pim.llm_workloads.stories as module
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.stories import Story, stories, story_text
from pim.llm_workloads.stories.chance import Chance
from pim.llm_workloads.stories.happenings import HAPPENINGS
from pim.llm_workloads.stories.lessons import batches, drills, lessons
from pim.llm_workloads.stories.phrase import Telling, parse, tell
from pim.llm_workloads.stories.plots import PLOTS
from pim.llm_workloads.stories.teller import Teller
from pim.llm_workloads.stories.world import ADULTS, CHILDREN, Person, Place, World
from pim.llm_workloads.train_tiny_stories import TRAINING_SEED


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return stories(3, 1000)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s", text)


GOLDEN = "5b15389cc007da85d1187e95b4cdd1858b2260fd61a295ca775f51faff6fe24e"


# The same everywhere


def test_a_seed_tells_the_same_stories_on_every_machine():
    text = "\n".join(story.text for story in stories(0, 50))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


@given(start=st.integers(0, 10**6), count=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_a_story_depends_on_its_seed_and_number_alone(seed, start, count):
    together = stories(seed, count, start)
    assert together == [stories(seed, 1, start + i)[0] for i in range(count)]
    assert stories(seed + 1, 1, start) != together[:1]


def test_bad_numbers_are_named():
    for bad in ((-1, 1, 0), (0, -1, 0), (0, 1, -1)):
        with pytest.raises(WorkloadError, match="must be 0 or more"):
            stories(*bad)


# Varied


def test_stories_are_not_a_template_with_slots(told):
    lines = [line for story in told for line in sentences(story.text)]
    words = Counter(word for story in told for word in re.findall(r"[a-z]+", story.text.lower()))
    assert len(set(lines)) > 10_000
    assert len(set(lines)) / len(lines) > 0.7
    assert len(words) > 550


def test_no_held_out_story_was_trained_on(told):
    trained = {story.text for story in stories(TRAINING_SEED, 1500)}
    assert not trained & {story.text for story in told}
    assert len(trained) == 1500
    # The rarest choices aside, a story is one of 2^bits: that none comes twice is no luck.
    assert min(story.bits for story in told) > 80


def test_a_text_is_its_stories_with_a_separator_between_them():
    blocks = story_text(3, 4, start=2).split("<|endoftext|>")
    assert [block.strip() for block in blocks] == [story.text for story in stories(3, 4, 2)]


def test_stories_are_whole_sentences(told):
    for story in told:
        assert story.text.isascii()
        assert not re.search(r"[\[\]{}|]|  | [.,?!]|QUESTION|LEAD|ANSWER", story.text), story.text
        assert story.text.count('"') % 2 == 0
        assert all(re.match(r'"?[A-Z]', line) for line in sentences(story.text)), story.text
        assert 85 < len(re.findall(r"\w+|[^\w\s]", story.text)) < 240


# Of known information content


class Enumerated(Chance):
    """Choices that are handed in, not drawn; asks for those that are missing."""

    def __init__(self, choices: tuple[int, ...]):
        super().__init__(0)
        self.choices = list(choices)
        self.sizes: list[int] = []

    def below(self, count: int) -> int:
        self.bits += math.log2(count)
        self.sizes.append(count)
        return self.choices.pop(0) if self.choices else 0


def tellings(phrase: str, slots: dict[str, Any]) -> list[tuple[str, float]]:
    """Every telling of a phrase with its bits, found by counting through all choices."""
    found, choices = [], ()
    while True:
        chance, telling = Enumerated(choices), Telling()
        tell(phrase, dict(slots), chance, telling)
        found.append((telling.text, chance.bits))
        path = [*choices, *[0] * (len(chance.sizes) - len(choices))]
        while path and path[-1] == chance.sizes[len(path) - 1] - 1:
            path.pop()
        if not path:
            return found
        choices = (*path[:-1], path[-1] + 1)


SLOTS = {
    "a": Person("Mia", True),
    "b": Person("Tom", False),
    "p": Place("under", "the old bridge"),
    "d": "by noon",
    "x": "goat",
}


@pytest.mark.parametrize("phrase", ["a", "[a|b]", "[a|b[c|d|e]|] f", "{a} [ran[ off|]|left] {p}[ {d}|]."])
def test_the_probabilities_of_a_phrase_add_up_to_one(phrase):
    found = tellings(phrase, SLOTS)
    assert sum(2**-bits for _, bits in found) == pytest.approx(1.0)
    assert len({text for text, _ in found}) == len(found)


def test_bits_match_how_often_a_telling_is_told():
    phrase = "{a} [left|put[ gently|]|] it {p}[ and sang| and slept|]."
    told_bits = dict(tellings(phrase, SLOTS))
    counts: Counter[str] = Counter()
    for seed in range(6000):
        telling = Telling()
        tell(phrase, dict(SLOTS), Chance(seed), telling)
        counts[telling.text] += 1
    entropy = -sum(n / 6000 * math.log2(n / 6000) for n in counts.values())
    assert entropy == pytest.approx(sum(bits * 2**-bits for bits in told_bits.values()), abs=0.02)
    assert set(counts) == set(told_bits)


def test_a_story_is_worth_the_bits_of_its_choices(monkeypatch):
    drawn: list[int] = []

    class Counting(Chance):
        def below(self, count: int) -> int:
            drawn.append(count)
            return super().below(count)

    monkeypatch.setattr(module, "Chance", Counting)
    for number in range(20):
        drawn.clear()
        (story,) = module.stories(3, 1, number)
        assert story.bits == pytest.approx(math.log2(math.prod(drawn)))


def test_a_draw_is_uniform_over_what_is_not_taken():
    chance = Chance(1)
    counts = Counter(chance.pick_other("abcd", {"b"}) for _ in range(3000))
    assert set(counts) == set("acd")
    assert all(abs(n - 1000) < 150 for n in counts.values())
    assert chance.bits == pytest.approx(3000 * math.log2(3))


@given(st.integers(0, 2**60))
def test_nobody_comes_in_twice(seed):
    world = World(Chance(seed))
    people = [world.child() for _ in range(5)] + [world.adult() for _ in range(5)]
    assert len(set(people)) == 10
    assert set(people) <= {*CHILDREN, *ADULTS}
    spots = [world.place().spot for _ in range(6)]
    assert len(set(spots)) == 6


# With questions that the text answers


def test_questions_point_at_answers(told):
    for story in told:
        assert len(story.questions) == 3
        for question in story.questions:
            assert story.text[question.start :].startswith(question.answer)
            assert re.fullmatch(r" [\w' ]+[.,]", question.answer)
            assert "?" in story.text[question.start - 90 : question.start]


def test_what_is_asked_was_told_before(told):
    """The words of an answer stand earlier in the story, but for a chore that was told as done."""
    for story in told:
        for question in story.questions:
            words = re.findall(r"\w+", question.answer)
            before = re.findall(r"\w+", story.text[: question.start])
            assert all(word in before or word.capitalize() in before or word == "s" for word in words), question


def test_every_happening_and_plot_occurs():
    class Listener(Teller):
        def happens(self, what: str, **slots: object) -> None:
            happened.add(what)
            super().happens(what, **slots)

    happened: set[str] = set()
    for seed in range(20):
        for plot in PLOTS:
            plot(Listener(Chance(seed)))
    assert happened == set(HAPPENINGS)


# The grammar


@pytest.mark.parametrize("bad", ["[a", "a]", "a|b", "[a|[b]", "{a"])
def test_a_broken_phrase_is_refused(bad):
    with pytest.raises(ValueError, match=r"phrase|substring"):
        parse(bad)


def test_every_phrase_parses():
    phrases = [phrase for happening in HAPPENINGS.values() for phrase in happening.tellings]
    asked = itertools.chain.from_iterable(q[:2] for h in HAPPENINGS.values() for q in h.questions)
    for phrase in [*phrases, *asked]:
        assert parse(phrase)


def test_a_slot_that_is_a_function_is_called_once_and_only_if_told():
    calls: list[int] = []

    def goat() -> str:
        calls.append(1)
        return "goat"

    telling = Telling()
    tell("no animal", {"x": goat}, Chance(0), telling)
    assert not calls
    tell(" {x} and {X}", {"x": goat}, Chance(0), telling)
    assert (telling.text, len(calls)) == ("No animal goat and Goat", 1)


# Lessons


def test_drills_are_the_same_everywhere_and_their_texts_hold_the_answers():
    told = drills(5, 300, 10, most=4)
    assert told[7:9] == drills(5, 2, 17, most=4)
    assert 1 <= min(len(story.questions) for story in told) <= max(len(story.questions) for story in told) <= 8
    known = [
        answer.strip(" .,").removeprefix("the ").lower() in story.text[: question.start].lower()
        for story in told
        for question in story.questions
        for answer in [question.answer]
    ]
    assert np.mean(known) > 0.95  # a few tellings name nobody


def test_a_course_begins_with_drills_and_ends_with_plain_stories():
    assert lessons(0.0)[0].tell(0, 1, 0) == drills(0, 1, 0, most=2)
    assert [lesson.tell(1, 2, 3) for lesson in lessons(0.99)] == [stories(1, 2, 3)]
    assert len(lessons(0.5)) == 2


def test_batches_hold_stories_of_about_one_length_and_weigh_answers():
    tokenizer = Tokenizer.from_file(str(resources.files("pim.llm_workloads") / "data/tiny_stories/tokenizer.json"))
    (lesson,) = lessons(0.99)
    seen = []
    for tokens, weights in itertools.islice(batches(tokenizer, lesson, 0, 0, tokens=2048, context=256), 4):
        assert tokens.shape == weights.shape
        assert tokens.shape[1] % 32 == 0
        assert tokens.shape[0] == 2048 // tokens.shape[1]
        assert set(np.unique(weights)) == {0.0, 1.0, 3.0}
        assert ((weights > 0).sum(axis=1) > tokens.shape[1] - 33).all()
        seen += [tokenizer.decode(row[row > 1].tolist()) for row in tokens]
    plain = {story.text for story in stories(0, 2000)}
    assert len(set(seen)) == len(seen)
    assert set(seen) <= plain
