"""Llama 1 to 3 (arXiv 2302.13971, 2307.09288, 2407.21783): RMSNorm, rotary positions, SwiGLU, grouped queries."""

from pim.llm_workloads.config import PROJECTIONS, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, llama_layer, llama_outer, shapes
from pim.llm_workloads.positions import Rotary

_FFN = ("ffn.gate", "ffn.up", "ffn.down")


def llama_config(
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    num_key_value_heads: int,
    head_dim: int,
    *,
    rms_norm_eps: float = 1e-5,
    rope_theta: float = 10000.0,
    tie_word_embeddings: bool = False,
    max_position_embeddings: int = 2048,
) -> ModelConfig:
    """The config of a Llama of given shapes, under the names of its config.json; raises WorkloadError for wrong ones.

    Example:
        >>> llama_config(512, 64, 172, 5, 8, 4, 8, tie_word_embeddings=True).parameters
        260032
    """
    return ModelConfig(
        family="llama",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=tie_word_embeddings,
        norm=Norm("rms", rms_norm_eps),
        positions=Rotary(rope_theta),
    )


def _config(file: ConfigFile) -> ModelConfig:
    counts = shapes(file)
    biases = PROJECTIONS if file.flag("attention_bias", False) else ()
    return ModelConfig(
        family="llama",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", False),
        norm=Norm("rms", file.positive("rms_norm_eps", default=1e-6)),
        positions=file.rotary(counts["head_dim"]),
        ffn=FeedForward(file.activation("hidden_act", default="silu")),
        biases=biases + (_FFN if file.flag("mlp_bias", False) else ()),
    )


FAMILY = Family("llama", ("LlamaForCausalLM", "LlamaModel"), _config, llama_layer, llama_outer)
