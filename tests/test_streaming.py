"""Evaluation layer by layer: the same result as with the model in memory, and the same bits after an interruption."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pim.calibration import calibrate
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.errors import StudyError
from pim.evaluation import evaluate, study
from pim.files import atomic_file
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import load_model
from pim.llm_workloads.saving import save_checkpoint
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.mapping.plan import place
from pim.mapping.system import System, inference_system
from pim.scoring import score
from pim.streaming import read_out, scoring, streams
from pim.streaming.read_out import pieces
from pim.streaming.scoring import score_streamed
from pim.study import Study
from pim.study_run import run_study

OPTIONS = {"chips": 2, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small Llama of random weights, in the layout of a checkpoint, with the tokenizer of the shipped model."""
    shipped = load_model("tiny-stories")
    config = llama_config(shipped.config.vocab_size, 32, 80, 3, 4, 2, 8, tie_word_embeddings=False)
    where = tmp_path_factory.mktemp("models") / "small"
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32) / np.sqrt(shape[-2])
    layer = {name: draw(3, *shape) for name, shape in config.matrix_shapes.items()}
    layer |= {name: 1 + 0.1 * rng.normal(size=(3, 32)).astype(np.float32) for name in ("input_norm", "post_norm")}
    outer = {"embed": draw(config.vocab_size, 32), "norm": np.ones(32, np.float32), "head": draw(32, config.vocab_size)}
    save_checkpoint(where, config, {**outer, "segments": [layer]})
    source = Path(str(sys.modules["pim.llm_workloads"].__file__)).parent / "data" / "tiny_stories"
    (where / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return where


@pytest.fixture(scope="module")
def system() -> System:
    return inference_system(replace(preset("rram-wan2022"), {"rows": 16}), preset("ideal"))


@pytest.fixture(scope="module")
def plan(folder, system):
    return calibrate(place(load_model(folder, resident=False), system), story_text(1, 2), tokens=64)


@pytest.fixture(scope="module")
def text(plan):
    return as_scored(story_text(2, 5), plan.model.tokenizer, context=24)


@pytest.fixture(scope="module")
def kept(plan, text):
    """What the streamed run finds without an interruption."""
    return score_streamed([plan], text, **OPTIONS)


def equal(found, other) -> None:
    for name in ("nll", "kl", "agree", "right", "digital", "digital_right", "tokens"):
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name), err_msg=name)


