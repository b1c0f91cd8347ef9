"""What a Llama is, in numbers: enough for its cost, and for the shapes of its parameters."""

import math
from dataclasses import dataclass

from pim.llm_workloads.errors import WorkloadError

STATIC = (
    "attention.q",
    "attention.k",
    "attention.v",
    "attention.o",
    "ffn.gate",
    "ffn.up",
    "ffn.down",
)
"""The products of a layer with a matrix of weights, in the order in which it uses them."""

DYNAMIC = ("attention.qk", "attention.pv")
"""The products of two activations in a layer: scores with the keys, and mixing of the values."""

_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants of a Llama, under the names of a Hugging Face `config.json`.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the gated feed-forward layer.
        num_hidden_layers: number of blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads; each serves `group` query heads.
        head_dim: width of a head, even.
        rms_norm_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary angles.
        tie_word_embeddings: the head is the transposed embedding.
        max_position_embeddings: longest context that the model was made for, in tokens.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 2048

    def __post_init__(self):
        for name in _COUNTS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise WorkloadError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise WorkloadError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise WorkloadError(f"head_dim must be even for rotary positions, not {self.head_dim}")

        for name in ("rms_norm_eps", "rope_theta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise WorkloadError(f"{name} must be a positive number, not {value!r}")

        if not isinstance(self.tie_word_embeddings, bool):
            raise WorkloadError(f"tie_word_embeddings must be true or false, not {self.tie_word_embeddings!r}")

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def matrix_shapes(self) -> dict[str, tuple[int, int]]:
        """The shape (in, out) of each of `STATIC`."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        return {
            "attention.q": (hidden, queries),
            "attention.k": (hidden, keys),
            "attention.v": (hidden, keys),
            "attention.o": (queries, hidden),
            "ffn.gate": (hidden, inner),
            "ffn.up": (hidden, inner),
            "ffn.down": (inner, hidden),
        }

    @property
    def parameters(self) -> int:
        """Number of parameters; a tied head counts once."""
        layer = sum(rows * columns for rows, columns in self.matrix_shapes.values()) + 2 * self.hidden_size
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return self.num_hidden_layers * layer + embeddings + self.hidden_size
