"""Gemma (arXiv 2403.08295): scaled embeddings, gains less one, GELU gates. Gemma 2 (2408.00118): norms on both sides
of each part, soft caps, and a sliding window in every other layer.
"""

from dataclasses import replace

from pim.llm_workloads.config import PROJECTIONS, AttentionKind, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, Parameters, llama_layer, llama_outer, shapes

_NORMS = {
    "attention.norm": "post_attention_layernorm",
    "post_norm": "pre_feedforward_layernorm",
    "ffn.norm": "post_feedforward_layernorm",
}


def _gemma(file: ConfigFile) -> ModelConfig:
    file = file.defaulting(num_key_value_heads=16, head_dim=256, max_position_embeddings=8192)
    file.refuse(use_bidirectional_attention=False)
    counts = shapes(file)
    return ModelConfig(
        family="gemma",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", True),
        norm=Norm("rms", file.positive("rms_norm_eps", default=1e-6), one_added=True),
        positions=file.rotary(counts["head_dim"]),
        # "hidden_act": "gelu" of the first files meant the form with tanh, as transformers reads it.
        ffn=FeedForward(_activation(file)),
        biases=PROJECTIONS if file.flag("attention_bias", False) else (),
        embed_scale=float(counts["hidden_size"]) ** 0.5,
    )


def _activation(file: ConfigFile) -> str:
    if file.get("hidden_activation", default=None) is None and file.get("hidden_act", default="gelu") == "gelu":
        return "gelu_tanh"
    return file.activation("hidden_activation", "hidden_act")


def _gemma2(file: ConfigFile) -> ModelConfig:
    file = file.defaulting(
        num_key_value_heads=4, sliding_window=4096, attn_logit_softcapping=50.0, final_logit_softcapping=30.0
    )
    found = _gemma(file)
    layers = found.num_hidden_layers
    return replace(
        found,
        family="gemma2",
        attention=AttentionKind(
            scale=file.positive("query_pre_attn_scalar", default=256.0) ** -0.5,
            softcap=file.positive("attn_logit_softcapping", default=None),
            windows=file.windows(layers, [layer % 2 == 0 for layer in range(layers)]),
        ),
        block="sandwich",
        logits_softcap=file.positive("final_logit_softcapping", default=None),
    )


def _gemma2_layer(config: ModelConfig, index: int) -> Parameters:
    return llama_layer(config, index, norms=_NORMS)


GEMMA = Family("gemma", ("GemmaForCausalLM", "GemmaModel"), _gemma, llama_layer, llama_outer)
GEMMA2 = Family("gemma2", ("Gemma2ForCausalLM", "Gemma2Model"), _gemma2, _gemma2_layer, llama_outer)
