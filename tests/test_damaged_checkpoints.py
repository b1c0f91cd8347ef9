"""Damaged checkpoints of every family: what is wrong is told in one line that names the file and the tensor or field.

Config files are written by hand and by machines, weights come over networks: neither may bring down a run, pass with
wrong numbers, or make us allocate what they merely claim.
"""

import json
import re
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.llm_workloads.checkpoint import load_checkpoint, load_config, open_checkpoint
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.known import FAMILIES
from pim.llm_workloads.safetensors_file import open_safetensors

GOLDEN = Path(__file__).parent / "golden" / "hf"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


@pytest.fixture
def copied(tmp_path):
    """A function that copies a checkpoint into a folder, to be damaged."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(GOLDEN / name, folder)
        return folder

    return copy


def the_line(folder, read=open_checkpoint):
    with pytest.raises(WorkloadError) as refusal:
        read(folder)
    message = str(refusal.value)
    assert "\n" not in message and str(folder) in message
    return message.replace(f"{folder}", "")


def parts_of(path):
    """The header of a file, and its data."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def write(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def tensors_of(folder):
    """(file, name, entry) of every tensor that the config asks for: buffers that nothing needs are left out."""
    family = open_checkpoint(folder).family
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        header, _ = parts_of(path)
        found += [(path, name, e) for name, e in header.items() if name != "__metadata__"]
    return [(path, name, entry) for path, name, entry in found if not name.endswith(family.ignored)]


def test_there_is_a_checkpoint_of_every_family():
    found = {load_config(GOLDEN / name).family for name in FOLDERS}
    assert found == {family.name for family in FAMILIES}


# Tensors


@pytest.mark.parametrize("name", FOLDERS)
def test_each_tensor_is_missed_by_its_name(copied, name):
    folder = copied(name)
    for path, tensor, entry in tensors_of(folder):
        content, (header, data) = path.read_bytes(), parts_of(path)
        write(path, {other: e for other, e in header.items() if other != tensor}, data)
        if (folder / INDEX).exists():
            assert the_line(folder) == f"/{INDEX}: tensor {tensor!r} is not in {path.name}, where weight_map has it"
        else:
            shape = tuple(entry["shape"])
            assert the_line(folder).startswith(": the checkpoint lacks tensor ")
            assert re.search(rf"{re.escape(tensor)}', of shape {re.escape(str(shape))}", the_line(folder))
        path.write_bytes(content)
    open_checkpoint(folder)


@pytest.mark.parametrize("name", FOLDERS)
def test_each_tensor_of_another_shape_is_named(copied, name):
    folder = copied(name)
    for path, tensor, entry in tensors_of(folder):
        content, (header, data) = path.read_bytes(), parts_of(path)
        write(path, header | {tensor: entry | {"shape": [1, *entry["shape"]]}}, data)
        line = the_line(folder)
        assert line.startswith(f"/{path.name}: tensor {tensor!r} has shape (1, ") and "config.json asks for" in line
        path.write_bytes(content)


@pytest.mark.parametrize("name", FOLDERS)
def test_each_tensor_with_a_value_that_is_none_is_named(copied, name):
    folder = copied(name)
    for path, tensor, entry in tensors_of(folder):
        original, size = path.read_bytes(), SIZES[entry["dtype"]]
        at = len(original) - len(parts_of(path)[1]) + entry["data_offsets"][0]
        path.write_bytes(original[:at] + b"\xff" * size + original[at + size :])  # all ones are NaN in each format
        line = the_line(folder, load_checkpoint)
        count = int(np.prod(entry["shape"]))
        assert line == f"/{path.name}: tensor {tensor!r} holds 1 values of {count} that are NaN or infinite"
        path.write_bytes(original)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.999])
