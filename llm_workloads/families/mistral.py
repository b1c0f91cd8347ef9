"""Mistral (arXiv 2310.06825): a Llama whose tokens attend to a sliding window."""

from pim.llm_workloads.config import AttentionKind, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, llama_layer, llama_outer, shapes


def config(file: ConfigFile) -> ModelConfig:
    """What config.json says; Mixtral's and Phi 3's say the same, and more."""
    counts = shapes(file)
    layers = counts["num_hidden_layers"]
    return ModelConfig(
        family="mistral",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", False),
        norm=Norm("rms", file.positive("rms_norm_eps", default=1e-6)),
        positions=file.rotary(counts["head_dim"]),
        attention=AttentionKind(windows=file.windows(layers, [True] * layers)),
        ffn=FeedForward(file.activation("hidden_act", default="silu")),
    )


def _config(file: ConfigFile) -> ModelConfig:
    return config(file.defaulting(num_key_value_heads=8, sliding_window=4096))


FAMILY = Family("mistral", ("MistralForCausalLM", "MistralModel"), _config, llama_layer, llama_outer)
