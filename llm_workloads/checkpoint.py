"""Checkpoints of the Llama family in Hugging Face's layout: a folder with config.json and safetensors.

Reading turns the matrices, stored [out, in], into [in, out] and stacks the layers; writing turns them back.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from pim.llm_workloads.config import LlamaConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.safetensors_file import SafetensorsFile, open_safetensors

ARCHITECTURE = "LlamaForCausalLM"

_NAMES = {
    "input_norm": "input_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "post_norm": "post_attention_layernorm",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}
_EMBED, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False, "max_position_embeddings": 2048}


def _layer_name(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{_NAMES[name]}.weight"


def load_checkpoint(directory: Path | str) -> tuple[LlamaConfig, dict[str, Any]]:
    """Read a Llama from a folder in Hugging Face's layout.

    Args:
        directory: holds config.json and model.safetensors (float32, float16 or bfloat16), or the shards that
            model.safetensors.index.json names.

    Returns:
        The config, and the parameters in float32 as `pim.llm_workloads.llama` takes them.

    Raises:
        WorkloadError: another architecture, a feature that is not modelled (scaled rotary positions, biases), or a
            damaged folder: a file or tensor that is missing, truncated, of the wrong shape, unknown or not finite.

    Example:
        >>> config, params = load_checkpoint("stories260K")
        >>> config.num_hidden_layers, params["segments"][0]["attention.q"].shape
        (5, (5, 64, 64))
    """
    directory = Path(directory)
    config = load_config(directory)
    tensors = _open_tensors(directory)

    def read(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return _read(tensors, name, shape, directory)

    shapes = _layer_shapes(config)
    segment = {
        name: np.stack([_oriented(read(_layer_name(i, name), shape)) for i in range(config.num_hidden_layers)])
        for name, shape in shapes.items()
    }
    table = (config.vocab_size, config.hidden_size)
    params = {"embed": read(_EMBED, table), "segments": [segment], "norm": read(_NORM, (config.hidden_size,))}
    if not config.tie_word_embeddings:
        params["head"] = _oriented(read(_HEAD, table))
    elif _HEAD in tensors and not np.array_equal(read(_HEAD, table), params["embed"]):
        raise WorkloadError(
            f"{tensors[_HEAD].path}: {_HEAD!r} differs from the embedding, but config.json says that they are tied: "
            "set tie_word_embeddings to false"
        )
    known = {_layer_name(i, name) for i in range(config.num_hidden_layers) for name in shapes} | {_EMBED, _NORM, _HEAD}
    unknown = sorted(name for name in tensors if name not in known and not name.endswith("rotary_emb.inv_freq"))
    if unknown:
        raise WorkloadError(
            f"{tensors[unknown[0]].path}: unknown tensor {unknown[0]!r} ({len(unknown)} in all), not of a Llama "
            f"of {config.num_hidden_layers} layers as config.json describes it"
        )
    return config, jax.tree.map(jnp.asarray, params)


def load_config(directory: Path | str) -> LlamaConfig:
    """Read config.json of a folder alone: enough for shapes and cost. Raises WorkloadError as `load_checkpoint`."""
    path = Path(directory) / "config.json"
    found = read_json(path)
    _check_family(path, found)
    _check_features(path, found)
    rope = found.get("rope_parameters") or {}
    values = {**_DEFAULTS, **{name: value for name, value in {**found, **rope}.items() if value is not None}}
    names = [field.name for field in fields(LlamaConfig)]
    missing = [name for name in names if name not in values and name not in ("num_key_value_heads", "head_dim")]
    if missing:
        raise WorkloadError(f"{path}: {missing[0]!r} is missing")
    values.setdefault("num_key_value_heads", values["num_attention_heads"])
    if "head_dim" not in values:
        values["head_dim"] = _derived_head_dim(path, values["hidden_size"], values["num_attention_heads"])
    try:
        return LlamaConfig(**{name: values[name] for name in names})
    except WorkloadError as error:
        raise WorkloadError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; raises WorkloadError if there is no such file or it holds anything else."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise WorkloadError(
            f"{path}: no such file; a model's folder holds config.json and model.safetensors"
        ) from error
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: invalid JSON ({str(error) or 'nested too deep'})") from error
    if not isinstance(found, dict):
        raise WorkloadError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


def _check_family(path: Path, found: Mapping[str, Any]) -> None:
    architectures = found.get("architectures")
    named = architectures if isinstance(architectures, list) and architectures else [found.get("model_type")]
    if named[0] not in (ARCHITECTURE, "llama"):
        raise WorkloadError(f"{path}: architecture {named[0]!r} is not supported; the Llama family ({ARCHITECTURE}) is")


def _check_features(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse what would change the numbers and is not modelled."""
    for name in ("rope_scaling", "rope_parameters"):
        rope = found.get(name) or {}
        if not isinstance(rope, dict):
            raise WorkloadError(f"{path}: {name} must be an object, not {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise WorkloadError(f"{path}: {name} of type {kind!r} is not supported; plain rotary positions are")
    if found.get("hidden_act", "silu") != "silu":
        raise WorkloadError(f"{path}: hidden_act {found['hidden_act']!r} is not supported; 'silu' is")
    for name in ("attention_bias", "mlp_bias"):
        if found.get(name):
            raise WorkloadError(f"{path}: {name} is not supported; a model without biases is")


def _derived_head_dim(path: Path, hidden: Any, heads: Any) -> int:
    try:
        dim, rest = divmod(hidden, heads)
    except (TypeError, ZeroDivisionError) as error:
        raise WorkloadError(f"{path}: hidden_size {hidden!r} cannot be split over {heads!r} heads") from error
    if rest:
        raise WorkloadError(
            f"{path}: hidden_size {hidden} is no multiple of num_attention_heads {heads}: give head_dim"
        )
    return dim


def _layer_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shapes as stored, matrices [out, in]."""
    matrices = {name: (n_out, n_in) for name, (n_in, n_out) in config.matrix_shapes.items()}
    return {name: matrices.get(name, (config.hidden_size,)) for name in _NAMES}


def _oriented(stored: np.ndarray) -> np.ndarray:
    """[out, in] as [in, out]; a vector as it is."""
    return np.ascontiguousarray(stored.T)


def _open_tensors(directory: Path) -> dict[str, SafetensorsFile]:
    """The file that holds each tensor."""
    index = directory / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) and Path(s).name == s for s in shards.values()):
            raise WorkloadError(f"{index}: weight_map must give the name of a file beside it for each tensor")
        names = sorted(set(shards.values()))
    files = [open_safetensors(directory / name) for name in names]
    return {tensor: file for file in files for tensor in file.entries}


def _read(tensors: Mapping[str, SafetensorsFile], name: str, shape: tuple[int, ...], directory: Path) -> np.ndarray:
    if name not in tensors:
        raise WorkloadError(f"{directory}: the checkpoint lacks tensor {name!r}, of shape {shape} by config.json")
    file = tensors[name]
    if file.shape(name) != shape:
        raise WorkloadError(
            f"{file.path}: tensor {name!r} has shape {file.shape(name)}, but config.json asks for {shape}"
        )
    return file.read(name)


def save_checkpoint(
    directory: Path | str,
    config: LlamaConfig,
    params: Mapping[str, Any],
    *,
    bos_id: int | None = None,
    eos_id: int | None = None,
    dtype: str = "float16",
) -> None:
    """Write config.json and model.safetensors as Hugging Face's `LlamaForCausalLM` has them.

    Each file is complete or not there at all. The folder is made if need be.

    Args:
        directory: folder to write to.
        config: shapes and constants.
        params: as of `pim.llm_workloads.llama`, in any number of segments.
        bos_id: token that begins a text, noted in config.json.
        eos_id: token that ends a text, noted likewise.
        dtype: "float16" or "float32".

    Raises:
        WorkloadError: another dtype, or a value that is not finite in it.
    """
    if dtype not in ("float16", "float32"):
        raise WorkloadError(f"cannot store a checkpoint as {dtype!r}; 'float16' and 'float32' can be")
    stored = {_EMBED: params["embed"], _NORM: params["norm"]}
    if not config.tie_word_embeddings:
        stored[_HEAD] = params["head"].T
    layer = 0
    for segment in params["segments"]:
        for k in range(len(segment["input_norm"])):
            stored |= {_layer_name(layer, name): segment[name][k].T for name in _NAMES}
            layer += 1
    with np.errstate(over="ignore"):
        tensors = {name: np.ascontiguousarray(np.asarray(values).astype(dtype)) for name, values in stored.items()}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise WorkloadError(f"tensor {name!r} holds values that are not finite in {dtype}; nothing was written")
    described = {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        **asdict(config),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": dtype,
    }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    _write(directory / "config.json", (json.dumps(described, indent=2) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """A file is put in its place once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
