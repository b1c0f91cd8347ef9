"""GPT-2 (Radford et al., Language models are unsupervised multitask learners, 2019): matrices are stored [in, out]."""

from pim.llm_workloads.config import MOST_LAYERS, PROJECTIONS, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import (
    Family,
    Parameters,
    head,
    norm,
    position_table,
    side_by_side,
    table,
)
from pim.llm_workloads.positions import Learned

_NAMES = {"attention.o": "attn.c_proj", "ffn.up": "mlp.c_fc", "ffn.down": "mlp.c_proj"}


def _config(file: ConfigFile) -> ModelConfig:
    file.refuse(
        scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False,
    )  # fmt: skip
    hidden, heads = file.count("n_embd", "hidden_size"), file.count("n_head", "num_attention_heads")
    longest = file.count("n_positions", "max_position_embeddings", default=1024)
    return ModelConfig(
        family="gpt2",
        vocab_size=file.count("vocab_size"),
        hidden_size=hidden,
        intermediate_size=file.count("n_inner", default=4 * hidden),
        num_hidden_layers=file.count("n_layer", "num_hidden_layers", most=MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=file.head_dim(hidden, heads),
        max_position_embeddings=longest,
        tie_word_embeddings=file.flag("tie_word_embeddings", True),
        norm=Norm("layer", file.positive("layer_norm_epsilon", default=1e-5)),
        positions=Learned(longest),
        ffn=FeedForward(file.activation("activation_function", default="gelu_new"), gated=False),
        biases=(*PROJECTIONS, "ffn.up", "ffn.down"),
    )


def _layer(config: ModelConfig, index: int) -> Parameters:
    front = f"transformer.h.{index}."
    found = norm(config, "input_norm", f"{front}ln_1") | norm(config, "post_norm", f"{front}ln_2")
    found |= side_by_side(config, f"{front}attn.c_attn", PROJECTIONS[:3], transpose=False)
    for operator, name in _NAMES.items():
        found |= side_by_side(config, front + name, (operator,), transpose=False)
    return found


def _outer(config: ModelConfig) -> Parameters:
    positions = position_table(config, "transformer.wpe.weight")
    return table(config, "transformer.wte.weight") | positions | norm(config, "norm", "transformer.ln_f") | head(config)


FAMILY = Family(
    "gpt2",
    ("GPT2LMHeadModel", "GPT2Model"),
    _config,
    _layer,
    _outer,
    prefix="transformer.",
    ignored=(".attn.bias", ".attn.masked_bias"),
)