def test_a_download_that_stopped_is_told_of_its_file(copied, name, share):
    folder = copied(name)
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert the_line(folder).startswith(f"/{path.name}: truncated")
        path.write_bytes(content)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_tensor_that_is_not_of_the_model_is_named(copied, name):
    folder = copied(name)
    path, *_ = tensors_of(folder)[0]
    header, data = parts_of(path)
    surplus = {"dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
    write(path, header | {"model.layers.7.surplus.weight": surplus}, data + bytes(8))
    assert the_line(folder).startswith(f"/{path.name}: unknown tensor 'model.layers.7.surplus.weight' (1 in all)")


@pytest.mark.parametrize("dtype", ["F64", "I8", "F8_E4M3", "U4", "", "f32"])
def test_a_format_that_is_not_read_is_told(copied, dtype):
    folder = copied("qwen3")
    path, tensor, entry = tensors_of(folder)[3]
    header, data = parts_of(path)
    write(path, header | {tensor: entry | {"dtype": dtype}}, data)
    assert f"tensor {tensor!r} is stored as {dtype}; supported are F32, F16, BF16" in the_line(folder, load_checkpoint)


# Shards


@pytest.fixture
def sharded(copied):
    return copied("llama_bf16_sharded")


def edit_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))
    return index["weight_map"]


def test_a_shard_that_the_index_leaves_out(sharded):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    (first, *_) = shards = sorted(set(weight_map.values()))
    assert len(shards) == 3
    lost = {tensor for tensor, shard in weight_map.items() if shard == first}
    edit_index(sharded, lambda found: [found.pop(tensor) for tensor in lost])
    line = the_line(sharded)
    assert line.startswith(": the checkpoint lacks tensor ") and any(tensor in line for tensor in lost)


def test_a_shard_that_is_not_there(sharded):
    path = sorted(sharded.glob("*.safetensors"))[1]
    path.unlink()
    assert the_line(sharded) == f"/{path.name}: no such file"
    path.mkdir()
    assert the_line(sharded) == f"/{path.name}: no such file"


def test_a_tensor_in_two_shards_is_read_where_the_index_has_it(sharded):
    """An old copy in another shard must not win by the order of files."""
    expected = load_checkpoint(sharded)[1]
    first, last = (sorted(sharded.glob("*.safetensors"))[i] for i in (0, -1))
    tensor, entry = next((t, e) for t, e in parts_of(first)[0].items() if t.endswith("norm.weight"))
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    theirs, their_data = parts_of(last)
    offsets = [len(their_data), len(their_data) + size]
    write(last, theirs | {tensor: entry | {"data_offsets": offsets}}, their_data + bytes(size))
    found = load_checkpoint(sharded)[1]
    np.testing.assert_array_equal(found["segments"][0]["input_norm"], expected["segments"][0]["input_norm"])


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/passwd", "", ".", "..", "a/b", "a\0b", "a\nb", "\ud800", 3, None, ["x"], {}, "é"],
)
def test_an_index_that_leads_elsewhere(sharded, shard):
    edit_index(sharded, lambda found: found.update({next(iter(found)): shard}))
    assert the_line(sharded) == f"/{INDEX}: weight_map must give the name of a file beside it for each tensor"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "{" * 9999, '{"weight_map": {"a": 1e999}}'])
def test_an_index_that_is_none(sharded, content):
    (sharded / INDEX).write_text(content)
    assert the_line(sharded).startswith(f"/{INDEX}: ")


# Claims


