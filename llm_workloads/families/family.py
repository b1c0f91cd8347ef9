"""What a family of checkpoints says: its config, and which stored tensor each parameter is made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pim.llm_workloads.config import BLOCK_NORMS, MOST_LAYERS, ModelConfig
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.positions import Learned

Matrix = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint, and what is made of it.

    Attributes:
        name: in the checkpoint.
        shape: in the checkpoint.
        take: of what is stored, the parameter; None: all as it is.
    """

    name: str
    shape: tuple[int, ...]
    take: Callable[[Matrix], Matrix] | None = None


Parameters = dict[str, Stored]
"""By the name that a parameter has in our trees."""


@dataclass(frozen=True)
class Family:
    """A family of checkpoints in Hugging Face's layout.

    Attributes:
        name: `model_type` in config.json.
        architectures: class names in config.json; the first one is what `model_type` alone stands for.
        config: what config.json says.
        layer: the parameters of a layer, by its index.
        outer: those outside the layers.
        prefix: of most names, which checkpoints of the bare model leave away.
        ignored: ends of names of buffers that some checkpoints carry and nothing needs.
    """

    name: str
    architectures: tuple[str, ...]
    config: Callable[[ConfigFile], ModelConfig]
    layer: Callable[[ModelConfig, int], Parameters]
    outer: Callable[[ModelConfig], Parameters]
    prefix: str = "model."
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)


def transposed(stored: Matrix) -> Matrix:
    """[out, in] as [in, out]."""
    return stored.T


def columns(first: int, last: int, *, transpose: bool = False) -> Callable[[Matrix], Matrix]:
    """Outputs `first` to `last` of a matrix or bias that holds several; `transpose` if stored [out, in]."""
    if transpose:
        return lambda stored: stored[first:last].T
    return lambda stored: stored[..., first:last]


def linear(config: ModelConfig, operator: str, name: str) -> Parameters:
    """The matrix of an operator, stored as `name.weight` [out, in], and its bias where the config has one."""
    n_in, n_out = (config.matrix_shapes | config.outer_shapes)[operator]
    found = {operator: Stored(f"{name}.weight", (n_out, n_in), transposed)}
    if operator in config.biases:
        found[f"{operator}.bias"] = Stored(f"{name}.bias", (n_out,))
    return found


def side_by_side(config: ModelConfig, name: str, operators: tuple[str, ...], *, transpose: bool) -> Parameters:
    """Matrices of the same inputs that are stored as one; `transpose` if it is stored [out, in]."""
    sizes = [config.matrix_shapes[operator] for operator in operators]
    n_in, total = sizes[0][0], sum(n_out for _, n_out in sizes)
    shape = (total, n_in) if transpose else (n_in, total)
    found, first = {}, 0
    for operator, (_, n_out) in zip(operators, sizes, strict=True):
        last = first + n_out
        found[operator] = Stored(f"{name}.weight", shape, columns(first, last, transpose=transpose))
        if operator in config.biases:
            found[f"{operator}.bias"] = Stored(f"{name}.bias", (total,), columns(first, last))
        first = last
    return found


def norm(config: ModelConfig, ours: str, name: str, width: int | None = None) -> Parameters:
    """The gain of a norm, stored as `name.weight`, and its bias where the kind of norm has one."""
    shape = (config.hidden_size if width is None else width,)
    found = {ours: Stored(f"{name}.weight", shape)}
    if config.norm.kind == "layer":
        found[f"{ours}.bias"] = Stored(f"{name}.bias", shape)
    return found


def head(config: ModelConfig, name: str = "lm_head") -> Parameters:
    """The matrix of an untied head, and its bias where the config has one."""
    found = linear(config, "head", name)
    return {ours: stored for ours, stored in found.items() if ours != "head" or not config.tie_word_embeddings}


def table(config: ModelConfig, name: str) -> Parameters:
    """The embedding."""
    return {"embed": Stored(name, (config.vocab_size, config.hidden_size))}


def position_table(config: ModelConfig, name: str) -> Parameters:
    """The embedding of positions."""
    assert isinstance(config.positions, Learned)
    return {"embed.position": Stored(name, (config.positions.rows, config.hidden_size))}


LLAMA_NAMES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}
"""The names of matrices in Llama's layers, which many families have taken over."""

LLAMA_NORMS = {"input_norm": "input_layernorm", "post_norm": "post_attention_layernorm"}


def llama_layer(
    config: ModelConfig,
    index: int,
    names: Mapping[str, str] | None = None,
    norms: Mapping[str, str] | None = None,
) -> Parameters:
    """A layer with Llama's names, or with others in place of some."""
    names, norms = LLAMA_NAMES | dict(names or {}), LLAMA_NORMS | dict(norms or {})
    front = f"model.layers.{index}."
    found: Parameters = {}
    for ours in BLOCK_NORMS[config.block]:
        found |= norm(config, ours, front + norms[ours])
    for operator in config.static:
        if operator in names:
            found |= linear(config, operator, front + names[operator])
    return found


def llama_outer(config: ModelConfig) -> Parameters:
    """What is outside the layers, with Llama's names."""
    return table(config, "model.embed_tokens.weight") | norm(config, "norm", "model.norm") | head(config)


def shapes(file: ConfigFile) -> dict[str, int]:
    """The counts of a config under Llama's names."""
    hidden, heads = file.count("hidden_size"), file.count("num_attention_heads")
    return {
        "vocab_size": file.count("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": file.count("intermediate_size"),
        "num_hidden_layers": file.count("num_hidden_layers", most=MOST_LAYERS),
        "num_attention_heads": heads,
        "num_key_value_heads": file.count("num_key_value_heads", default=heads),
        "head_dim": file.head_dim(hidden, heads),
        "max_position_embeddings": file.count("max_position_embeddings", default=2048),
    }
