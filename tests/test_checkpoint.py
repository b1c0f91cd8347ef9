"""Checkpoints: what is read is what was written, and every damage is told in one line."""

import json
import math
import struct

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pim.llm_workloads.checkpoint import load_checkpoint, load_config
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.positions import Rotary
from pim.llm_workloads.safetensors_file import open_safetensors
from pim.llm_workloads.saving import save_checkpoint

CONFIG = llama_config(13, 8, 12, 2, 4, 2, 2, tie_word_embeddings=True, max_position_embeddings=16)
WEIGHTS = "model.safetensors"


def random_params(config, seed=0):
    draw = np.random.default_rng(seed)
    layers, hidden = config.num_hidden_layers, config.hidden_size
    shapes = {"input_norm": (hidden,), "post_norm": (hidden,), **config.matrix_shapes}
    segment = {name: draw.normal(size=(layers, *shape)).astype(np.float32) for name, shape in shapes.items()}
    params = {
        "embed": draw.normal(size=(config.vocab_size, hidden)).astype(np.float32),
        "segments": [segment],
        "norm": draw.normal(size=hidden).astype(np.float32),
    }
    if not config.tie_word_embeddings:
        params["head"] = draw.normal(size=(hidden, config.vocab_size)).astype(np.float32)
    return params


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, CONFIG, random_params(CONFIG), dtype="float32")
    return tmp_path


def edit_config(folder, **changes):
    path = folder / "config.json"
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not ...}))


def edit_tensors(folder, **changes):
    tensors = {**load_file(folder / WEIGHTS), **changes}
    save_file({name: values for name, values in tensors.items() if values is not ...}, folder / WEIGHTS)


def the_line(folder):
    """The message of the refusal: one line that names the folder's file or the folder."""
    with pytest.raises(WorkloadError) as refusal:
        load_checkpoint(folder)
    message = str(refusal.value)
    assert "\n" not in message and str(folder) in message
    return message.replace(str(folder), "")


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_is_read(tmp_path, tied):
    config = llama_config(13, 8, 12, 2, 4, 2, 6, rms_norm_eps=1e-6, rope_theta=500.0, tie_word_embeddings=tied)
    params = random_params(config)
    save_checkpoint(tmp_path / "new" / "model", config, params, dtype="float32")
    found_config, found = load_checkpoint(tmp_path / "new" / "model")
    assert found_config == config and equal(found, params)


def test_half_precision_rounds_and_halves_the_file(tmp_path):
    params = random_params(CONFIG)
    save_checkpoint(tmp_path, CONFIG, params)
    rounded = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), params)
    assert equal(load_checkpoint(tmp_path)[1], rounded)


def test_layers_in_several_segments_are_written_as_one(tmp_path):
    params = random_params(CONFIG)
    (stacked,) = params["segments"]
    split = {**params, "segments": [{n: leaf[i : i + 1] for n, leaf in stacked.items()} for i in range(2)]}
    save_checkpoint(tmp_path, CONFIG, split, dtype="float32")
    assert equal(load_checkpoint(tmp_path)[1], params)


def test_names_and_layout_are_hugging_faces(shared, tmp_path):
    """A checkpoint that transformers wrote comes back under the same names, shapes and values."""
    original = shared / "data" / "hf_parity" / "llama"
    config, params = load_checkpoint(original)
    save_checkpoint(tmp_path, config, params, bos_id=1, eos_id=2, dtype="float32")
    theirs, ours = load_file(original / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[name], ours[name]) for name in theirs)
    their_config, our_config = (json.loads((f / "config.json").read_text()) for f in (original, tmp_path))
    assert {name for name in our_config if our_config[name] != their_config.get(name)} == {"torch_dtype"}


