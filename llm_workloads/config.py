"""What a transformer is, in numbers: enough for its cost, for the shapes of its parameters and for its forward.

A config is made of parts, each of which one file computes with: `norms`, `positions`, `attention`, `feed_forward`,
`blocks`. The families of checkpoints (`pim.llm_workloads.families`) differ in the parts that they choose.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.positions import Learned, Rotary

DYNAMIC = ("attention.qk", "attention.pv")
"""The products of two activations in a layer: scores with the keys, and mixing of the values."""

PROJECTIONS = ("attention.q", "attention.k", "attention.v", "attention.o")
"""The products of attention with weights; those of the feed-forward layer follow."""

BLOCK_NORMS = {
    "pre": ("input_norm", "post_norm"),
    "post": ("attention.norm", "ffn.norm"),
    "sandwich": ("input_norm", "attention.norm", "post_norm", "ffn.norm"),
    "parallel": ("input_norm", "post_norm"),
    "parallel_shared": ("input_norm",),
}
"""How norms, attention and feed-forward layer follow each other (see `blocks`), and the norms that each way has."""

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")

MOST, MOST_LAYERS, MOST_EXPERTS = 2**31 - 1, 4096, 4096
"""What no model comes near: a damaged file must not make us build lists without end."""

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

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
class Norm:
    """A normalisation, see `norms`.

    Attributes:
        kind: "rms" (by the root mean square) or "layer" (by mean and deviation, with a bias).
        eps: added to the mean square.
        one_added: the stored gain is less one, as Gemma has it.
    """

    kind: str = "rms"
    eps: float = 1e-5
    one_added: bool = False


SCORED = ("keys", "inputs", "inputs_by_head")
"""What queries score: keys, or the inputs that keys are made of (`decomposition`), kept once, or for each key head."""


class Kept(NamedTuple):
    """What is kept of a context: the last `window` tokens, and besides them the first `sinks`, to which attention goes
    that has nowhere else to go (Xiao et al., StreamingLLM, arXiv 2309.17453)."""

    window: int
    sinks: int = 0


ATTENDED_BY = ("pattern", "screen", "scores")
"""What chooses the scores that a softmax gets, if it does not get all (`sparsity`): a pattern, before anything is
computed; a rough product of all of them, before the exact one; or the scores themselves."""


@dataclass(frozen=True)
class AttentionKind:
    """What attention does beside the products, see `attention`.

    Attributes:
        scale: of scores; None: one over the root of the head's width.
        softcap: scores are bent to stay below it; None: they are not.
        windows: most tokens that a token of each layer attends to, itself among them; None (for all, or for one layer):
            any number.
        normed: queries and keys are normalised, head by head.
        causal: a token sees those up to itself; else all, as in encoders.
        scored: what is kept of a token for queries to score: one of `SCORED`.
        attended: share of the scores that a softmax gets, and whose values are mixed.
        attended_by: what chooses them: one of `ATTENDED_BY`.
        kept: what the store of keys and values keeps for each layer, where it keeps less than the model would look at;
            None (for all, or for one layer): everything.
    """

    scale: float | None = None
    softcap: float | None = None
    windows: tuple[int | None, ...] | None = None
    normed: bool = False
    causal: bool = True
    scored: str = "keys"
    attended: float = 1.0
    attended_by: str = "pattern"
    kept: tuple[Kept | None, ...] | None = None


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward layer, see `feed_forward`.

    Attributes:
        activation: one of `ACTIVATIONS`.
        gated: the activated gate is multiplied by a second product.
        experts: feed-forward layers of which a router chooses some for each token; 0: there is one for all.
        experts_per_token: how many it chooses.
    """

    activation: str = "silu"
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """Shapes and constants of a transformer; names are those of a Hugging Face `config.json` where it has them.

    Attributes:
        family: what its checkpoints are called, such as "llama".
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the feed-forward layer.
        num_hidden_layers: number of blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads; each serves `group` query heads.
        head_dim: width of a head.
        max_position_embeddings: longest context that the model was made for, in tokens.
        tie_word_embeddings: the head is the transposed embedding.
        norm: of all norms.
        positions: how tokens know where they are.
        attention: what attention does beside the products.
        ffn: the feed-forward layer.
        block: a key of `BLOCK_NORMS`.
        biases: operators whose product has a bias added.
        embed_scale: what embeddings are multiplied by.
        embed_normed: embeddings are normalised.
        token_types: kinds of segments that have an embedding of their own.
        head: "head" (logits from the residual stream), "transform" (through one more layer, as BERT's) or "none".
        logits_softcap: logits are bent to stay below it.

    Example:
        >>> from pim.llm_workloads.families.llama import llama_config
        >>> llama_config(32000, 4096, 11008, 32, 32, 32, 128).parameters
        6738415616
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    norm: Norm = Norm()
    positions: Rotary | Learned = field(default_factory=Rotary)
    attention: AttentionKind = AttentionKind()
    ffn: FeedForward = FeedForward()
    block: str = "pre"
    biases: tuple[str, ...] = ()
    embed_scale: float = 1.0
    embed_normed: bool = False
    token_types: int = 0
    head: str = "head"
    logits_softcap: float | None = None

    def __post_init__(self):
        for name in _COUNTS:
            check_count(name, getattr(self, name), MOST_LAYERS if name == "num_hidden_layers" else MOST)
        if self.num_attention_heads % self.num_key_value_heads:
            raise WorkloadError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if isinstance(self.positions, Rotary):
            self.positions.check(self.head_dim)
        if not isinstance(self.tie_word_embeddings, bool):
            raise WorkloadError(f"tie_word_embeddings must be true or false, not {self.tie_word_embeddings!r}")
        for name in ("embed_scale", "logits_softcap"):
            check_positive(name, getattr(self, name), optional=name == "logits_softcap")
        check_positive("eps of norms", self.norm.eps)
        self._check_parts()

    def _check_parts(self):
        attention, ffn = self.attention, self.ffn
        check_positive("the scale of scores", attention.scale, optional=True)
        check_positive("the softcap of scores", attention.softcap, optional=True)
        if attention.windows is not None:
            for window in attention.windows:
                if window is not None:
                    check_count("a sliding window", window)
            if len(attention.windows) != self.num_hidden_layers:
                raise WorkloadError(
                    f"{len(attention.windows)} windows were given for {self.num_hidden_layers} layers: give one each"
                )
        if ffn.experts:
            check_count("the number of experts", ffn.experts, MOST_EXPERTS)
        if ffn.experts and not 0 < ffn.experts_per_token <= ffn.experts:
            raise WorkloadError(f"{ffn.experts_per_token} experts a token cannot be chosen of {ffn.experts}")
        if ffn.activation not in ACTIVATIONS:
            raise WorkloadError(f"activation {ffn.activation!r} is not supported; {', '.join(ACTIVATIONS)} are")
        if self.block not in BLOCK_NORMS:
            raise WorkloadError(f"block {self.block!r} is none of {', '.join(BLOCK_NORMS)}")

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @cached_property
    def static(self) -> tuple[str, ...]:
        """The products of a layer with a matrix of weights, in the order in which it uses them."""
        return tuple(self.matrix_shapes)

    @cached_property
    def matrix_shapes(self) -> dict[str, tuple[int, int]]:
        """The shape (in, out) of each of `static`."""
        hidden = self.hidden_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        shapes = {
            "attention.q": (hidden, queries),
            "attention.k": (hidden, keys),
            "attention.v": (hidden, keys),
            "attention.o": (queries, hidden),
        }
        if not self.ffn.experts:
            return shapes | self._ffn_shapes("ffn")
        shapes["ffn.router"] = (hidden, self.ffn.experts)
        for expert in range(self.ffn.experts):
            shapes |= self._ffn_shapes(f"ffn.experts.{expert}")
        return shapes

    def _ffn_shapes(self, path: str) -> dict[str, tuple[int, int]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        gate = {f"{path}.gate": (hidden, inner)} if self.ffn.gated else {}
        return gate | {f"{path}.up": (hidden, inner), f"{path}.down": (inner, hidden)}

    @cached_property
    def outer_shapes(self) -> dict[str, tuple[int, int]]:
        """The shape (in, out) of the products with weights behind the layers, in their order."""
        if self.head == "none":
            return {}
        transform = {"head.transform": (self.hidden_size, self.hidden_size)} if self.head == "transform" else {}
        return transform | {"head": (self.hidden_size, self.vocab_size)}

    def shape(self, operator: str) -> tuple[int, int]:
        """The shape (in, out) of a product with weights."""
        return self.matrix_shapes[operator] if operator in self.matrix_shapes else self.outer_shapes[operator]

    def chosen(self, operator: str) -> float:
        """The share of the tokens that go through an operator of a layer: experts are chosen for some."""
        return self.ffn.experts_per_token / self.ffn.experts if ".experts." in operator else 1.0

    def seen(self, layer: int) -> Kept | None:
        """The tokens before it, itself among them, that a token of a layer attends to; None: all.

        Of the model's own window and what a store keeps it is the narrower window, with the sinks of the latter.
        """
        own = None if self.attention.windows is None else self.attention.windows[layer]
        kept = None if self.attention.kept is None else self.attention.kept[layer]
        if own is not None and (kept is None or own <= kept.window):
            return Kept(own)
        return kept

    def window(self, layer: int) -> int | None:
        """Most tokens that a token of a layer attends to; None: any number.

        A window with sinks has all tokens of a text in it until it is full: the two add up.
        """
        seen = self.seen(layer)
        return None if seen is None else seen.window + seen.sinks

    @property
    def parameters(self) -> int:
        """Number of parameters; a tied head counts once."""
        hidden, vectors = self.hidden_size, 2 if self.norm.kind == "layer" else 1
        shapes = self.matrix_shapes | self.outer_shapes
        layer = sum(rows * columns for rows, columns in self.matrix_shapes.values())
        layer += sum(shapes[name][1] for name in self.biases if name in self.matrix_shapes)
        layer += len(BLOCK_NORMS[self.block]) * vectors * hidden
        layer += 2 * vectors * self.head_dim if self.attention.normed else 0
        outer = (self.vocab_size + self.token_types) * hidden
        outer += sum(shapes[name][1] for name in self.biases if name in self.outer_shapes)
        outer += self.positions.rows * hidden if isinstance(self.positions, Learned) else 0
        outer += vectors * hidden * (self.embed_normed + (self.block != "post") + (self.head == "transform"))
        outer += hidden * hidden if self.head == "transform" else 0
        outer += 0 if self.tie_word_embeddings or self.head == "none" else self.vocab_size * hidden
        return self.num_hidden_layers * layer + outer


def check_count(name: str, value: Any, most: int = MOST) -> None:
    """Raise WorkloadError for what is no whole number of at least 1, or more than `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WorkloadError(f"{name} must be a whole number of at least 1, not {value!r}")
    if value > most:
        raise WorkloadError(f"{name} must be at most {most:,}, not {value:,}")


def check_positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise WorkloadError for what is no positive number of float32; None may be allowed."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise WorkloadError(f"{name} must be a positive number, not {value!r}")
    if not _SMALLEST <= value <= _LARGEST:
        raise WorkloadError(f"{name} must be a positive number that float32 holds, not {value!r}")