def close(found, other) -> None:
    for name in ("nll", "digital"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(found.kl, other.kl, rtol=2e-2, atol=1e-4)
    np.testing.assert_array_equal(found.tokens, other.tokens)
    total = other.tokens.sum()
    for name in ("agree", "right", "digital_right"):
        assert np.abs(getattr(found, name) - getattr(other, name)).sum(axis=-1).max() < 0.02 * total


def test_streamed_scores_are_those_of_the_model_in_memory(folder, system, plan, text, kept):
    """Ranges and operands too; an ADC code that flips at a tie is all that may differ."""
    model = load_model(folder)
    resident = calibrate(place(model, system), story_text(1, 2), tokens=64)
    assert set(resident.ranges) == set(plan.ranges) and len(plan.ranges) == 21
    for path, ranges in plan.ranges.items():
        np.testing.assert_allclose(ranges.adc, resident.ranges[path].adc, rtol=1e-5, err_msg=path)
    close(kept, score([resident], text, **OPTIONS))
    assert kept.nll[0, 0] != pytest.approx(kept.nll[0, 1]), "chips differ"


def test_evaluate_streams_what_is_on_disk(plan, text, kept):
    result = evaluate(plan, text, chips=2, seed=3, progress=False)
    equal(result.scores, kept.summed(text.source))
    assert np.isfinite(result.perplexity) and result.points[0].cost.energy_per_token > 0
    with pytest.raises(WorkloadError, match=r"small: the weights of this model are not in memory.*resident=False"):
        plan.model.logits([[1, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("converters", ["none", "own"])
def test_the_shipped_model_streams_and_sweeps(tmp_path, converters):
    """Without steps to a float's rounding. A code that flips at a tie moves all that follows in its document by parts
    of a step, and more codes flip: few documents do, each within what the steps do to it anyway.
    """
    weights, axes = preset("rram-techC"), {"weights.adc.bits": [8, 6]}
    if converters == "none":
        weights, axes = replace(weights, {"adc": None, "dac.bits": 16}), {"weights.dac.bits": [16, 15]}
    model, system = load_model("tiny-stories"), inference_system(weights, preset("digital-28nm"))
    plan = calibrate(place(model, system), story_text(1, 3))
    text = as_scored(story_text(2, 12), model.tokenizer, context=64)
    known = study(plan, axes, text, **OPTIONS)
    found = study(plan, axes, text, resume=tmp_path / "run", **OPTIONS)
    if converters == "none":
        close(found.scores, known.scores)
        return
    parted = ~np.isclose(found.scores.nll, known.scores.nll, rtol=2e-4)
    assert parted.mean() < 0.25
    assert np.abs(found.scores.nll - known.scores.nll).max() < np.abs(known.scores.nll - known.scores.digital).max()
    np.testing.assert_allclose(found.scores.nll.sum(axis=-1), known.scores.nll.sum(axis=-1), rtol=3e-3)


@pytest.mark.slow
def test_a_study_can_be_interrupted(tmp_path):
    study_ = Study(tokens=48, chips=1, sweep={"weights.adc.bits": [8]}, out=str(tmp_path / "out"))
    known = run_study(study_, progress=False)
    found = run_study(dataclasses.replace(study_, resume=str(tmp_path / "kept")), progress=False)
    close(found.scores, known.scores)
    assert (tmp_path / "kept" / "point0.chip0.npz").exists()


class Killed(Exception):
    pass


@pytest.mark.parametrize("units", [0, 1, 5, 9, 11])
def test_a_run_goes_on_where_it_was_interrupted(plan, text, kept, tmp_path, monkeypatch, units):
    """Units are of 3 streams: 9 steps through layers, then 3 read out; of the interrupted one nothing is left."""
    keep, done = streams.InFolder.keep, []

    def interrupted(self, name, stage, arrays):
        if len(done) == units:
            with atomic_file(self._path(name)) as file:
                file.write(b"half a stream")
                raise Killed
        done.append((name, stage))
        keep(self, name, stage, arrays)

    with monkeypatch.context() as patched:
        patched.setattr(streams.InFolder, "keep", interrupted)
        with pytest.raises(Killed):
            score_streamed([plan], text, resume=tmp_path, **OPTIONS)
    again = []
    monkeypatch.setattr(streams.InFolder, "keep", lambda self, *a: (again.append(a[:2]), keep(self, *a))[1])
    equal(score_streamed([plan], text, resume=tmp_path, **OPTIONS), kept)
    assert len(done) == units and len(again) == 12 - units and not set(done) & set(again)
    again.clear()
    equal(score_streamed([plan], text, resume=tmp_path, **OPTIONS), kept)
    assert not again, "what is done is not done again"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "exact.npz", "point0.chip0.npz", "point0.chip1.npz", "run.json"
    ]  # fmt: skip


SCRIPT = """
import os, signal, sys
import numpy as np
import jax
from pathlib import Path
from pim.calibration import calibrate
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.streaming import streams
from pim.streaming.scoring import score_streamed

folder, run, kill_after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
keep, left = streams.InFolder.keep, [kill_after]

def counted(self, name, stage, arrays):
    keep(self, name, stage, arrays)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

streams.InFolder.keep = counted
system = inference_system(replace(preset("rram-wan2022"), {"rows": 16}), preset("ideal"))
plan = calibrate(place(load_model(folder, resident=False), system), story_text(1, 2), tokens=64)
text = as_scored(story_text(2, 5), plan.model.tokenizer, context=24)
scores = score_streamed([plan], text, chips=2, seed=3, progress=False, resume=run)
np.savez(run.with_suffix(".scores.npz"), **vars(scores))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_that_was_killed_goes_on_to_the_same_bits(folder, tmp_path):
    run = lambda name, kill_after: subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / name), str(kill_after)], env=os.environ
    )
    assert run("whole", 0).returncode == 0
    assert run("killed", 4).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.scores.npz").exists()
    assert run("killed", 0).returncode == 0
    one, other = (np.load(tmp_path / f"{name}.scores.npz") for name in ("whole", "killed"))
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_folder_of_another_run_is_refused_in_one_line(plan, text, tmp_path, folder, system):
    run = tmp_path / "run"
    score_streamed([plan], text, resume=run, **OPTIONS)
    again = lambda p=plan, t=text, **changes: score_streamed([p], t, resume=run, **{**OPTIONS, **changes})
    with pytest.raises(StudyError, match=r"run holds another run \(seed: 3 there, 4 here\): choose a new folder"):
        again(seed=4)
    with pytest.raises(StudyError, match=r"holds another run \(chips: 2 there, 3 here\)"):
        again(chips=3)
    with pytest.raises(StudyError, match=r"holds another run \(other text\)"):
        again(t=text.head(30))
    with pytest.raises(StudyError, match=r"holds another run \(other devices\)"):
        again(plan.replace({"weights.adc.bits": 7}))
    with pytest.raises(StudyError, match=r"holds another run \(other ranges\)"):
        again(calibrate(place(plan.model, system), story_text(9, 2), tokens=64))
    mixed = System(system.devices, [("layers.1.*", "digital"), *system.rules])
    with pytest.raises(StudyError, match=r"holds another run \(other placement\)"):
        again(calibrate(place(plan.model, mixed), story_text(1, 2), tokens=64))
    os.utime(folder / "model.safetensors", (0, 0))
    with pytest.raises(StudyError, match=r"holds another run \(other model\)"):
        again()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(StudyError, match=r"notes holds files, but no run to go on with: choose a new folder"):
        score_streamed([plan], text, resume=tmp_path / "notes", **OPTIONS)


def test_damaged_streams_are_named(plan, text, tmp_path):
    score_streamed([plan], text, resume=tmp_path, **OPTIONS)
    (tmp_path / "exact.npz").write_bytes(b"PK and then nothing")
    with pytest.raises(StudyError, match=r"exact.npz is damaged: delete it"):
        score_streamed([plan], text, resume=tmp_path, **OPTIONS)
    (tmp_path / "run.json").write_text(json.dumps({"seed": 3}))
    with pytest.raises(StudyError, match=r"run.json is no record of a run"):
        score_streamed([plan], text, resume=tmp_path, **OPTIONS)


@pytest.mark.parametrize("at_once", [40, 10])
def test_logits_come_in_pieces_that_score_every_token_once(plan, text, kept, monkeypatch, at_once):
    vocab = plan.config.vocab_size
    monkeypatch.setattr(read_out, "LOGITS_AT_ONCE", at_once * vocab)
    for batch in text.batches(60):
        scored = np.zeros(batch.tokens.shape)
        cut = list(pieces(batch, vocab))
        assert len({piece.tokens.shape for piece in cut}) == 1 and cut[0].tokens.size <= at_once
        for piece in cut:
            for row, values, ids in zip(piece.rows, piece.scored, piece.tokens, strict=True):
                scored[row, piece.first + 1 : piece.first + 1 + len(values)] += values
                np.testing.assert_array_equal(ids, batch.tokens[row, piece.first : piece.first + len(ids)])
        np.testing.assert_array_equal(scored[:, 1:], batch.scored)
    close(score_streamed([plan], text, **OPTIONS), kept)


def test_batches_are_as_large_as_memory_allows_and_change_nothing(plan, text, kept, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH_BYTES", 1 << 18)
    assert len(list(text.batches(scoring._tokens_at_once(plan.config, [plan], text.tokens.shape[1])))) > 1
    close(score_streamed([plan], text, **OPTIONS), kept)
