"""Makes `golden/hf`: tiny random checkpoints of every model family, and what `transformers` computes with them.

    pip install -e '.[oracle]'               # torch and transformers: heavy, and never needed by the tests
    python tests/make_hf_fixtures.py         # or: python tests/make_hf_fixtures.py gemma2 mixtral

Each case is a folder: config.json, safetensors, and io.npz with the inputs and the outputs. Every number of a
checkpoint is drawn at random, those of norms, biases and routers too, so that no term of a forward is 0 or 1 and
thereby invisible; queries and keys are large enough that attention is far from uniform. Outputs are those of the
*folder as written*, read back by `transformers` in float32 with eager attention: names and configs that were turned
into those of published checkpoints (flat `rope_theta`, GPT-2 without its prefix, ...) are so checked to say the same.
"""

import argparse
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parent / "golden" / "hf"
BATCH, TIME, VOCAB = 2, 20, 96
SLACK = 5e-5
"""The most that token-by-token logits of `transformers` may differ from its whole-sequence ones."""

SMALL = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
OPT = {**SMALL, "ffn_dim": 64, "max_position_embeddings": 32, "word_embed_proj_dim": 32}
PHI = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 64}
NEOX = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 32, "num_attention_heads": 2}
BERT = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 32}

Config = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def flat_rope(config: Config) -> Config:
    """Rotary positions as written before version 5: `rope_theta` and `rope_scaling` beside the other fields."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    return config


def typed_rope(config: Config) -> Config:
    """As `flat_rope`, with the kind of scaling under its first name, `type`."""
    config = flat_rope(config)
    config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")
    return config


def neox_rope(config: Config) -> Config:
    """Rotary positions as in Pythia's files: `rotary_pct` and `rotary_emb_base`."""
    rope = config.pop("rope_parameters")
    return config | {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": rope["rope_theta"]}


def sparing(config: Config) -> Config:
    """As `flat_rope`, without the fields that the first Llama had no need of."""
    config = flat_rope(config)
    for name in ("head_dim", "attention_bias", "mlp_bias", "num_key_value_heads", "rope_scaling"):
        del config[name]
    return config


def legacy_gelu(config: Config) -> Config:
    """As `flat_rope`; the first Gemma said `gelu` where it meant its approximation by tanh."""
    return flat_rope(config) | {"hidden_act": "gelu", "hidden_activation": None}


def unprefixed(tensors: Tensors) -> Tensors:
    """GPT-2 as published: the body alone, with the masks that older versions kept beside the weights."""
    body = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    mask = torch.ones(32, 32).tril()[None, None]
    return body | {f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}


def buffers(tensors: Tensors) -> Tensors:
    """GPT-NeoX as published: masks and frequencies that older versions kept beside the weights."""
    added: Tensors = {}
    for layer in range(2):
        stem = f"gpt_neox.layers.{layer}.attention"
        added[f"{stem}.bias"] = torch.ones(32, 32, dtype=torch.bool).tril()[None, None]
        added[f"{stem}.masked_bias"] = torch.tensor(-1e9)
        added[f"{stem}.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.01])
    return tensors | added


def numbered(tensors: Tensors) -> Tensors:
    """A BERT as older versions wrote it, with the numbers of its positions."""
    return tensors | {"embeddings.position_ids": torch.arange(32)[None]}


@dataclass(frozen=True)
class Case:
    """One checkpoint: its class, its config, and how the written files are turned into those of published ones."""

    architecture: str
    config: Config
    rewrite: Callable[[Config], Config] = lambda config: config
    rename: Callable[[Tensors], Tensors] = lambda tensors: tensors
    dtype: torch.dtype = torch.float32
    shards: int = 1
    embed: float = 1.0


def llama(config: Config, **options: Any) -> Case:
    return Case("LlamaForCausalLM", {**GATED, **config}, **options)


def rope(kind: str = "default", theta: float = 10000.0, **fields: Any) -> Config:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **fields}}


