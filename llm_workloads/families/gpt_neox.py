"""GPT-NeoX and Pythia (arXiv 2204.06745, 2304.01373): attention beside the feed-forward layer; part of a head is turned
by position; queries, keys and values of each head are stored side by side.
"""

from collections.abc import Callable

from pim.llm_workloads.config import PROJECTIONS, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import Family, Matrix, Parameters, Stored, head, linear, norm, shapes, table

_NAMES = {"attention.o": "attention.dense", "ffn.up": "mlp.dense_h_to_4h", "ffn.down": "mlp.dense_4h_to_h"}


def _config(file: ConfigFile) -> ModelConfig:
    counts = shapes(file)
    biases = (*PROJECTIONS, "ffn.up", "ffn.down") if file.flag("attention_bias", True) else ("ffn.up", "ffn.down")
    return ModelConfig(
        family="gpt_neox",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", False),
        norm=Norm("layer", file.positive("layer_norm_eps", default=1e-5)),
        positions=file.rotary(counts["head_dim"], default_share=0.25),
        ffn=FeedForward(file.activation("hidden_act", default="gelu"), gated=False),
        block="parallel" if file.flag("use_parallel_residual", True) else "pre",
        biases=biases,
    )


def _of_each_head(config: ModelConfig, part: int) -> Callable[[Matrix], Matrix]:
    """Queries (0), keys (1) or values (2) of a matrix or bias whose outputs are [heads, 3, head_dim]."""

    def take(stored: Matrix) -> Matrix:
        heads = stored.reshape(config.num_attention_heads, 3, config.head_dim, *stored.shape[1:])
        return heads[:, part].reshape(-1, *stored.shape[1:]).T

    return take


def _layer(config: ModelConfig, index: int) -> Parameters:
    front = f"gpt_neox.layers.{index}."
    found = norm(config, "input_norm", f"{front}input_layernorm")
    found |= norm(config, "post_norm", f"{front}post_attention_layernorm")
    fused, outputs = f"{front}attention.query_key_value", 3 * config.matrix_shapes["attention.q"][1]
    for part, operator in enumerate(PROJECTIONS[:3]):
        take = _of_each_head(config, part)
        found[operator] = Stored(f"{fused}.weight", (outputs, config.hidden_size), take)
        if operator in config.biases:
            found[f"{operator}.bias"] = Stored(f"{fused}.bias", (outputs,), take)
    for operator, name in _NAMES.items():
        found |= linear(config, operator, front + name)
    return found


def _outer(config: ModelConfig) -> Parameters:
    last = norm(config, "norm", "gpt_neox.final_layer_norm")
    return table(config, "gpt_neox.embed_in.weight") | last | head(config, "embed_out")


FAMILY = Family(
    "gpt_neox",
    ("GPTNeoXForCausalLM", "GPTNeoXModel"),
    _config,
    _layer,
    _outer,
    prefix="gpt_neox.",
    ignored=(".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
)
