"""The operators of a model, with the counts that mapping and cost need; a config alone is enough.

Products with a matrix of weights (static) and products of two activations (dynamic) are different things to a memory
that computes: the first are written once, the second with every token. Vector work is the rest. Counts follow the
closed formulas that LLM-Viewer (Yuan et al., arXiv 2402.16363) and its kin share; a multiply-accumulate counts once.
"""

from dataclasses import dataclass

import numpy as np

from pim.llm_workloads.config import DYNAMIC as DYNAMIC
from pim.llm_workloads.config import STATIC as STATIC
from pim.llm_workloads.config import LlamaConfig
from pim.llm_workloads.errors import WorkloadError

Count = int | float | np.ndarray
"""A count, or an array of them: the formulas are plain arithmetic."""

OPS = {"norm": 7, "softmax": 5, "residual": 1, "rope": 3, "activation": 5}
"""Operations per element (softmax: per score). The first three are LLM-Viewer's; a rotated element takes two products
and a sum; SwiGLU's takes exp, sum and division of the sigmoid and two products."""


def layer_path(layer: int, operator: str) -> str:
    """The path of an operator in the model.

    >>> layer_path(3, "attention.q")
    'layers.3.attention.q'
    """
    return f"layers.{layer}.{operator}"


@dataclass(frozen=True)
class Phase:
    """A stretch of work on `batch` sequences: prefill reads many new tokens at once, decode one.

    Counts may be arrays that broadcast: 128 steps of decoding are `Phase(tokens=1, context=512 + np.arange(1, 129))`.

    Attributes:
        batch: sequences.
        tokens: new tokens of each.
        context: tokens of each when the phase ends, the new ones among them.
        logits: new tokens of each whose logits are asked for: the last one to generate, all to score.
        causal: a token is scored against those up to itself; False counts all pairs (dense), as most tools do.

    Example:
        >>> prefill, decode = Phase(tokens=512, context=512), Phase(tokens=1, context=513)
    """

    batch: Count = 1
    tokens: Count = 1
    context: Count = 1
    logits: Count = 1
    causal: bool = True

    def __post_init__(self):
        for name in ("batch", "tokens", "context", "logits"):
            if np.any(np.less(getattr(self, name), 1)):
                raise WorkloadError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        if np.any(np.less(self.context, self.tokens)):
            raise WorkloadError(f"a context of {self.context} tokens cannot hold {self.tokens} new ones")
        if np.any(np.less(self.tokens, self.logits)):
            raise WorkloadError(f"logits of {self.logits} tokens were asked for, but {self.tokens} are new")

    @property
    def visible(self) -> Count:
        """Tokens that a new token attends to, on average."""
        return self.context - (self.tokens - 1) / 2 if self.causal else self.context


@dataclass(frozen=True)
class Product:
    """A matrix, or several of one shape, and what is multiplied by it.

    Attributes:
        path: "layers.3.attention.q", "head".
        dynamic: the matrices are activations (keys, values), otherwise weights.
        n_in: inputs of a product.
        n_out: its outputs; causal attention makes one of the two a mean over the vectors.
        copies: matrices: one for each sequence and key head where dynamic, else 1.
        vectors: input vectors of each matrix.
        held: values in all the matrices.
        written: those of them that are new in this phase.
    """

    path: str
    dynamic: bool
    n_in: Count
    n_out: Count
    copies: Count
    vectors: Count
    held: Count
    written: Count

    @property
    def macs(self) -> Count:
        """Multiply-accumulates."""
        return self.copies * self.vectors * self.n_in * self.n_out

    @property
    def moved(self) -> Count:
        """Values that go in and come out as vectors."""
        return self.copies * self.vectors * (self.n_in + self.n_out)


@dataclass(frozen=True)
class VectorWork:
    """Work element by element.

    Attributes:
        path: "layers.3.attention.softmax", "norm".
        kind: a key of `OPS`.
        elements: values (softmax: scores) that it touches.
    """

    path: str
    kind: str
    elements: Count

    @property
    def ops(self) -> Count:
        """Operations, by the counts of `OPS`."""
        return OPS[self.kind] * self.elements


_ORDER = (*STATIC[:3], *DYNAMIC, *STATIC[3:])


def products(config: LlamaConfig, phase: Phase) -> list[Product]:
    """All products of a phase, in the order in which they run.

    Example:
        >>> sum(product.macs for product in products(config, Phase(tokens=2048, context=2048, logits=1)))
    """
    shapes, vectors = config.matrix_shapes, phase.batch * phase.tokens
    found = [
        _static(layer_path(layer, operator), shapes[operator], vectors)
        if operator in STATIC
        else _dynamic(layer_path(layer, operator), operator, config, phase)
        for layer in range(config.num_hidden_layers)
        for operator in _ORDER
    ]
    return [*found, _static("head", (config.hidden_size, config.vocab_size), phase.batch * phase.logits)]


def _static(path: str, shape: tuple[int, int], vectors: Count) -> Product:
    n_in, n_out = shape
    return Product(path, False, n_in, n_out, copies=1, vectors=vectors, held=n_in * n_out, written=0)


def _dynamic(path: str, operator: str, config: LlamaConfig, phase: Phase) -> Product:
    dim, copies = config.head_dim, phase.batch * config.num_key_value_heads
    n_in, n_out = (dim, phase.visible) if operator == "attention.qk" else (phase.visible, dim)
    return Product(
        path,
        True,
        n_in,
        n_out,
        copies=copies,
        vectors=config.group * phase.tokens,
        held=copies * phase.context * dim,
        written=copies * phase.tokens * dim,
    )


def vector_work(config: LlamaConfig, phase: Phase) -> list[VectorWork]:
    """All element-wise work of a phase, in the order in which it runs."""
    each = phase.batch * phase.tokens
    stream = each * config.hidden_size
    heads = config.num_attention_heads + config.num_key_value_heads
    layer_work = (
        ("input_norm", "norm", stream),
        ("attention.rope", "rope", each * heads * config.head_dim),
        ("attention.softmax", "softmax", each * config.num_attention_heads * phase.visible),
        ("attention.residual", "residual", stream),
        ("post_norm", "norm", stream),
        ("ffn.activation", "activation", each * config.intermediate_size),
        ("ffn.residual", "residual", stream),
    )
    found = [
        VectorWork(layer_path(layer, name), kind, elements)
        for layer in range(config.num_hidden_layers)
        for name, kind, elements in layer_work
    ]
    return [*found, VectorWork("norm", "norm", phase.batch * phase.logits * config.hidden_size)]