def limited(read, path, most=20_000_000):
    """The message of a refusal that allocates little, whatever the file claims."""
    tracemalloc.start()
    try:
        with pytest.raises(WorkloadError) as refusal:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"shape": [10**15], "data_offsets": [0, 4 * 10**15]}, "truncated, tensor 'x' ends at byte"),
        ({"shape": [10**15], "data_offsets": [0, 16]}, "entry of tensor 'x' is damaged"),
        ({"shape": [10**9] * 50, "data_offsets": [0, 16]}, "entry of tensor 'x' is damaged"),
        ({"shape": [2**32, 2**32], "data_offsets": [0, 0]}, "entry of tensor 'x' is damaged"),
        ({"shape": [4], "data_offsets": [2**64 - 16, 2**64]}, "truncated, tensor 'x' ends at byte"),
        ({"shape": [4], "data_offsets": [16, 0]}, "entry of tensor 'x' is damaged"),
        ({"shape": [-4], "data_offsets": [0, 16]}, "entry of tensor 'x' is damaged"),
        ({"shape": [4.0], "data_offsets": [0, 16]}, "entry of tensor 'x' is damaged"),
    ],
)
def test_a_header_that_claims_what_is_not_there(tmp_path, entry, message):
    write(tmp_path / WEIGHTS, {"x": {"dtype": "F32", **entry}}, bytes(16))
    assert message in limited(open_safetensors, tmp_path / WEIGHTS)


@pytest.mark.parametrize("file", ["config.json", INDEX])
def test_json_that_would_fill_the_memory(copied, file):
    folder = copied("llama_bf16_sharded")
    with (folder / file).open("wb") as opened:
        opened.truncate(1 << 33)
    assert limited(open_checkpoint, folder) == f"{folder / file}: {1 << 33} bytes are too many for a file of JSON"


@pytest.mark.parametrize("name", FOLDERS)
def test_sizes_that_a_config_merely_claims_allocate_nothing(copied, name):
    folder = copied(name)
    config = json.loads((folder / "config.json").read_text())
    for field in counts_in(config):
        for value in (10**6, 10**15, 10**400):
            (folder / "config.json").write_text(json.dumps(config | {field: value}))
            try:
                tracemalloc.start()
                open_checkpoint(folder)
            except WorkloadError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
            finally:
                assert tracemalloc.get_traced_memory()[1] < 20_000_000
                tracemalloc.stop()


# Configs


COUNTS = {
    *("vocab_size", "hidden_size", "n_embd", "intermediate_size", "n_inner", "ffn_dim", "num_hidden_layers", "n_layer"),
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions"),
    *("sliding_window", "num_local_experts", "num_experts_per_tok", "type_vocab_size", "word_embed_proj_dim"),
}
NUMBERS = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "rotary_emb_base", "rotary_pct"}
FLAGS = {"tie_word_embeddings", "attention_bias", "mlp_bias", "qk_layernorm", "use_parallel_residual"}
FREE = {"max_position_embeddings", "sliding_window", "num_experts_per_tok", "num_attention_heads"}
"""Counts that need set no shape of their own."""


def counts_in(config):
    return [name for name in config if name in COUNTS and config[name] is not None]


def with_field(folder, config, field, value):
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_fields_of_the_wrong_kind_are_named(copied, name):
    folder = copied(name)
    config = json.loads((folder / "config.json").read_text())
    wrong = [(field, v) for field in counts_in(config) for v in ("64", -1, 0, 1.5, True, [1], {}, 10**30)]
    wrong += [
        (field, v) for field in NUMBERS & set(config) for v in ("1", -1.0, 0, [1], {}, True, float("inf"), 10**400)
    ]
    wrong += [(field, v) for field in FLAGS & set(config) if config[field] is not None for v in ("true", 1, [], {})]
    assert len(wrong) > 50
    for field, value in wrong:
        line = the_line(with_field(folder, config, field, value), load_config)
        assert line.startswith("/config.json: ") and field in line, (field, value, line)


@pytest.mark.parametrize("name", FOLDERS)
def test_sizes_that_are_not_those_of_the_tensors_are_told(copied, name):
    """One more than there is: a tensor is named, or the field where the sizes do not fit each other."""
    folder = copied(name)
    config = json.loads((folder / "config.json").read_text())
    for field in set(counts_in(config)) - FREE:
        line = the_line(with_field(folder, config, field, config[field] + 1))
        assert "tensor '" in line or line.startswith("/config.json: "), (field, line)


