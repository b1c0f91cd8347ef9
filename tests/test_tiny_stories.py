"""The shipped model: it knows its stories nearly as well as can be, answers questions about them and does not loop."""

import json
from pathlib import Path

import numpy as np
import pytest

from pim.llm_workloads.model import Model, load_model
from pim.llm_workloads.stories import Story, stories
from pim.llm_workloads.stories.exam import Exam, answer_tokens, examine
from pim.llm_workloads.stories.model_card import continuation, opening

FOLDER = Path(__file__).resolve().parents[1] / "llm_workloads" / "data" / "tiny_stories"
HELD_OUT = 11


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny-stories")


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return stories(HELD_OUT, 208)


@pytest.fixture(scope="module")
def exam(model, told) -> Exam:
    return examine(model.logits, model.tokenizer, told, rows=52)


def test_it_is_small_enough_to_ship():
    assert (FOLDER / "model.safetensors").stat().st_size < 3e6
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["torch_dtype"] == "float16"
    assert {path.name for path in FOLDER.glob("*.*")} >= {"MODEL_CARD.md", "tokenizer.json"}


def test_any_text_survives_its_tokenizer(model, told):
    tokenizer = model.tokenizer
    assert tokenizer.vocab_size == 1024
    for text in [*(story.text for story in told[:50]), "Žluťoučký kůň\n\t 3.14  §", ""]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.bos_id, tokenizer.eos_id} & set(ids)


def test_a_story_fits_its_context(model):
    lengths = [len(model.tokenizer.encode(story.text)) + 2 for story in stories(HELD_OUT + 1, 1500)]
    assert 100 <= min(lengths)
    assert max(lengths) <= model.config.max_position_embeddings
    assert 150 < np.mean(lengths) < 200


def test_its_perplexity_is_close_to_the_best_possible(exam):
    assert exam.bound == pytest.approx(1.73, abs=0.03)
    assert exam.perplexity > 0.98 * exam.bound, "better than what is possible: the bits are wrong"
    assert exam.perplexity < 1.10 * exam.bound


def test_questions_about_the_beginning_are_answered(exam):
    assert len(exam.answered) > 600
    assert exam.accuracy > 0.9


def test_the_exam_is_what_greedy_decoding_says(model, told, exam):
    """Oracle: the answers of a few stories, decoded token by token."""
    answered = iter(exam.answered)
    for story in told[:6]:
        for question in story.questions:
            start, end = answer_tokens(model.tokenizer, story.text, question)
            truth = model.tokenizer.encode(story.text)
            ids = [model.tokenizer.bos_id, *truth[:start]]
            for _ in range(end - start):
                row = np.full((1, 256), model.tokenizer.eos_id, np.int32)
                row[0, : len(ids)] = ids
                ids.append(int(np.asarray(model.logits(row))[0, len(ids) - 1].argmax()))
            assert (ids[start + 1 :] == truth[start:end]) == next(answered)
            assert model.tokenizer.decode(truth[start:end]).startswith(question.answer)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_greedy_text_ends_and_does_not_loop(model, told, count):
    context = model.config.max_position_embeddings
    for story in told[:count]:
        text = continuation(model.logits, model.tokenizer, opening(story), context)
        ids = model.tokenizer.encode(text)
        grams = [tuple(ids[i : i + 8]) for i in range(len(ids) - 7)]
        assert len(ids) < context - 2 or len(set(grams)) == len(grams), text


def test_a_confused_model_fails_the_exam(model, told, exam):
    """The questions are no gift: whoever reads the stories with the wrong people in them answers few."""

    def forgetful(tokens):
        shuffled = tokens.copy()
        shuffled[:, 1:80] = np.random.default_rng(0).permuted(shuffled[:, 1:80], axis=1)
        return model.logits(shuffled)

    confused = examine(forgetful, model.tokenizer, told[:52], rows=52)
    assert confused.accuracy < 0.75 * exam.accuracy
