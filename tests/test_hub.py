"""Models of the hub: from a cache as its library keeps it, or through a library that stands in for it. No network."""

import fnmatch
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from pim.cli import main
from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.hub import SMALL_FILES, hub_cache, hub_model, is_hub_name
from pim.llm_workloads.model import load_model

GOLDEN = Path(__file__).parent / "golden" / "hf"
COMMIT, OTHER = "ab" * 20, "cd" * 20


def write_files(folder, golden="llama"):
    """A checkpoint with a tokenizer of bytes, and what else a repository holds."""
    shutil.copytree(GOLDEN / golden, folder, dirs_exist_ok=True)
    (folder / "io.npz").unlink()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate("abc")}, []))
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("README.md", "pytorch_model.bin", "consolidated.safetensors", "training.json"):
        (folder / name).write_text("large")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache in an empty folder, and no variable that leads elsewhere."""
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it fails
    return tmp_path / "hub"


def put(cache, name="org/small", commit=COMMIT, golden="llama", **references):
    """A model in the cache, with the files linked to blobs as the library does."""
    model = cache / f"models--{name.replace('/', '--')}"
    blobs, snapshot = write_files(model / "blobs" / commit, golden), model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    for reference in references.get("references", ["main"]):
        (model / "refs" / reference).parent.mkdir(parents=True, exist_ok=True)
        (model / "refs" / reference).write_text(commit)
    return snapshot


def the_line(call, *arguments, **options):
    with pytest.raises(WorkloadError) as refusal:
        call(*arguments, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("golden", ["llama", "llama_bf16_sharded"])
def test_a_model_from_the_cache(cache, golden):
    put(cache, golden=golden)
    model = load_model("org/small")
    config, params = load_checkpoint(GOLDEN / golden)
    assert (model.name, model.config, model.tokenizer.encode("ab")) == ("org/small", config, [0, 1])
    np.testing.assert_array_equal(model.params["embed"], params["embed"])


def test_revisions(cache):
    put(cache, references=["main", "v1"])
    put(cache, commit=OTHER, references=["refs/pr/1"])
    for revision, commit in ((None, COMMIT), ("v1", COMMIT), ("refs/pr/1", OTHER), (COMMIT, COMMIT), (OTHER, OTHER)):
        assert hub_model("org/small", revision).name == commit
    assert "(revision v2) is not, or not whole, in the hub's cache" in the_line(hub_model, "org/small", "v2")
    for revision in ("../../x", "/etc", "-x", "a b", ""):
        assert the_line(hub_model, "org/small", revision).endswith("is no branch, tag or commit")
    assert "only models of the hub" in the_line(load_model, "tiny-stories", "v1")


@pytest.mark.parametrize("content", ["../../elsewhere", "", "\x00", "ff" * 20])
def test_a_reference_that_leads_elsewhere(cache, content):
    (put(cache).parents[1] / "refs" / "main").write_text(content)
    (cache / "models--org--small" / "elsewhere").mkdir()
    assert "not whole" in the_line(hub_model, "org/small")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/d"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HOME": "/home/x"}, "/home/x/.cache/huggingface/hub"),
    ],
)
def test_where_the_cache_is(cache, monkeypatch, variables, expected):
    monkeypatch.delenv("HF_HUB_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(hub_cache()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/model", True),
        ("org-1/Model_2.7B", True),
        ("model", False),
        ("a/b/c", False),
        ("../model", False),
        ("./model", False),
        ("/model", False),
        ("org/..", False),
        ("org/a..b", False),
        ("órg/model", False),
        ("org/model ", False),
        ("org/model\n", False),
    ],
)
def test_names_of_the_hub(name, expected):
    assert is_hub_name(name) == expected


def test_a_folder_goes_before_the_hub(cache, tmp_path, monkeypatch):
    put(cache)
    write_files(tmp_path / "org" / "small", "llama_tied")
    monkeypatch.chdir(tmp_path)
    assert load_model("org/small").config.tie_word_embeddings


# What is not there


def test_without_the_extra_it_is_said_what_to_install_and_what_to_copy(cache):
    line = the_line(load_model, "org/small")
    assert line == (
        f"no folder 'org/small', and the model of that name is not, or not whole, in the hub's cache {cache}; to fetch "
        "it, install the extra: pip install 'pim-emulator[hf]'; or where there is a network, run "
        '`hf download org/small --include "*.json" "*.txt" "model*.safetensors" --local-dir DIR`, copy DIR here and '
        "give its path"
    )
    assert "`hf download org/small --revision v1 --include" in the_line(load_model, "org/small", "v1")


class Library:
    """Stands in for `huggingface_hub`: a repository in a folder, and what was asked for."""

    def __init__(self, monkeypatch, repository=None, error=None):
        self.repository, self.error, self.asked = repository, error, []
        monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=self.download))

    def download(self, name, *, revision, allow_patterns, cache_dir):
        self.asked.append((name, revision, allow_patterns))
        if self.error:
            raise self.error
        model = Path(cache_dir) / f"models--{name.replace('/', '--')}"
        snapshot = model / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in self.repository.iterdir():
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, snapshot / file.name)
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / (revision or "main")).write_text(COMMIT)
        return str(snapshot)


def test_only_what_is_needed_is_fetched_and_only_once(cache, tmp_path, monkeypatch):
    library = Library(monkeypatch, write_files(tmp_path / "repository"))
    model = load_model("org/small")
    assert model.name == "org/small" and model.config == load_checkpoint(GOLDEN / "llama")[0]
    assert library.asked == [("org/small", None, [*SMALL_FILES]), ("org/small", None, ["model.safetensors"])]
    (snapshot,) = (cache / "models--org--small" / "snapshots").iterdir()
    assert {file.name for file in snapshot.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    load_model("org/small")
    assert len(library.asked) == 2


def test_of_a_model_in_shards_those_that_its_index_names(cache, tmp_path, monkeypatch):
    library = Library(monkeypatch, write_files(tmp_path / "repository", "llama_bf16_sharded"))
    index = json.loads((GOLDEN / "llama_bf16_sharded" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    folder = hub_model("org/small", "v1")
    assert library.asked[1] == ("org/small", "v1", shards) and len(shards) > 1
    (folder / shards[1]).unlink()
    assert hub_model("org/small", "v1") == folder and len(library.asked) == 4


def test_shapes_alone_need_no_weights(cache, tmp_path, monkeypatch, capsys):
    library = Library(monkeypatch, write_files(tmp_path / "repository"))
    arguments = ["cost", "--model", "org/small", "--system", "ideal", "--prompt", "4", "--generate", "2", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["generate"] == 2
    assert main(arguments) == 0 and len(library.asked) == 1
    assert not list(cache.rglob("*.safetensors"))


def test_a_model_without_safetensors(cache, tmp_path, monkeypatch):
    repository = write_files(tmp_path / "repository")
    (repository / "model.safetensors").unlink()
    Library(monkeypatch, repository)
    assert "org/small on the Hugging Face hub has no model.safetensors: give a revision" in the_line(
        load_model, "org/small"
    )
    (repository / "config.json").unlink()
    shutil.rmtree(cache)
    assert "has no config.json" in the_line(load_model, "org/small")


@pytest.mark.parametrize(
    "error",
    [OSError("no\nnetwork"), RuntimeError(), ValueError("401: gated " + "x" * 500)],
    ids=["net", "bare", "long"],
)
def test_a_download_that_fails_is_one_line(cache, monkeypatch, error):
    Library(monkeypatch, error=error)
    line = the_line(load_model, "org/small")
    assert "and it cannot be fetched (" in line and "hf download org/small" in line and len(line) < 600


def test_offline_nothing_is_tried(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    library = Library(monkeypatch, error=AssertionError)
    assert "HF_HUB_OFFLINE is set: where there is a network" in the_line(load_model, "org/small")
    assert library.asked == []


def test_an_index_that_is_damaged(cache):
    index = put(cache, golden="llama_bf16_sharded") / "model.safetensors.index.json"
    index.unlink()
    index.write_text('{"weight_map": 3}')
    assert "weight_map must give" in the_line(load_model, "org/small")