@pytest.mark.parametrize("name", FOLDERS)
def test_functions_and_positions_that_are_not_known_are_told(copied, name):
    folder = copied(name)
    config = json.loads((folder / "config.json").read_text())
    activation = next(f for f in ("hidden_activation", "hidden_act", "activation_function") if config.get(f))
    assert f"/config.json: {activation} 'swoosh' is not supported; silu, " in the_line(
        with_field(folder, config, activation, "swoosh"), load_config
    )
    if "positions=Rotary" not in repr(load_config(GOLDEN / name)):
        return
    for field in ("rope_scaling", "rope_parameters"):
        for value in ({"rope_type": "dynamic", "factor": 2.0}, {"type": "su", "factor": 2.0}, {"rope_type": ["x"]}):
            changed = {**config, "rope_scaling": None, "rope_parameters": None}
            assert f"/config.json: {field} of type " in the_line(with_field(folder, changed, field, value), load_config)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"num_attention_heads": 3}, "hidden_size 32 is no multiple of num_attention_heads 3: give head_dim"),
        ("qwen3", {"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads (3)"),
        ("gpt2", {"n_head": 5}, "is no multiple of num_attention_heads 5"),
        ("llama", {"rope_theta": 0.5}, "/config.json: rope_theta must be at least 1, not 0.5"),
        ("llama", {"rms_norm_eps": 1e-300}, "rms_norm_eps must be a positive number that float32 holds, not 1e-300"),
        ("llama", {"rope_theta": 1e300}, "rope_theta must be a positive number that float32 holds, not 1e+300"),
        ("mistral", {"sliding_window": -4}, "sliding_window must be a whole number of at least 1, not -4"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types must name sliding_attention or full_attention"),
        ("gemma2", {"layer_types": "full_attention"}, "layer_types must name sliding_attention or full_attention"),
        ("gemma2", {"query_pre_attn_scalar": "16"}, "query_pre_attn_scalar must be a positive number, not '16'"),
        ("gemma2", {"final_logit_softcapping": -1}, "final_logit_softcapping must be a positive number, not -1"),
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok 5 cannot be chosen of num_local_experts 4"),
        ("bert", {"architectures": 3}, "architectures must be a list of names, not 3"),
        ("bert_body", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ("llama3", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "'low_freq_factor' is missing"),
        ("llama_linear", {"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor must be at least 1, not 0.5"),
        ("llama_linear", {"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a positive number"),
    ],
)
def test_what_only_some_families_have(copied, name, changes, message):
    folder = copied(name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    assert message in the_line(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({field for name in FOLDERS for field in json.loads((GOLDEN / name / "config.json").read_text())})
ROPE = ("rope_type", "type", "factor", "rope_theta", "low_freq_factor", "high_freq_factor", "beta_fast", "truncate")
TABLES = st.dictionaries(
    st.sampled_from([*ROPE, "original_max_position_embeddings", "partial_rotary_factor"]),
    JSON | st.sampled_from(["default", "linear", "llama3", "yarn"]),
    max_size=5,
)


@settings(max_examples=200)
@given(
    name=st.sampled_from(FOLDERS),
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON | TABLES, min_size=1, max_size=3),
)
def test_any_config_of_any_family_is_read_or_refused(tmp_path_factory, name, changes):
    """With weights that it may or may not fit: what is read has finite numbers of the shapes that it says."""
    folder = tmp_path_factory.mktemp("config")
    for file in GOLDEN.joinpath(name).glob("model*"):
        (folder / file.name).symlink_to(file)
    config = json.loads((GOLDEN / name / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    try:
        checkpoint = open_checkpoint(folder)
    except WorkloadError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    else:
        layer = checkpoint.layer(0)
        assert {op: layer[op].shape for op in checkpoint.config.static} == checkpoint.config.matrix_shapes
