"""Phi 1 to 2 (arXiv 2306.11644, 2309.05463): attention beside the feed-forward layer, of one norm; part of a head is
turned by position; biases everywhere. Phi 3 (2404.14219): a Llama whose matrices are stored side by side.
"""

from dataclasses import replace

from pim.llm_workloads.config import PROJECTIONS, AttentionKind, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families import mistral
from pim.llm_workloads.families.family import (
    Family,
    Parameters,
    head,
    llama_layer,
    llama_outer,
    norm,
    shapes,
    side_by_side,
    table,
)

_NAMES = {"attention.o": "self_attn.dense", "ffn.up": "mlp.fc1", "ffn.down": "mlp.fc2"}


def _phi(file: ConfigFile) -> ModelConfig:
    counts = shapes(file)
    return ModelConfig(
        family="phi",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", False),
        norm=Norm("layer", file.positive("layer_norm_eps", default=1e-5)),
        positions=file.rotary(counts["head_dim"], default_share=0.5),
        attention=AttentionKind(normed=file.flag("qk_layernorm", False)),
        ffn=FeedForward(file.activation("hidden_act", default="gelu_new"), gated=False),
        block="parallel_shared",
        biases=(*PROJECTIONS, "ffn.up", "ffn.down", "head"),
    )


def _phi_layer(config: ModelConfig, index: int) -> Parameters:
    found = llama_layer(config, index, _NAMES)
    if config.attention.normed:
        for ours, theirs in (("q_norm", "q_layernorm"), ("k_norm", "k_layernorm")):
            found |= norm(config, f"attention.{ours}", f"model.layers.{index}.self_attn.{theirs}", config.head_dim)
    return found


def _phi_outer(config: ModelConfig) -> Parameters:
    last = norm(config, "norm", "model.final_layernorm")
    return table(config, "model.embed_tokens.weight") | last | head(config)


def _phi3(file: ConfigFile) -> ModelConfig:
    found = mistral.config(file.defaulting(rms_norm_eps=1e-5))
    file.refuse(attention_bias=False)
    return replace(found, family="phi3")


def _phi3_layer(config: ModelConfig, index: int) -> Parameters:
    found, front = llama_layer(config, index), f"model.layers.{index}."
    fused = {
        "self_attn.qkv_proj": ("attention.q", "attention.k", "attention.v"),
        "mlp.gate_up_proj": ("ffn.gate", "ffn.up"),
    }
    for name, operators in fused.items():
        found |= side_by_side(config, front + name, operators, transpose=True)
    return found


PHI = Family("phi", ("PhiForCausalLM", "PhiModel"), _phi, _phi_layer, _phi_outer)
PHI3 = Family("phi3", ("Phi3ForCausalLM", "Phi3Model"), _phi3, _phi3_layer, llama_outer)
