"""Qwen2 (arXiv 2407.10671): a Llama with biases of queries, keys and values. Qwen3 (2505.09388): norms instead."""

from dataclasses import replace

from pim.llm_workloads.config import PROJECTIONS, AttentionKind, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, Parameters, llama_layer, llama_outer, norm, shapes


def _qwen2(file: ConfigFile) -> ModelConfig:
    file = file.defaulting(num_key_value_heads=32, sliding_window=4096)
    counts = shapes(file)
    layers = counts["num_hidden_layers"]
    windows = None
    if file.flag("use_sliding_window", False):
        full = file.get("max_window_layers", default=28)
        if not isinstance(full, int) or isinstance(full, bool) or full < 0:
            raise file.error(f"max_window_layers must be a whole number of at least 0, not {full!r}")
        windows = file.windows(layers, [layer >= full for layer in range(layers)])
    return ModelConfig(
        family="qwen2",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", False),
        norm=Norm("rms", file.positive("rms_norm_eps", default=1e-6)),
        positions=file.rotary(counts["head_dim"]),
        attention=AttentionKind(windows=windows),
        ffn=FeedForward(file.activation("hidden_act", default="silu")),
        biases=PROJECTIONS[:3],
    )


def _qwen3(file: ConfigFile) -> ModelConfig:
    found = _qwen2(file.defaulting(head_dim=128))
    biases = PROJECTIONS if file.flag("attention_bias", False) else ()
    return replace(found, family="qwen3", biases=biases, attention=replace(found.attention, normed=True))


def _qwen3_layer(config: ModelConfig, index: int) -> Parameters:
    found = llama_layer(config, index)
    for each in ("q_norm", "k_norm"):
        found |= norm(config, f"attention.{each}", f"model.layers.{index}.self_attn.{each}", config.head_dim)
    return found


QWEN2 = Family("qwen2", ("Qwen2ForCausalLM", "Qwen2Model"), _qwen2, llama_layer, llama_outer)
QWEN3 = Family("qwen3", ("Qwen3ForCausalLM", "Qwen3Model"), _qwen3, _qwen3_layer, llama_outer)
