"""BERT (arXiv 1810.04805) and encoders of sentences made from it, such as MiniLM (2002.10957)."""

from pim.llm_workloads.config import PROJECTIONS, AttentionKind, FeedForward, ModelConfig, Norm
from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families.family import (
    Family,
    Parameters,
    Stored,
    linear,
    norm,
    position_table,
    shapes,
    table,
)
from pim.llm_workloads.positions import Learned

_NAMES = {
    "attention.q": "attention.self.query",
    "attention.k": "attention.self.key",
    "attention.v": "attention.self.value",
    "attention.o": "attention.output.dense",
    "ffn.up": "intermediate.dense",
    "ffn.down": "output.dense",
}
_MASKED = "BertForMaskedLM"


def _config(file: ConfigFile) -> ModelConfig:
    counts = shapes(file)
    file.refuse(position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    masked = _MASKED in file.architectures()
    return ModelConfig(
        family="bert",
        **counts,
        tie_word_embeddings=file.flag("tie_word_embeddings", True),
        norm=Norm("layer", file.positive("layer_norm_eps", default=1e-12)),
        positions=Learned(counts["max_position_embeddings"]),
        attention=AttentionKind(causal=False),
        ffn=FeedForward(file.activation("hidden_act", default="gelu"), gated=False),
        block="post",
        biases=(*PROJECTIONS, "ffn.up", "ffn.down", *(("head.transform", "head") if masked else ())),
        embed_normed=True,
        token_types=file.count("type_vocab_size", default=2),
        head="transform" if masked else "none",
    )


def _layer(config: ModelConfig, index: int) -> Parameters:
    front = f"bert.encoder.layer.{index}."
    found = norm(config, "attention.norm", f"{front}attention.output.LayerNorm")
    found |= norm(config, "ffn.norm", f"{front}output.LayerNorm")
    for operator, name in _NAMES.items():
        found |= linear(config, operator, front + name)
    return found


def _outer(config: ModelConfig) -> Parameters:
    front = "bert.embeddings."
    found = table(config, f"{front}word_embeddings.weight")
    found |= position_table(config, f"{front}position_embeddings.weight")
    types = (config.token_types, config.hidden_size)
    found["embed.type"] = Stored(f"{front}token_type_embeddings.weight", types)
    found |= norm(config, "embed.norm", f"{front}LayerNorm")
    if config.head == "none":
        return found
    found |= linear(config, "head.transform", "cls.predictions.transform.dense")
    found |= norm(config, "head.norm", "cls.predictions.transform.LayerNorm")
    found["head.bias"] = Stored("cls.predictions.bias", (config.vocab_size,))
    if not config.tie_word_embeddings:
        found["head"] = linear(config, "head", "cls.predictions.decoder")["head"]
    return found


FAMILY = Family(
    "bert",
    ("BertModel", _MASKED),
    _config,
    _layer,
    _outer,
    prefix="bert.",
    ignored=(
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    ),
)
