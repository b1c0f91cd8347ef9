"""Writing a Llama in Hugging Face's layout: a folder with config.json and safetensors; reading is `checkpoint`'s."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.family import Stored, transposed
from pim.llm_workloads.families.llama import FAMILY
from pim.llm_workloads.positions import Rotary
from pim.llm_workloads.transformer import segment_length


def save_checkpoint(
    directory: Path | str,
    config: ModelConfig,
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
        params: as of `pim.llm_workloads.transformer`, in any number of segments.
        bos_id: token that begins a text, noted in config.json.
        eos_id: token that ends a text, noted likewise.
        dtype: "float16" or "float32".

    Raises:
        WorkloadError: another dtype, or a value that is not finite in it.
    """
    if dtype not in ("float16", "float32"):
        raise WorkloadError(f"cannot store a checkpoint as {dtype!r}; 'float16' and 'float32' can be")
    if config.family != "llama":
        raise WorkloadError(f"cannot write a checkpoint of the family {config.family!r}; 'llama' can be")
    stored = {place.name: _as_stored(place, params[name]) for name, place in FAMILY.outer(config).items()}
    layer = 0
    for segment in params["segments"]:
        for k in range(segment_length(segment)):
            for name, place in FAMILY.layer(config, layer).items():
                stored[place.name] = _as_stored(place, segment[name][k])
            layer += 1
    with np.errstate(over="ignore"):
        tensors = {name: np.ascontiguousarray(np.asarray(values).astype(dtype)) for name, values in stored.items()}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise WorkloadError(f"tensor {name!r} holds values that are not finite in {dtype}; nothing was written")
    described = {
        "architectures": [FAMILY.architectures[0]],
        "model_type": "llama",
        **_described(config),
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": dtype,
    }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    _write(directory / "config.json", (json.dumps(described, indent=2) + "\n").encode())


_ACTIVATIONS = {
    ours: theirs for theirs, ours in ACTIVATION_NAMES.items() if theirs not in ("swish", "gelu_new", "gelu_fast")
}

_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


def _described(config: ModelConfig) -> dict[str, Any]:
    """What config.json says of a Llama."""
    rotary = config.positions
    if not isinstance(rotary, Rotary) or rotary.scaling is not None or rotary.dims is not None:
        raise WorkloadError("cannot write a Llama whose positions are scaled; nothing was written")
    return {
        **{name: getattr(config, name) for name in _COUNTS},
        "rms_norm_eps": config.norm.eps,
        "rope_theta": rotary.theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": _ACTIVATIONS[config.ffn.activation],
        "attention_bias": "attention.q" in config.biases,
        "mlp_bias": "ffn.up" in config.biases,
    }


def _as_stored(place: Stored, values: Any) -> np.ndarray:
    """What the reader turns round the other way round, all else as it is."""
    return np.asarray(values).T if place.take is transposed else np.asarray(values)


def _write(path: Path, content: bytes) -> None:
    """A file is put in its place once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
