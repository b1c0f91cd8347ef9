"""A plan as a model of lm-evaluation-harness, on tasks of local files.

Skipped where the harness is not installed, since it brings PyTorch. To run it, in an environment of its own:
`pip install -e '.[test,lm-eval]' && pytest tests/test_harness.py`.
"""

import builtins
import json
import logging
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import pim
from pim.errors import StudyError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.mapping.system import DIGITAL_RULES

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {file}
validation_split: validation
metadata:
  version: 1.0
"""
CHOICE = """
output_type: multiple_choice
doc_to_text: "Question: {{goal}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{[sol1, sol2]}}"
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
"""
LAST = """
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list: [{metric: perplexity, aggregation: perplexity}, {metric: acc, aggregation: mean}]
"""
ROLLING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""


def items():
    """Sentences of stories with an end of their own, and one of another sentence."""
    sentences = [s.strip() for s in story_text(5, 8).replace("<|endoftext|>", "").split(".") if len(s.split()) > 5]
    halves = [s.rsplit(" ", 3) for s in sentences[:12]]
    ends = [" ".join(words) for _, *words in halves]
    return [
        {"goal": first, "sol1": end, "sol2": other, "label": number % 2, "text": f"{first} {end}"}
        for number, ((first, *_), end, other) in enumerate(zip(halves, ends, ends[1:] + ends[:1], strict=True))
    ]


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """Runs a task of the harness on local files."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items()))
    for name, kind in (("choice", CHOICE), ("last", LAST), ("rolling", ROLLING)):
        text = TASK.format(name=f"local_{name}", file=tmp_path / "items.jsonl") + kind
        (tmp_path / f"{name}.yaml").write_text(text)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    def run(model, name):
        found = lm_eval.simple_evaluate(model, tasks=[f"local_{name}"], task_manager=manager, bootstrap_iters=0)
        return {key.partition(",")[0]: value for key, value in found["results"][f"local_{name}"].items()}

    return run, tmp_path / "items.jsonl"


@pytest.fixture(scope="module")
def plan():
    digital = [(f"layers.*.{part}", "digital") for part in ("ffn.*", "attention.[qkv]")]
    devices = {"weights": pim.preset("rram-techC"), "digital": pim.preset("digital-28nm")}
    system = pim.System(devices, (*digital, *DIGITAL_RULES), name="rram-techC")
    return pim.calibrate(pim.place("tiny-stories", system), story_text(3, 6), tokens=256)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chip", [None, 0, 1])
def test_the_harness_finds_what_our_tasks_find(harness, plan, chip):
    run, file = harness
    model = pim.harness_model(plan, chip=chip)
    choices = pim.run_task(plan, pim.load_task("multiple-choice", file), chips=2, progress=False)
    words = pim.run_task(plan, pim.load_task("last-word", file), chips=2, progress=False)
    ours = lambda result, name: result.digital[name] if chip is None else result.chips[name][chip]
    theirs = run(model, "choice")
    for name, same in (("acc", "accuracy"), ("acc_norm", "accuracy_norm"), ("acc_bytes", "accuracy_bytes")):
        assert theirs[name] == ours(choices, same)
    theirs = run(model, "last")
    assert theirs["acc"] == ours(words, "accuracy")
    assert theirs["perplexity"] == pytest.approx(ours(words, "perplexity"), rel=1e-5)


@pytest.mark.filterwarnings("default")
def test_rolling_windows_score_every_token_once(harness, plan):
    run, _ = harness
    exact, words = load_model("tiny-stories"), sum(len(item["text"].split()) for item in items())
    short = pim.harness_model(plan, chip=None, context=8)
    total = 0.0
    for item in items():
        ids = exact.tokenizer.encode(item["text"])
        total += slow_loss(exact, [exact.tokenizer.bos_id, *ids])
    assert run(pim.harness_model(plan, chip=None), "rolling")["word_perplexity"] == pytest.approx(
        np.exp(total / words), rel=1e-4
    )
    assert run(short, "rolling")["word_perplexity"] > np.exp(total / words)


def slow_loss(model, ids):
    logits = np.asarray(model.logits([ids]), np.float64)[0]
    return float(
        sum(np.log(np.exp(row - row.max()).sum()) + row.max() - row[i] for row, i in zip(logits, ids[1:], strict=False))
    )


@pytest.mark.filterwarnings("default")
def test_texts_are_written_greedily_up_to_their_end(harness, plan):
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    model = pim.harness_model(plan, chip=None)
    asked = [
        ("Once upon a time", {"until": ["."], "max_gen_toks": 40}),
        ("One day, Tom", {"until": [], "max_gen_toks": 5}),
        ("A dog", {"until": [], "max_new_tokens": 3}),
    ]
    found = model.generate_until(
        [Instance("generate_until", {}, arguments, number) for number, arguments in enumerate(asked)]
    )
    exact = load_model("tiny-stories")
    for (prompt, options), text in zip(asked, found, strict=True):
        ids = [exact.tokenizer.bos_id, *exact.tokenizer.encode(prompt)]
        start = len(ids)
        for _ in range(options.get("max_gen_toks", options.get("max_new_tokens"))):
            ids.append(int(jnp.argmax(exact.logits([ids])[0, -1])))
        assert text == exact.tokenizer.decode(ids[start:]).partition("." if options["until"] else "\0")[0]
    with pytest.raises(StudyError, match="greedy"):
        model.generate_until([Instance("generate_until", {}, ("One", {"do_sample": True}), 0)])
    with pytest.raises(StudyError, match="give max_gen_toks"):
        model.generate_until([Instance("generate_until", {}, ("One", {"max_length": 9}), 0)])


@pytest.mark.filterwarnings("default")
def test_rolling_windows_and_prompts_have_as_many_tokens_as_those_of_the_harness(harness, plan, monkeypatch):
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    model, text = pim.harness_model(plan, chip=None, context=8), story_text(5, 1).replace("<|endoftext|>", "")
    ids = model.model.tokenizer.encode(text)
    lengths = [len(before) + len(scored) - 1 for before, scored in model._windows(text)]
    assert set(lengths[:-1]) == {8} and len(lengths) == -(-len(ids) // 8)
    assert sum(len(scored) for _, scored in model._windows(text)) == len(ids)
    prompts = []
    monkeypatch.setattr("pim.harness_lm.continued", lambda *given: prompts.extend(given[4]) or [""] * len(given[4]))
    tokenizer = replace(model.model.tokenizer, bos_id=None, eos_id=2)
    model.model = replace(model.model, tokenizer=tokenizer)
    asked = [(text, {"max_gen_toks": 3}), ("", {"max_gen_toks": 3})]
    model.generate_until([Instance("generate_until", {}, given, number) for number, given in enumerate(asked)])
    assert prompts == [ids[-5:], [2]]  # without a BOS nothing stands before a prompt that has tokens


def test_without_the_harness_it_says_what_to_install(plan, monkeypatch):
    real = builtins.__import__

    def refusing(name, *rest, **options):
        if name.startswith("lm_eval"):
            raise ModuleNotFoundError("no", name="lm_eval")
        return real(name, *rest, **options)

    monkeypatch.delitem(__import__("sys").modules, "pim.harness_lm", raising=False)
    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(StudyError, match=r"pip install 'pim-emulator\[lm-eval\]'"):
        pim.harness_model(plan)