def test_bfloat16_is_read_exactly(folder):
    """Compared with the upper halves of float32 numbers, which bfloat16 is."""
    truncated = {}
    header, data, at = {}, b"", 0
    for name, values in load_file(folder / WEIGHTS).items():
        upper = (values.view(np.uint32) >> 16).astype(np.uint16)
        truncated[name] = (upper.astype(np.uint32) << 16).view(np.float32)
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [at, at + upper.nbytes]}
        data += upper.tobytes()
        at += upper.nbytes
    write_safetensors(folder / WEIGHTS, header, data)
    _, params = load_checkpoint(folder)
    np.testing.assert_array_equal(params["embed"], truncated["model.embed_tokens.weight"])


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_shards_are_read(folder):
    _, whole = load_checkpoint(folder)
    tensors = sorted(load_file(folder / WEIGHTS).items())
    (folder / WEIGHTS).unlink()
    shards = {"a.safetensors": dict(tensors[:9]), "b.safetensors": dict(tensors[9:])}
    for name, part in shards.items():
        save_file(part, folder / name)
    weight_map = {tensor: name for name, part in shards.items() for tensor in part}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert equal(load_checkpoint(folder)[1], whole)
    (folder / "b.safetensors").unlink()
    assert the_line(folder) == "/b.safetensors: no such file"


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 500.0},
        {"rope_theta": ..., "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_theta": 500.0, "rope_scaling": None},
    ],
)
def test_both_ways_to_write_rope_theta(folder, rope):
    edit_config(folder, **rope)
    assert load_config(folder).positions == Rotary(500.0)


def test_what_a_config_may_leave_out(folder):
    missing = ("head_dim", "rms_norm_eps", "rope_theta", "max_position_embeddings", "tie_word_embeddings")
    edit_config(folder, num_key_value_heads=..., model_type=..., **dict.fromkeys(missing, ...))
    config = load_config(folder)
    assert (config.head_dim, config.num_key_value_heads, config.positions) == (2, 4, Rotary(10000.0))
    assert (config.norm.eps, config.tie_word_embeddings) == (1e-6, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "/config.json: architecture 'MambaForCausalLM' is not supported"),
        ({"architectures": ..., "model_type": ...}, "architecture None is not supported"),
        ({"hidden_size": ...}, "/config.json: 'hidden_size' is missing"),
        ({"hidden_size": "8"}, "/config.json: hidden_size must be a whole number of at least 1, not '8'"),
        ({"hidden_size": 9, "head_dim": ...}, "hidden_size 9 is no multiple of num_attention_heads 4"),
        (
            {"num_attention_heads": 0, "head_dim": ...},
            "num_attention_heads must be a whole number of at least 1, not 0",
        ),
        ({"hidden_act": "mish"}, "/config.json: hidden_act 'mish' is not supported; silu, "),
        ({"attention_bias": True}, "lacks tensor 'model.layers.0.self_attn.q_proj.bias', of shape (8,) by config.json"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling of type 'dynamic' is not supported"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "/config.json: 'low_freq_factor' is missing"),
        ({"rope_parameters": [1]}, "rope_parameters must be an object"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps must be a positive number, not nan"),
        ({"num_hidden_layers": 3}, ": the checkpoint lacks tensor 'model.layers.2.input_layernorm.weight'"),
        ({"num_hidden_layers": 1}, "unknown tensor 'model.layers.1.input_layernorm.weight' (9 in all)"),
        ({"vocab_size": 14}, "'model.embed_tokens.weight' has shape (13, 8), but config.json asks for (14, 8)"),
        ({"tie_word_embeddings": False}, "lacks tensor 'lm_head.weight', of shape (13, 8)"),
    ],
)
def test_a_config_that_cannot_be_used(folder, changes, message):
    edit_config(folder, **changes)
    assert message in the_line(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "/config.json: invalid JSON"),
        (b"{'model_type': 'llama'}", "/config.json: invalid JSON"),
        (b"\xff\xfe", "/config.json: invalid JSON"),
        (b"[" * 100_000, "/config.json: invalid JSON"),
        (b"[1]", "/config.json: expected a JSON object, found list"),
    ],
)
def test_a_config_that_is_no_json(folder, content, message):
    (folder / "config.json").write_bytes(content)
    assert message in the_line(folder)