LLAMA3 = rope(
    "llama3", 500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
YARN = rope("yarn", 100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=0.5)

CASES = {
    "gpt2": Case("GPT2LMHeadModel", GPT2, rename=unprefixed),
    "opt": Case("OPTForCausalLM", OPT),
    "llama": llama({"num_key_value_heads": 4, **rope()}, rewrite=sparing),
    "llama_tied": llama({"tie_word_embeddings": True, "head_dim": 12, **rope(theta=50.0)}, rewrite=flat_rope),
    "llama_bf16_sharded": llama(rope(), dtype=torch.bfloat16, shards=3),
    "llama_fp16": llama(rope(), dtype=torch.float16),
    "llama3": llama(LLAMA3 | {"head_dim": 16}, rewrite=flat_rope),
    "llama_linear": llama(rope("linear", factor=4.0), rewrite=typed_rope),
    "llama_yarn": llama(YARN | {"head_dim": 16}),
    "llama_biases": llama({"attention_bias": True, "mlp_bias": True}),
    "mistral": Case("MistralForCausalLM", {**GATED, "sliding_window": 5, **rope()}, rewrite=flat_rope),
    "qwen2": Case("Qwen2ForCausalLM", {**GATED, **rope(theta=1e6)}),
    "qwen2_window": Case(
        "Qwen2ForCausalLM",
        {**GATED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, **rope()},
        rewrite=flat_rope,
    ),
    "qwen3": Case("Qwen3ForCausalLM", {**GATED, "head_dim": 16, **rope(theta=1e6)}),
    "gemma": Case(
        "GemmaForCausalLM",
        {**GATED, "num_key_value_heads": 1, "head_dim": 16, **rope()},
        rewrite=legacy_gelu,
        embed=0.5,
    ),
    "gemma2": Case(
        "Gemma2ForCausalLM",
        {
            **GATED,
            "num_hidden_layers": 3,
            "head_dim": 16,
            "query_pre_attn_scalar": 24,
            "sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            **rope(),
        },
        rewrite=flat_rope,
        embed=0.5,
    ),
    "phi": Case("PhiForCausalLM", {**PHI, **rope(partial_rotary_factor=0.5)}),
    "phi_qk_norm": Case(
        "PhiForCausalLM",
        {**PHI, "qk_layernorm": True, "num_key_value_heads": 2, **rope(partial_rotary_factor=0.5)},
        rewrite=flat_rope,
    ),
    "phi3": Case("Phi3ForCausalLM", {**GATED, "pad_token_id": 0, "sliding_window": 6, **rope()}, rewrite=flat_rope),
    "gpt_neox": Case(
        "GPTNeoXForCausalLM", {**NEOX, **rope(partial_rotary_factor=0.25)}, rewrite=neox_rope, rename=buffers
    ),
    "gpt_neox_sequential": Case(
        "GPTNeoXForCausalLM", {**NEOX, "use_parallel_residual": False, **rope(partial_rotary_factor=0.5)}
    ),
    "mixtral": Case(
        "MixtralForCausalLM",
        {**GATED, "num_local_experts": 4, "num_experts_per_tok": 2, **rope(theta=1e6)},
        rewrite=flat_rope,
    ),
    "bert": Case("BertForMaskedLM", BERT),
    "bert_body": Case("BertModel", BERT, rename=numbered),
}


def spread(name: str, tensor: torch.Tensor, embed: float) -> tuple[float, float]:
    """Mean and standard deviation from which a parameter is drawn."""
    if "norm" in name.lower() or ".ln_" in name:
        return (0.0 if name.endswith("bias") else 1.0), 0.3
    if name.endswith("bias"):
        return 0.0, 0.3
    if "embed_positions" in name or "position_embeddings" in name or "wpe" in name:
        return 0.0, 0.5
    if "wte" in name or "_embeddings" in name or "embed_tokens" in name or "embed_in" in name:
        return 0.0, embed
    n_in = tensor.shape[0] if ".c_" in name else tensor.shape[-1]  # GPT-2 stores [in, out]
    gain = 3.0 if name.startswith(("lm_head", "embed_out")) else 1.4
    return 0.0, gain * n_in**-0.5


@torch.no_grad()
def randomise(model: torch.nn.Module, case: Case) -> None:
    """Draw every parameter, each from a stream of its own name."""
    gemma = case.architecture.startswith("Gemma")
    for name, tensor in model.named_parameters():
        mean, deviation = spread(name, tensor, case.embed)
        draws = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        tensor.copy_(draws * deviation + (0.0 if gemma else mean))  # Gemma multiplies by 1 + weight


def write(folder: Path, case: Case) -> None:
    """The checkpoint, as published ones look."""
    cls = getattr(transformers, case.architecture)
    config = cls.config_class(**{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **case.config})
    model = cls(config).eval()
    randomise(model, case)
    model.to(case.dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    written = case.rewrite({"dtype": "float32", **json.loads(path.read_text())})
    path.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    file = folder / "model.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in case.rename(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    if case.shards > 1:
        shard(folder, tensors, case.shards)


def shard(folder: Path, tensors: Tensors, count: int) -> None:
    """The same tensors dealt out over files, with the index that says where each one is."""
    (folder / "model.safetensors").unlink()
    files = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    home = {name: files[i % count] for i, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({n: tensors[n] for n in home if home[n] == file}, folder / file, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": home}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


@torch.no_grad()
def outputs(folder: Path, case: Case) -> dict[str, np.ndarray]:
    """What the checkpoint on disk computes in float32."""
    cls = getattr(transformers, case.architecture)
    model, told = cls.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    ignored = {name for name in told["unexpected_keys"] if name.endswith((".attn.bias", "position_ids"))}
    ignored |= {name for name in told["unexpected_keys"] if ".attention." in name and case.rename is buffers}
    if told["missing_keys"] or told["mismatched_keys"] or set(told["unexpected_keys"]) - ignored:
        raise SystemExit(f"{folder.name}: transformers reads it otherwise: {told}")
    model.eval()
    ids = torch.tensor(np.random.default_rng(0).integers(3, VOCAB, (BATCH, TIME)))
    mask = torch.ones_like(ids)
    given: dict[str, torch.Tensor] = {"input_ids": ids, "attention_mask": mask}
    if case.architecture.startswith("Bert"):
        mask[1, 13:] = 0
        ids[1, 13:] = 0
        given["token_type_ids"] = (torch.arange(TIME)[None] >= torch.tensor([[8], [5]])).long() * mask
    found = model(**given, output_hidden_states=True)
    arrays = dict(given)
    if "last_hidden_state" in found:
        arrays |= {"last_hidden_state": found.last_hidden_state, "pooler_output": found.pooler_output}
    else:
        arrays["logits"] = found.logits
    if case.architecture.startswith("Bert"):
        arrays["hidden_states"] = torch.stack(found.hidden_states)
    else:
        arrays["decode_logits"] = decode(model, ids)
        worst = float((arrays["decode_logits"] - found.logits).abs().max())
        if worst > SLACK:
            raise SystemExit(f"{folder.name}: token by token, transformers differs from itself by {worst:.1e}")
    return {name: array.numpy() for name, array in arrays.items()}


@torch.no_grad()
def decode(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of one token after the other, with the cache of keys and values."""
    cache, logits = None, []
    for t in range(ids.shape[1]):
        found = model(ids[:, t : t + 1], past_key_values=cache, use_cache=True)
        cache = found.past_key_values
        logits.append(found.logits)
    return torch.cat(logits, dim=1)


def make(name: str) -> None:
    """One folder from nothing, and a line about it."""
    folder, case = GOLDEN / name, CASES[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(folder, case)
    arrays = outputs(folder, case)
    np.savez_compressed(folder / "io.npz", **arrays)
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > 300_000:
        raise SystemExit(f"{name}: {size} bytes, more than 300 kB: make the model smaller")
    told = arrays["logits" if "logits" in arrays else "last_hidden_state"]
    slack = np.abs(arrays["decode_logits"] - told).max() if "decode_logits" in arrays else 0.0
    print(f"{name:22} {size:7} bytes, outputs of {told.std():.2f} rms, decoding differs by {slack:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="make golden/hf with transformers")
    parser.add_argument("names", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; all by default")
    torch.set_num_threads(1)  # the same order of sums everywhere
    transformers.logging.set_verbosity_error()
    for name in parser.parse_args().names:
        make(name)


if __name__ == "__main__":
    main()
