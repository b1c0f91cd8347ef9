"""Tasks: what is asked of a model, and what its answers are worth, against loops over one token after the other."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

import pim
from pim import scoring
from pim.cli import main
from pim.errors import StudyError
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.tasks.continuations import Continuation, as_continuations, encoded_pair
from pim.llm_workloads.tasks.last_word import LastWord
from pim.llm_workloads.tasks.multiple_choice import MultipleChoice, Question
from pim.llm_workloads.tasks.similarity import Pair, Similarity
from pim.llm_workloads.text import as_scored
from pim.mapping.system import DIGITAL_RULES

CONTEXT = 64


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-stories")


@pytest.fixture(scope="module")
def reram(model):
    """One matrix a layer on noisy cells: what compiles soonest."""
    digital = [(f"layers.*.{part}", "digital") for part in ("ffn.*", "attention.[qkv]")]
    devices = {"weights": pim.preset("rram-techC"), "digital": pim.preset("digital-28nm")}
    system = pim.System(devices, (*digital, *DIGITAL_RULES), name="rram-techC")
    return pim.calibrate(pim.place(model, system), story_text(3, 6), tokens=256)


@pytest.fixture(scope="module")
def ideal(model):
    return pim.place(model, pim.inference_system(pim.preset("ideal"), pim.preset("digital-28nm")))


def behind(model, ids, size=CONTEXT):
    """Logits behind the last of some tokens; what pads them stands behind it and is not seen."""
    return np.asarray(model.logits([[*ids, *[0] * (size - len(ids))]]), np.float64)[0, len(ids) - 1]


def loss_of(row, token):
    return np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]


def slow_answer(model, context, continuation, size=CONTEXT):
    """Loss of a continuation and whether greedy decoding writes it, from the whole model for each of its tokens."""
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode(context)]
    loss, greedy = 0.0, True
    for token in model.tokenizer.encode(context + continuation)[len(ids) - 1 :]:
        row = behind(model, ids, size)
        loss += loss_of(row, token)
        greedy &= int(row.argmax()) == token
        ids.append(token)
    return loss, greedy


def write_lines(path, items):
    path.write_text("\n".join(json.dumps(item) if isinstance(item, dict) else item for item in items))
    return path


def sentences(count):
    found = [
        s.strip() + "." for s in story_text(7, count).replace("<|endoftext|>", "").split(".") if len(s.split()) > 4
    ]
    return found[:count]


def test_last_words_are_those_of_a_slow_loop(model, ideal, tmp_path):
    passages = sentences(6)
    task = LastWord.from_file(write_lines(tmp_path / "words.jsonl", [{"text": text} for text in passages]))
    answers = [slow_answer(model, *(text.rpartition(" ")[0], " " + text.rpartition(" ")[2])) for text in passages]
    result = pim.run_task(ideal, task, chips=1, progress=False)
    assert result.digital["accuracy"] == np.mean([greedy for _, greedy in answers])
    assert result.digital["perplexity"] == pytest.approx(np.exp(np.mean([loss for loss, _ in answers])), rel=1e-5)
    assert 0 < result.digital["accuracy"] < 1
    assert result.chips["accuracy"].tolist() == [result.digital["accuracy"]]


def test_choices_are_those_of_a_slow_loop(model, ideal, tmp_path):
    texts = sentences(8)
    starts = [text[: len(text) // 2].rpartition(" ")[0] for text in texts]
    ends = [text[len(start) + 1 :] for text, start in zip(texts, starts, strict=True)]
    items = [
        {"query": start, "choices": [ends[i], ends[i - 1], *ends[: i % 3]], "gold": 0} for i, start in enumerate(starts)
    ]
    task = MultipleChoice.from_file(write_lines(tmp_path / "choices.jsonl", items))
    losses = [[slow_answer(model, item["query"], f" {choice}")[0] for choice in item["choices"]] for item in items]
    result = pim.run_task(ideal, task, chips=1, progress=False)
    for name, size in (
        ("accuracy", lambda _: 1),
        ("accuracy_norm", len),
        ("accuracy_bytes", lambda c: len(c.encode())),
    ):
        picks = [
            min(range(len(row)), key=lambda i, row=row, item=item: row[i] / size(item["choices"][i]))
            for row, item in zip(losses, items, strict=True)
        ]
        assert result.digital[name] == np.mean([pick == 0 for pick in picks])


def test_length_decides_where_it_is_divided_by():
    task = MultipleChoice("", "", (Question("", ("a", "bbbb"), 1, ""), Question("", ("éé", "aaa"), 1, "")))
    found = task.metrics(np.array([1.0, 3.0, 2.0, 3.0]), np.zeros(4), np.ones(4, int))
    assert found == {"accuracy": 0.0, "accuracy_norm": 0.5, "accuracy_bytes": 0.5}
    chips = task.metrics(np.array([[1.0, 3.0, 2.0, 3.0], [3.0, 1.0, 3.0, 2.0]]), np.zeros((2, 4)), np.ones(4, int))
    assert chips["accuracy"].tolist() == [0.0, 1.0]


def test_piqa_is_asked_as_the_harness_asks_it(tmp_path):
    item = {"goal": "dry a shirt", "sol1": "hang it up ", "sol2": "fold it", "label": 1}
    (question,) = MultipleChoice.from_file(write_lines(tmp_path / "piqa.jsonl", [item])).items
    assert (question.context, question.choices, question.label) == (
        "Question: dry a shirt\nAnswer:",
        ("hang it up ", "fold it"),
        1,
    )


def test_the_blanks_that_end_a_context_go_to_its_continuation(model):
    before, scored = encoded_pair(model.tokenizer, "Once upon a ", "time")
    assert (before, scored) == encoded_pair(model.tokenizer, "Once upon a", " time")
    assert before + scored == model.tokenizer.encode("Once upon a time")


def test_a_long_context_loses_its_beginning(model):
    story = story_text(7, 1).replace("<|endoftext|>", "").strip()
    items = [Continuation(story, " The end.", "here", 0), Continuation("One", " day", "there", 1)]
    text = as_continuations(items, model.tokenizer, context=16, protocol="", sha256="")
    ids = [model.tokenizer.encode(part) for part in (story, " The end.")]
    whole = model.tokenizer.encode(story + " The end.")
    assert len(ids[0]) > 16 and "1 contexts cut" in text.protocol
    assert text.rows()[0].tolist() == [model.tokenizer.bos_id, *whole[-15:]]
    assert text.scored_tokens()[0] == len(whole) - len(ids[0]) and text.first[1] == 1 + len(
        model.tokenizer.encode("One")
    )
    with pytest.raises(WorkloadError, match=r"here: a continuation of .* does not fit into a context of 4"):
        as_continuations(
            [replace(items[0], text=" It was the end of it all.")], model.tokenizer, context=4, protocol="", sha256=""
        )


def test_without_a_beginning_the_end_of_the_text_before_stands_there(model):
    class Bare:
        bos_id, eos_id, vocab_size = None, 3, model.tokenizer.vocab_size
        encode, decode = model.tokenizer.encode, model.tokenizer.decode

    item = Continuation("", "One day", "here", 0)
    text = as_continuations([item], Bare(), context=16, protocol="", sha256="")
    assert text.rows()[0].tolist() == [3, *model.tokenizer.encode("One day")] and text.first[0] == 1
    Bare.eos_id = None
    with pytest.raises(WorkloadError, match="here: the context is empty"):
        as_continuations([item], Bare(), context=16, protocol="", sha256="")


@given(
    cosines=arrays(np.float64, (2, 6), elements=st.integers(0, 3).map(lambda i: i / 3)),
    scores=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_rank_correlation_is_that_of_scipy(cosines, scores):
    task = Similarity("", "", tuple(Pair(("", ""), float(score), "") for score in scores))
    vectors = np.zeros((2, 12, 2), np.float32)
    vectors[:, 0::2, 0] = 2.0
    vectors[:, 1::2] = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=-1)
    found = task.metrics(vectors)["spearman"]
    angles = (vectors[:, 1::2, 0] / np.linalg.norm(vectors[:, 1::2], axis=-1).astype(np.float64)).round(6)
    for chip, value in enumerate(found):
        varied = len(set(cosines[chip])) > 1 and len(set(scores)) > 1
        assert value == pytest.approx(spearmanr(angles[chip], scores).statistic if varied else 0.0, abs=1e-6)


def test_chips_answer_the_same_whatever_is_asked_beside(reram, tmp_path, monkeypatch):
    file = write_lines(tmp_path / "words.jsonl", [{"text": text} for text in sentences(8)])
    task = LastWord.from_file(file)
    whole = scoring.score([reram], task.scored(reram.model.tokenizer, CONTEXT), chips=2, seed=1, progress=False)
    monkeypatch.setattr(scoring, "TOKENS_PER_BATCH", 60)
    monkeypatch.setattr(scoring, "KEPT_LOGITS", 0)  # and the exact model computed anew for each chip
    part = scoring.score(
        [reram], task.part(slice(5)).scored(reram.model.tokenizer, CONTEXT), chips=1, seed=1, progress=False
    )
    np.testing.assert_allclose(part.nll[:, :1], whole.nll[:, :1, :5], rtol=1e-4)
    np.testing.assert_allclose(part.kl[:, :1], whole.kl[:, :1, :5], rtol=1e-2, atol=1e-4)
    assert (whole.nll[0, 0] != whole.nll[0, 1]).all()


def test_scores_say_which_tokens_greedy_decoding_has_right(model, ideal):
    text = as_scored(story_text(7, 2), model.tokenizer, context=CONTEXT)
    scores = scoring.score([ideal], text, chips=1, seed=0, progress=False)
    logits = np.asarray(model.logits(text.tokens))
    right = [int((logits[i, : len(row) - 1].argmax(axis=-1) == row[1:]).sum()) for i, row in enumerate(text.rows())]
    assert scores.digital_right.tolist() == right == scores.right[0, 0].tolist()
    assert scores.agree[0, 0].tolist() == text.scored_tokens().tolist()


def test_overlapping_windows_are_a_better_perplexity(model, ideal):
    story = story_text(7, 6).replace("<|endoftext|>", " ")
    alone = pim.evaluate(ideal, story, context=32, chips=1, progress=False)
    overlapping = pim.evaluate(ideal, story, context=32, stride=8, chips=1, progress=False)
    assert overlapping.digital_perplexity < alone.digital_perplexity
    ids = model.tokenizer.encode(story)[:40]
    losses = []
    for at in range(len(ids)):  # each token behind what its window has: the first that it is in
        start = 0 if at < 31 else -(-(at - 30) // 8) * 8
        losses.append(loss_of(behind(model, [model.tokenizer.bos_id, *ids[start:at]]), ids[at]))
    few = pim.evaluate(ideal, story, context=32, stride=8, chips=1, tokens=40, progress=False)
    assert few.digital_perplexity == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_windows_of_a_document_are_summed_as_one(ideal):
    stories = story_text(7, 2)
    result = pim.evaluate(ideal, stories, context=32, stride=16, chips=2, progress=False)
    whole = pim.evaluate(ideal, stories, context=256, chips=2, progress=False)
    assert result.protocol["documents"] == 2 == len(result.scores.tokens) and result.scores.nll.shape == (1, 2, 2)
    assert result.scores.tokens.tolist() == whole.scores.tokens.tolist()
    found = result.documents()
    assert found["perplexity"].dims == ("chip", "document")
    np.testing.assert_allclose(found["digital_perplexity"], np.exp(result.scores.digital / result.scores.tokens))
    np.testing.assert_allclose(found["perplexity"], np.exp(result.scores.nll[0] / result.scores.tokens[None]))


def test_a_run_that_is_kept_answers_the_same(ideal, tmp_path):
    task = pim.load_task("last-word", write_lines(tmp_path / "words.jsonl", [{"text": text} for text in sentences(6)]))
    whole = pim.run_task(ideal, task, chips=1, progress=False)
    kept = pim.run_task(ideal, task, chips=1, resume=tmp_path / "run", progress=False)
    assert kept.digital["accuracy"] == whole.digital["accuracy"]
    assert kept.chips["perplexity"] == pytest.approx(whole.chips["perplexity"], rel=1e-5)


def test_the_result_says_its_protocol(reram, tmp_path):
    file = write_lines(tmp_path / "words.jsonl", [{"text": text} for text in sentences(4)])
    result = pim.run_task(
        reram, pim.load_task("last-word", file), chips=2, limit=3, seed=5, context=CONTEXT, progress=False
    )
    told = result.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["protocol"]["items"] == 3 and told["protocol"]["text_sha256"] == result.protocol["text_sha256"]
    figures = told["figures"]["perplexity"]
    assert figures["std"] == pytest.approx(np.std(figures["chips"], ddof=1)) and len(figures["chips"]) == 2
    for words in (
        "last-word with tiny-stories on rram-techC: 3 items",
        "seed 5",
        "words.jsonl",
        "±",
        "jax",
        "BOS in front",
    ):
        assert words in str(result)
    assert result.citations() == reram.system.citations() and told["sources"]


@pytest.mark.parametrize(
    ("kind", "lines", "message"),
    [
        ("last-word", ["", '{"text": "a b"}', "{text"], "line 3: invalid JSON"),
        ("last-word", ["[1]"], "line 1: expected a JSON object, found list"),
        ("last-word", ['{"words": "a b"}'], "line 1: 'text' is missing"),
        ("last-word", ['{"text": 3}'], "line 1: 'text' must be text that is not blank, not 3"),
        ("last-word", ['{"text": "alone"}'], "line 1: the passage does not end in a blank and a word"),
        ("last-word", ['{"text": "a word "}'], "line 1: the passage does not end"),
        ("last-word", ["", " "], "there is no item"),
        ("multiple-choice", ['{"goal": "a", "sol1": "b", "label": 0}'], "line 1: 'sol2' is missing"),
        ("multiple-choice", ['{"context": "a", "label": 0}'], "line 1: 'choices' must be a list"),
        (
            "multiple-choice",
            ['{"context": "a", "choices": ["b"], "label": 0}'],
            "line 1: 'choices' must be a list of two",
        ),
        ("multiple-choice", ['{"context": "a", "choices": ["b", ""], "label": 0}'], "line 1: the choice '' must be"),
        (
            "multiple-choice",
            ['{"context": "a", "choices": ["b", "c"], "label": 2}'],
            "line 1: 'label' must be .* not 2",
        ),
        ("multiple-choice", ['{"context": "a", "choices": ["b", "c"], "label": true}'], "not True"),
        ("multiple-choice", ['{"query": "a", "choices": ["b", "c"]}'], "line 1: 'label' must be .* not None"),
        ("similarity", ["a,b,1", "a,b"], "line 2: 2 columns, but 3 are expected"),
        ("similarity", ["a,b,1", "a,b,much"], "line 2: the score must be a number, not 'much'"),
        ("similarity", ["a,b,nan"], "line 1: the score must be a number"),
        ("similarity", ["a, ,1"], "line 1: a sentence is blank"),
        ("similarity", ['"a,b,1'], "line 1: invalid CSV"),
        ("similarity", ["sentence1,sentence2,score", "a,b,1"], "ranks need two pairs or more, 1 are there"),
        ("charades", ["a"], "no task 'charades': there are last-word, multiple-choice, similarity"),
    ],
)
def test_a_line_that_cannot_be_asked(tmp_path, kind, lines, message):
    with pytest.raises(WorkloadError, match=message) as error:
        pim.load_task(kind, write_lines(tmp_path / "items", lines))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "items").write_bytes(b"\xff\xfe")
    with pytest.raises(WorkloadError, match="not UTF-8 text"):
        pim.load_task("last-word", tmp_path / "items")
    with pytest.raises(FileNotFoundError):
        pim.load_task("last-word", tmp_path / "none")


def test_what_cannot_be_run(ideal, tmp_path):
    task = pim.load_task("last-word", write_lines(tmp_path / "words.jsonl", [{"text": text} for text in sentences(3)]))
    with pytest.raises(StudyError, match="limit = 0"):
        pim.run_task(ideal, task, limit=0)
    with pytest.raises(StudyError, match="chips = 0"):
        pim.run_task(ideal, task, chips=0)
    with pytest.raises(StudyError, match="config alone"):
        pim.run_task(pim.place(ideal.config, ideal.system), task)
    with pytest.raises(StudyError, match="no converter ranges"):
        system = pim.inference_system(pim.preset("rram-techC"), pim.preset("digital-28nm"))
        pim.run_task(pim.place(ideal.model, system), task)
    pairs = Similarity("", "", (Pair(("a", "b"), 1.0, ""),))
    with pytest.raises(StudyError, match="context = 0"):
        pim.run_task(ideal, pairs, context=0)
    with pytest.raises(StudyError, match="resume has no effect"):
        pim.run_task(ideal, pairs, resume=tmp_path)
    for size in ({"tokens": 4}, {"stride": 4}):
        with pytest.raises(StudyError, match="no effect on a text that is cut already"):
            pim.evaluate(ideal, task.scored(ideal.model.tokenizer, CONTEXT), **size)
    with pytest.raises(StudyError, match="overlaps the scored text"):
        calibrated = pim.calibrate(ideal, task.scored(ideal.model.tokenizer, CONTEXT))
        pim.run_task(calibrated, task)
    assert pairs.scored(ideal.model.tokenizer, CONTEXT).scored_tokens().tolist() == [0, 0]


def test_the_command_line_asks_a_file(tmp_path, capsys):
    file = write_lines(tmp_path / "words.jsonl", [{"text": text} for text in sentences(5)])
    asked = ["task", "last-word", str(file), "--system", "ideal", "--chips", "1", "--limit", "2", "--quiet"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocol"]["items"] == 2 and told["figures"]["accuracy"]["std"] is None
    assert main(["task", "similarity", str(file)]) == 2
    assert "columns, but 3 are expected" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "file"), [("last-word", "lambada_dev"), ("multiple-choice", "piqa_dev")])
def test_public_items_on_stories(shared, kind, file):
    """At or near chance: that it runs, and that the figures are those of a slow loop."""
    stories = load_model(shared / "data" / "stories260K")
    plan = pim.place(stories, pim.inference_system(pim.preset("ideal"), pim.preset("digital-28nm")))
    task = pim.load_task(kind, shared / "data" / "text" / f"{file}.jsonl")
    assert task.count == {"last-word": 2500, "multiple-choice": 900}[kind]
    result = pim.run_task(plan, task, chips=1, limit=2, progress=False)
    if kind == "last-word":
        answers = [slow_answer(stories, item.context, item.text, 512) for item in task.items[:2]]
        assert result.digital["perplexity"] == pytest.approx(np.exp(np.mean([loss for loss, _ in answers])), rel=1e-4)
        assert result.digital["accuracy"] == np.mean([greedy for _, greedy in answers])
    else:
        rows = [[slow_answer(stories, q.context, f" {c}", 512)[0] for c in q.choices] for q in task.items[:2]]
        hits = [np.argmin(row) == q.label for row, q in zip(rows, task.items, strict=False)]
        assert result.digital["accuracy"] == np.mean(hits)


def test_minilm_on_the_sts_benchmark(shared):
    """Of the first 200 pairs, whose rank correlation is known from PyTorch (reference/workloads.md, section 2.2)."""
    system = pim.inference_system(pim.preset("ideal"), pim.preset("digital-28nm"))
    plan = pim.place(load_model(shared / "data" / "minilm"), system)
    task = pim.load_task("similarity", shared / "data" / "text" / "stsb_en_dev.csv")
    result = pim.run_task(plan, task, chips=1, limit=200, progress=False)
    assert result.digital["spearman"] == pytest.approx(0.9362, abs=5e-5)
    assert result.chips["spearman"][0] == pytest.approx(result.digital["spearman"], abs=1e-4)


@pytest.mark.slow
def test_minilm_on_the_whole_sts_benchmark(shared):
    plan = pim.place(
        load_model(shared / "data" / "minilm"), pim.inference_system(pim.preset("ideal"), pim.preset("digital-28nm"))
    )
    task = pim.load_task("similarity", shared / "data" / "text" / "stsb_en_dev.csv")
    assert pim.run_task(plan, task, chips=1, progress=False).digital["spearman"] == pytest.approx(0.8672, abs=5e-4)