@pytest.mark.parametrize(("file", "message"), [("config.json", "no such file"), (WEIGHTS, "no such file")])
def test_a_missing_file(folder, file, message):
    (folder / file).unlink()
    assert f"/{file}: {message}" in the_line(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.norm.weight": ...}, "lacks tensor 'model.norm.weight', of shape (8,) by config.json"),
        ({"model.norm.weight": np.ones(9, np.float32)}, "has shape (9,), but config.json asks for (8,)"),
        (
            {"model.norm.weight": np.array([1, np.nan, np.inf, 1, 1, 1, 1, 1], np.float32)},
            "tensor 'model.norm.weight' holds 2 values of 8 that are NaN or infinite",
        ),
        (
            {"model.norm.weight": np.ones(8, np.int8)},
            "'model.norm.weight' is stored as I8; supported are F32, F16, BF16",
        ),
        ({"model.extra.weight": np.ones(3, np.float32)}, "unknown tensor 'model.extra.weight' (1 in all)"),
        ({"lm_head.weight": np.ones((13, 8), np.float32)}, "'lm_head.weight' differs from the embedding"),
    ],
)
def test_tensors_that_cannot_be_used(folder, changes, message):
    edit_tensors(folder, **changes)
    assert message in the_line(folder)


def test_what_old_checkpoints_carry_is_left_alone(folder):
    _, params = load_checkpoint(folder)
    tied = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]
    edit_tensors(
        folder, **{"lm_head.weight": tied, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(1, np.float32)}
    )
    assert equal(load_checkpoint(folder)[1], params)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_download_that_stopped(folder, share):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(share * len(content))])
    assert "/model.safetensors: truncated" in the_line(folder)


def test_values_that_float16_cannot_hold_are_not_written(tmp_path):
    params = random_params(CONFIG)
    params["embed"][0, 0] = 1e6
    with pytest.raises(WorkloadError, match=r"'model.embed_tokens.weight' holds values that are not finite in float16"):
        save_checkpoint(tmp_path / "model", CONFIG, params)
    assert not (tmp_path / "model").exists()
    with pytest.raises(WorkloadError, match="as 'int4'"):
        save_checkpoint(tmp_path / "model", CONFIG, params, dtype="int4")


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, CONFIG, random_params(CONFIG, seed=1))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", ""]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-8, 64), min_size=2, max_size=2) | JSON,
    }
)
HEADER = st.dictionaries(st.text(max_size=8) | st.just("__metadata__"), ENTRY | JSON, max_size=3)
BYTES = (HEADER | JSON).map(lambda header: json.dumps(header).encode()) | st.binary(max_size=64)


@given(header=BYTES, length=st.none() | st.integers(0, 2**64 - 1), data=st.binary(max_size=64))
def test_any_bytes_are_tensors_or_one_clear_line(tmp_path_factory, header, length, data):
    path = tmp_path_factory.mktemp("fuzz") / WEIGHTS
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    try:
        file = open_safetensors(path)
        for name in file.entries:
            assert np.isfinite(file.read(name)).all()
    except WorkloadError as error:
        assert str(path) in str(error)


@given(at=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_checkpoint_with_any_byte_changed_is_read_or_refused(tmp_path_factory, at, value):
    folder = tmp_path_factory.mktemp("flip")
    save_checkpoint(folder, CONFIG, random_params(CONFIG))
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[at % len(content)] = value
    (folder / WEIGHTS).write_bytes(content)
    try:
        load_checkpoint(folder)
    except WorkloadError as error:
        assert str(folder) in str(error) and "\n" not in str(error)


CONFIG_KEYS = """
vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim rms_norm_eps
rope_theta rope_parameters rope_scaling tie_word_embeddings max_position_embeddings hidden_act attention_bias
architectures model_type sliding_window layer_types
""".split()


@given(changes=st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON))
def test_any_config_is_read_or_refused(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("config")
    save_checkpoint(folder, CONFIG, random_params(CONFIG))
    edit_config(folder, **changes)
    try:
        assert isinstance(load_config(folder), ModelConfig)
    except WorkloadError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
