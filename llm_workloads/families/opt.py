"""OPT (arXiv 2205.01068): positions have embeddings, the first of them in row 2; ReLU."""

from pim.llm_workloads.config import BLOCK_NORMS, MOST_LAYERS, PROJECTIONS, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, Parameters, head, linear, norm, position_table, table
from pim.llm_workloads.positions import Learned

_OFFSET = 2
_NAMES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.out_proj",
    "ffn.up": "fc1",
    "ffn.down": "fc2",
}


def _config(file: ConfigFile) -> ModelConfig:
    hidden, heads = file.count("hidden_size"), file.count("num_attention_heads")
    # Embeddings are narrower in the 350 M model alone.
    file.refuse(word_embed_proj_dim=hidden, _remove_final_layer_norm=False, layer_norm_elementwise_affine=True)
    longest = file.count("max_position_embeddings", default=2048)
    return ModelConfig(
        family="opt",
        vocab_size=file.count("vocab_size"),
        hidden_size=hidden,
        intermediate_size=file.count("ffn_dim"),
        num_hidden_layers=file.count("num_hidden_layers", most=MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=file.head_dim(hidden, heads),
        max_position_embeddings=longest,
        tie_word_embeddings=file.flag("tie_word_embeddings", True),
        norm=Norm("layer", 1e-5),
        positions=Learned(longest + _OFFSET, _OFFSET),
        ffn=FeedForward(file.activation("activation_function", default="relu"), gated=False),
        block="pre" if file.flag("do_layer_norm_before", True) else "post",
        biases=(*PROJECTIONS, "ffn.up", "ffn.down") if file.flag("enable_bias", True) else (),
    )


def _layer(config: ModelConfig, index: int) -> Parameters:
    front = f"model.decoder.layers.{index}."
    beside_attention, beside_ffn = BLOCK_NORMS[config.block]
    found = norm(config, beside_attention, f"{front}self_attn_layer_norm")
    found |= norm(config, beside_ffn, f"{front}final_layer_norm")
    for operator, name in _NAMES.items():
        found |= linear(config, operator, front + name)
    return found


def _outer(config: ModelConfig) -> Parameters:
    front = "model.decoder."
    tables = table(config, f"{front}embed_tokens.weight") | position_table(config, f"{front}embed_positions.weight")
    last = norm(config, "norm", f"{front}final_layer_norm") if config.block == "pre" else {}
    return tables | last | head(config)


FAMILY = Family("opt", ("OPTForCausalLM", "OPTModel"), _config, _layer, _outer)
