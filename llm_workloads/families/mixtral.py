"""Mixtral (arXiv 2401.04088): a Mistral with a choice of experts in place of each feed-forward layer."""

from dataclasses import replace

from pim.llm_workloads.config import MOST_EXPERTS, ModelConfig
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families import mistral
from pim.llm_workloads.families.family import Family, Parameters, llama_layer, llama_outer

_PARTS = {"gate": "w1", "up": "w3", "down": "w2"}


def _config(file: ConfigFile) -> ModelConfig:
    found = mistral.config(file.defaulting(num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=1e6))
    experts = file.count("num_local_experts", default=8, most=MOST_EXPERTS)
    chosen = file.count("num_experts_per_tok", default=2)
    if chosen > experts:
        raise file.error(f"num_experts_per_tok {chosen} cannot be chosen of num_local_experts {experts}")
    return replace(found, family="mixtral", ffn=replace(found.ffn, experts=experts, experts_per_token=chosen))


def _layer(config: ModelConfig, index: int) -> Parameters:
    names = {"ffn.router": "block_sparse_moe.gate"}
    for expert in range(config.ffn.experts):
        for ours, theirs in _PARTS.items():
            names[f"ffn.experts.{expert}.{ours}"] = f"block_sparse_moe.experts.{expert}.{theirs}"
    return llama_layer(config, index, names)


FAMILY = Family("mixtral", ("MixtralForCausalLM", "MixtralModel"), _config, _layer, llama_outer)
