"""The command line: what it prints, and one clear line for whatever is wrong, with nothing half-written."""

import ast
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

import pim
from pim import verbs
from pim.cli import main
from pim.devices.catalogue import preset_names
from pim.errors import StudyError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.saving import save_checkpoint
from pim.study import Study
from pim.study_file import load_study, study_of
from pim.study_text import split_text

WORDS = "the small bird saw a red boat and went home to tell her friend what it had seen on the way".split()
CONFIG = llama_config(
    vocab_size=258,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=256,
)


def stories(seed: int, count: int) -> str:
    draw = np.random.default_rng(seed)
    return "<|endoftext|>".join(" ".join(draw.choice(WORDS, 12)) + "." for _ in range(count))


def write_model(folder: Path) -> Path:
    """A model of random weights whose tokens are bytes."""
    draw = np.random.default_rng(0)
    normal = lambda *shape: draw.normal(size=shape).astype(np.float32) / np.sqrt(shape[-2])
    layer = {name: normal(1, *shape) for name, shape in CONFIG.matrix_shapes.items() if name != "head"}
    norms = {name: np.ones((1, 16), np.float32) for name in ("input_norm", "post_norm")}
    params = {"embed": normal(258, 16), "segments": [{**layer, **norms}], "norm": np.ones(16, np.float32)}
    params |= {} if CONFIG.tie_word_embeddings else {"head": normal(16, 258)}
    save_checkpoint(folder, CONFIG, params, bos_id=256, eos_id=257)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, "<s>", "</s>"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a text and a study."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder / "model")
    (folder / "text.txt").write_text(stories(0, 40))
    (folder / "study.toml").write_text(
        'model = "model"\ntext = "text.txt"\ntokens = 90\nchips = 2\n[set]\nweights.rows = 16\n'
        'weights.cell.relaxation = "none"\n'
        "[sweep]\nweights.adc.bits = [5, 8]\n"
    )
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch) -> Path:
    """Work in an empty folder, beside the model and the text."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "text.txt", "study.toml"):
        (tmp_path / name).symlink_to(place / name)
    return tmp_path


@pytest.fixture
def refuse(capsys, here: Path, unchecked) -> Callable[..., str]:
    """Run a command that must fail with one line; returns the line."""

    def run(*arguments: str) -> str:
        before = {path.name for path in here.iterdir()}
        try:
            status = main(arguments)
        except SystemExit as stop:  # argparse leaves so
            status = stop.code
        printed = capsys.readouterr()
        assert status == 2
        assert printed.out == ""
        assert printed.err.startswith("pim: ")
        assert printed.err.count("\n") == 1 and printed.err.endswith("\n")
        assert {path.name for path in here.iterdir()} == before, "something was left behind"
        return printed.err

    return run


# The main job


def test_a_study_from_its_file(here: Path, capsys):
    assert main(["run", "study.toml", "--json"]) == 0
    printed = capsys.readouterr()
    read = json.loads(printed.out)
    assert read["axes"] == {"weights.adc.bits": [5, 8]}
    assert [len(point["perplexity"]["chips"]) for point in read["points"]] == [2, 2]
    assert read["protocol"]["scored_tokens"] == 90
    assert "the rest of which is scored" in read["protocol"]["calibration_text"]
    assert read["protocol"]["calibration"]["tokens"] > 0
    assert "pim: " in printed.err and "2 points, 2 chips, 90 tokens" in printed.err
    assert read["files"] == ["out/result.nc", "out/result.json", "out/report.html"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["report.html", "result.json", "result.nc"]
    written = json.loads(Path("out/result.json").read_text())
    assert written == {name: value for name, value in read.items() if name != "files"}


def test_options_go_over_the_study(here: Path, capsys):
    assert main(["run", "study.toml", "--sweep", "weights.adc.bits=8", "--chips", "1", "--out", "o/p", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "1 chip, seed 0" in printed.out
    assert "converter ranges from" in printed.out
    assert printed.out.endswith("files: o/p/result.nc, o/p/result.json, o/p/report.html\n")


def test_an_exact_system_loses_nothing(here: Path, capsys):
    assert main(["run", "--model", "model", "--text", "text.txt", "--system", "ideal", "--tokens", "60", "--json"]) == 0
    (point,) = json.loads(capsys.readouterr().out)["points"]
    assert point["changes"] == {}
    assert point["top1_agreement"] == 1.0
    assert point["loss_difference"]["mean"] == pytest.approx(0, abs=1e-6)


def test_a_text_is_written_side_by_side(here: Path, capsys, monkeypatch):
    """What needs no ranges needs no other text."""
    monkeypatch.setenv("COLUMNS", "70")
    write = ["generate", "the small bird", "--model", "model", "--system", "ideal", "--tokens", "12"]
    assert main([*write, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["digital"]["ids"] == read["chips"][0]["ids"] and read["protocol"]["calibration"] is None
    assert main([*write, "--temperature", "1.5", "--top-k", "9", "--top-p", "0.9", "--seed", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "model on ideal: temperature 1.5, top k 9, top p 0.9, 1 chip, seed 2"
    assert printed[1] == "prompt: the small bird" and printed[3].split() == ["digital", "|", "chip", "0"]
    assert printed[-1].startswith("chip 0 writes the same ") and max(map(len, printed)) <= 70


def test_converter_ranges_of_a_text_that_is_written(here: Path, capsys):
    write = ["generate", "the", "--model", "model", "--system", "ideal", "--tokens", "4", "--json"]
    assert main([*write, "--calibration", "text.txt"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["protocol"]["calibration"]["tokens"] > 0 and len(read["chips"][0]["ids"]) <= 4


# Bad input: one line, status 2, nothing left behind

RUN = ("run", "study.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--system", "rram-tecC"), r"unknown preset 'rram-tecC'; did you mean rram-techC"),
        (("run", "--system", "mine.toml"), r"no device file mine\.toml; give the path"),
        (("run", "--model", "tiny-storys"), r"no model 'tiny-storys'"),
        (("run", "other.toml"), r"no study file other\.toml: give the path"),
        ((*RUN, "--text", "other.txt"), r"other\.txt: No such file"),
        ((*RUN, "--set", "weights.adc.bitz=6"), r"'adc.bitz'; did you mean adc\.bits"),
        ((*RUN, "--set", "adc.bits=6"), r"'adc.bits' names no field of this system; did you mean weights\.adc\.bits"),
        ((*RUN, "--set", "weights.rows"), r"'weights.rows' is not PATH=VALUE"),
        ((*RUN, "--set", "weights.rows=many"), r"'many' is not a whole number"),
        ((*RUN, "--sweep", "weights.adc.bits=0,6"), r"adc.bits = 0 is out of range; it may lie in \[2, 16\]"),
        ((*RUN, "--sweep", "weights.adc.bits=6,40"), r"adc.bits = 40 is out of range; it may lie in \[2, 16\]"),
        ((*RUN, "--set", "weights.adc.bits=8"), r"weights.adc.bits is set and swept: leave one away"),
        ((*RUN, "--chips", "0"), r"chips = 0 must be a whole number of at least 1"),
        ((*RUN, "--tokens", "few"), r"argument --tokens: invalid int value: 'few'"),
        (("run", "--model", "model", "--text", "text.txt", "--time", "1e9"), r"measured"),
        ((*RUN, "--context", "1"), r"context = 1 must be a whole number of at least 2"),
        (("run", "--model", "model"), r"a text is needed to score model on: give --text FILE"),
        (("generate", "a", "--model", "model"), r"ranges of model on: give --calibration FILE"),
        (("generate", "a", "--model", "model", "--top-p", "2"), r"top_p = 2.0: give a probability above 0"),
        (("generate", "a", "--model", "model", "--tokens", "999"), r"the 256 positions of model: ask for at most 254"),
        (("generate", "a", "--calibration", "other.txt"), r"other\.txt: No such file"),
        (("generate",), r"the following arguments are required: PROMPT"),
        (("presets", "ideel"), r"did you mean ideal"),
        (("explain", "rram-techC"), r"give NAME\.FIELD, such as rram-techC\.adc\.bits"),
        (("explain", "rram-techC.adc.bit"), r"did you mean adc\.bits"),
        (("cost", "rram-techC"), r"give a device and the shape of a matrix"),
        (("cost", "rram-techC", "0", "128"), r"n_in must be a whole number of at least 1"),
        (("cost", "rram-techC", "128", "--model", "model"), r"not both"),
        (("cost", "--model", "model", "--copies", "4"), r"--operation and --copies are for a device with a shape"),
        (("cost", "dram-aim", "8", "8", "--operation", "gemm"), r"operation = 'gemm' is none of gemv, score, context"),
        (("cost", "dram-aim", "8", "8", "--copies", "0"), r"copies must be a whole number of at least 1"),
        (("cost", "rram-techC", "8", "8", "--operation", "score"), r"operation and copies are for near-DRAM devices"),
        (("dance",), r"invalid choice: 'dance'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_one_line_says_what_is_wrong(refuse, arguments, message):
    line = refuse(*arguments)
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle = 'x'", "study.toml: unknown key 'modle'; did you mean model?"),
        ("tokens = '9'", "tokens = '9' must be a whole number of at least 1"),
        ("seed = -1", "seed = -1 must be a whole number of at least 0"),
        ("time = true", "time = True must be seconds"),
        ("[sweep]\nweights.adc.bits = 6", "sweep: weights.adc.bits = 6 must be a list of values"),
        ("[sweep]\nweights.adc.bits = []", "must be a list of values"),
        ("set = 3", "set must be a table of dotted paths"),
        ("[system]\ndevice = 'x'", "unknown key 'system.device'; did you mean devices?"),
        ("[system]\nname = 'x'", "system.devices must name a preset or a device file"),
        ("[system]\nrules = [['head']]\n[system.devices]\nweights = 'ideal'", "list of [pattern, device]"),
        ("[system]\nrules = [['head', 'gpu']]\n[system.devices]\nweights = 'ideal'", "names the device 'gpu'"),
        ("tokens = = 3", "study.toml is not valid TOML"),
    ],
)
def test_a_study_file_that_is_wrong(refuse, here: Path, content, message):
    (here / "study.toml").unlink()
    (here / "study.toml").write_text(content)
    assert message in refuse("run", "study.toml")


def test_weights_that_are_not_finite(refuse, here: Path, tmp_path: Path):
    folder = write_model(tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    assert "model.norm.weight" in refuse(*RUN, "--model", "damaged")


def test_a_download_that_stopped(refuse, tmp_path: Path):
    file = write_model(tmp_path / "damaged") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "model.safetensors" in refuse(*RUN, "--model", "damaged")


def test_an_architecture_that_is_not_known(refuse, tmp_path: Path):
    file = write_model(tmp_path / "damaged") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "mamba", "architectures": ["Mamba"]}))
    assert "mamba" in refuse(*RUN, "--model", "damaged").lower()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no text in it"),
        (b"\n <|endoftext|> \n", "there is no text in it"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"one<|endoftext|>", "has one document alone, none is left to calibrate on: give --calibration FILE"),
        (b"one", "is too short to calibrate on a part of it: give --calibration FILE"),
    ],
)
def test_a_text_that_cannot_be_used(refuse, here: Path, content: bytes, message: str):
    (here / "bad.txt").write_bytes(content)
    line = refuse(*RUN, "--text", "bad.txt")
    assert line.startswith("pim: bad.txt") and message in line


def test_a_calibration_text_that_is_scored(refuse, here: Path):
    (here / "long.txt").write_text("<|endoftext|>".join(stories(1, 3).split("<|endoftext|>")))
    assert "overlaps the scored text" in refuse(*RUN, "--text", "long.txt", "--calibration", "long.txt")


def test_a_disk_that_is_full_is_told_before_anything_runs(refuse, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    monkeypatch.setattr("pim.study_run.load_model", lambda _: pytest.fail("the run had begun"))
    assert "make room or choose another folder" in refuse(*RUN)


def test_a_file_in_the_way(refuse, here: Path):
    assert "text.txt is a file; choose another folder" in refuse(*RUN, "--out", "text.txt")


def test_bugs_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(verbs, "doctor", lambda _: [][1])
    with pytest.raises(IndexError):
        main(["doctor"])


def test_an_interrupt_is_quiet(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "presets", interrupt)
    assert main(["presets"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_early_is_no_error(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["presets"]) == 0


# The other verbs


def test_no_verb_prints_the_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: pim")


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"pim {pim.__version__}\n"


def test_presets_are_listed(capsys):
    assert main(["presets", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == preset_names()
    assert main(["presets"]) == 0
    assert all(name in capsys.readouterr().out for name in ["rram-techC"])


@pytest.mark.parametrize("name", preset_names())
def test_every_value_of_a_preset_is_shown_with_its_source(name: str, capsys):
    assert main(["presets", name, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    for row in read["fields"]:
        assert row["meaning"] and row["unit"]
        assert row["grade"] == "default" or row["citation"]
    assert main(["presets", name]) == 0
    printed = capsys.readouterr().out
    assert all(row["field"] in printed for row in read["fields"])


def test_explain_says_what_and_where_from(capsys):
    assert main(["explain", "rram-techC.adc.bits"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("rram-techC.adc.bits = 8\n  resolution")
    assert "allowed 2 to 16" in printed and "chosen: a design choice" in printed
    assert main(["explain", "rram-techC.cell.g_max", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["value"], row["unit"], row["grade"]) == (4e-5, "S", "measured")
    assert row["url"].startswith("https://")


def test_explain_gives_the_law_and_its_equation(capsys):
    assert main(["explain", "rram-techC.adc.cost.latency_per_bit"]) == 0
    printed = capsys.readouterr().out
    assert "law     ZigzagADCCost" in printed and "t = b (t_bit + t_row rows)" in printed
    assert main(["explain", "rram-techC.adc.cost.latency_per_bit", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["law"] == "ZigzagADCCost" and row["equation"][0].startswith("E = (c_bit b + c_exp 4^b) vdd^2")
    assert main(["explain", "rram-techC.rows", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["law"] == "AnalogMacro"


def test_explain_a_part(capsys):
    assert main(["explain", "rram-techC.adc", "--json"]) == 0
    fields = [row["field"] for row in json.loads(capsys.readouterr().out)]
    assert "adc.bits" in fields and all(field.startswith("adc.") for field in fields)


def test_a_users_own_device(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'name = "mine"\nfamily = "reram"\nsummary = "mine"\nbase = "rram-techC"\n[device]\nrows = 32\n'
    )
    assert main(["explain", "mine.toml.rows", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 32
    assert main(["cost", "mine.toml", "32", "16", "--set", "adc.bits=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["energy"] > 0


def test_cost_of_a_product(capsys):
    assert main(["cost", "rram-techC", "128", "64", "--vectors", "3", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert sum(row["energy"] for row in read["rows"]) == pytest.approx(read["total"]["energy"])
    assert main(["cost", "rram-techC", "128", "64"]) == 0
    assert capsys.readouterr().out.startswith("operator  component")


def test_cost_at_the_banks_of_a_dram(capsys):
    """Heads in parallel take longer or as long; what nobody knows is null in JSON and a word in the table."""
    score = ["cost", "dram-upmem", "128", "2048", "--operation", "score"]
    latency = []
    for copies in ("1", "4096"):
        assert main([*score, "--copies", copies, "--json"]) == 0
        read = json.loads(capsys.readouterr().out)
        assert read["total"]["energy"] is None and read["total"]["area"] is None
        latency.append(read["total"]["latency"])
    assert 0 < latency[0] < latency[1]
    assert main(score) == 0
    assert re.search(r"^total +unknown +unknown", capsys.readouterr().out, re.MULTILINE)


def test_cost_of_a_model_needs_no_weights(here: Path, capsys):
    (here / "shapes").mkdir()
    (here / "shapes" / "config.json").write_bytes((here / "model" / "config.json").read_bytes())
    assert main(["cost", "--model", "shapes", "--prompt", "16", "--generate", "4", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["generate"] == 4 and read["energy_per_token"] > 0


def test_warnings_are_lines_too(monkeypatch, capsys):
    def warn(_):
        warnings.simplefilter("default")
        warnings.warn("mind the gap", stacklevel=1)
        return 0

    monkeypatch.setattr(verbs, "presets", warn)
    assert main(["presets"]) == 0
    assert capsys.readouterr().err == "pim: warning: mind the gap\n"


# Studies


def test_nested_and_quoted_paths_are_the_same():
    nested = study_of({"sweep": {"weights": {"adc": {"bits": [4, 5]}}}})
    assert nested == study_of({"sweep": {"weights.adc.bits": [4, 5]}}) == Study(sweep={"weights.adc.bits": [4, 5]})


def test_toml_has_a_word_for_nothing():
    study = study_of({"set": {"weights": {"weight_bits": "none"}}, "sweep": {"weights.adc.bits": ["none", 8]}})
    assert study.set == {"weights.weight_bits": None}
    assert study.sweep == {"weights.adc.bits": [None, 8]}


def test_files_are_looked_for_beside_the_study(place: Path):
    study = load_study(place / "study.toml")
    assert study.model == str(place / "model") and study.text == str(place / "text.txt")
    assert study.out == "out"


def test_documents_are_split_whole():
    text = stories(3, 12)
    first, rest = split_text(text)
    documents = [part for part in (first + rest).split("<|endoftext|>") if part]
    assert documents == text.split("<|endoftext|>")
    assert 0.2 < len(first) / len(text) < 0.4


# The public names


def test_every_public_name_is_there_and_stays():
    for name in pim._HOME:
        assert find_spec(f"pim.{name}") is None, f"importing a module pim.{name} would replace the name"
        assert callable(getattr(pim, name))
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = pim.colour  # type: ignore[attr-defined]


def test_editors_know_the_same_names():
    tree = ast.parse(Path(pim.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in ast.walk(guarded) if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == pim._HOME


def test_one_verb_replaces_in_devices_and_systems(unchecked):
    device = pim.replace(pim.preset("rram-techC"), {"adc.bits": 7})
    system = pim.replace(pim.inference_system(device, pim.preset("ideal")), {"weights.adc.bits": 6})
    assert (device["adc.bits"], system.devices["weights"]["adc.bits"]) == (7, 6)
    assert "user" in pim.citations(system)
    assert set(pim.citations(device)) <= set(pim.citations(system))
    for verb in (lambda: pim.replace(3, {}), lambda: pim.citations(3)):  # type: ignore
        with pytest.raises(StudyError, match="not a int"):
            verb()
