"""The operators of a model, with the counts that mapping and cost need; a config alone is enough.

Products with a matrix of weights (static) and products of two activations (dynamic) are different things to a memory
that computes: the first are written once, the second with every token. Vector work is the rest. Counts follow the
closed formulas that LLM-Viewer (Yuan et al., arXiv 2402.16363) and its kin share; a multiply-accumulate counts once.
"""

from dataclasses import dataclass, replace

import numpy as np

from pim.llm_workloads.config import BLOCK_NORMS, ModelConfig
from pim.llm_workloads.config import DYNAMIC as DYNAMIC
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.positions import Rotary

Count = int | float | np.number | np.ndarray
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


def layer_of(path: str) -> int | None:
    """The layer of an operator; None: it is behind the layers.

    >>> layer_of("layers.3.attention.q"), layer_of("head")
    (3, None)
    """
    front, _, rest = path.partition(".")
    return int(rest.partition(".")[0]) if front == "layers" else None


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

    def visible(self, window: int | None = None) -> Count:
        """Tokens that a new token attends to, on average, of at most `window` behind it."""
        if window is None:
            return self.context - (self.tokens - 1) / 2 if self.causal else self.context
        if not self.causal:
            return np.minimum(self.context, window)
        # The first tokens of a text see all before them: positions below the window, `rising` of the new ones.
        first = self.context - self.tokens
        rising = np.clip(window - first, 0, self.tokens)
        seen = rising * (first + (rising + 1) / 2) + (self.tokens - rising) * window
        return seen / self.tokens


@dataclass(frozen=True)
class Product:
    """A matrix, or several of one shape, and what is multiplied by it.

    Attributes:
        path: "layers.3.attention.q", "head".
        dynamic: the matrices are activations (keys, values), otherwise weights.
        n_in: inputs of a product.
        n_out: its outputs; causal attention makes one of the two a mean over the vectors.
        copies: matrices: one for each sequence and key head where dynamic; of weights 1, or one for each key head.
        vectors: input vectors of each matrix.
        held: values in all the matrices.
        written: those of them that are new in this phase.
        used: share of the phases like this in which the matrices are read at all: an expert may be chosen for no token.
    """

    path: str
    dynamic: bool
    n_in: Count
    n_out: Count
    copies: Count
    vectors: Count
    held: Count
    written: Count
    used: Count = 1

    @property
    def read(self) -> Count:
        """Values of the matrices that are read, on average."""
        return self.held * self.used

    @property
    def vectors_if_used(self) -> Count:
        """Input vectors of each matrix in a phase in which it is read."""
        return self.vectors if isinstance(self.used, int) else self.vectors / self.used

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


SCREEN = "screen.attention.qk"
"""The rough product that chooses which scores are computed, where there is one (`sparsity`)."""


def layer_operators(config: ModelConfig) -> tuple[str, ...]:
    """All products of a layer, in the order in which they run."""
    before, behind = config.static[:3], config.static[3:]
    screened = config.attention.attended < 1 and config.attention.attended_by == "screen"
    return (*before, *((SCREEN,) if screened else ()), *DYNAMIC, *behind)


ORDER = (
    "input_norm", "attention.q", "attention.k", "attention.v", "attention.head_norm", "attention.rope", "attention.qk",
    "attention.softmax", "attention.pv", "attention.o", "attention.all_reduce", "attention.norm", "attention.residual",
    "post_norm", "ffn.router", "ffn.dispatch", "gate", "up", "ffn.activation", "down", "ffn.combine",
    "ffn.all_reduce", "ffn.norm", "ffn.residual",
)  # fmt: skip
"""Ends of the paths of a layer's products and vector work, in the order in which they run."""


def run_rank(path: str) -> tuple[float, int]:
    """What sorts products, vector work and sums into the order in which they run; what is behind the layers is last.

    >>> run_rank("layers.1.attention.qk") < run_rank("layers.1.attention.softmax") < run_rank("head")
    True
    """
    layer, end = layer_of(path), path.split(".", 2)[-1]
    name = next((i for i, known in enumerate(ORDER) if end == known or end.endswith(f".{known}")), len(ORDER))
    return float("inf") if layer is None else float(layer), name


def operator_paths(config: ModelConfig) -> list[str]:
    """The paths of all products of a model, in the order in which they run.

    >>> operator_paths(config)[-2:]
    ['layers.5.ffn.down', 'head']
    """
    layers = range(config.num_hidden_layers)
    return [*(layer_path(i, op) for i in layers for op in layer_operators(config)), *config.outer_shapes]


def products(config: ModelConfig, phase: Phase) -> list[Product]:
    """All products of a phase, in the order in which they run.

    Each expert of a mixture multiplies the share of the tokens that it is chosen for, on average; where k are chosen
    out of E it is read for any of n tokens with a probability of 1 - (1 - k/E)^n.

    Example:
        >>> sum(product.macs for product in products(config, Phase(tokens=2048, context=2048, logits=1)))
    """
    shapes, vectors = config.matrix_shapes, phase.batch * phase.tokens
    found = [
        _dynamic(layer_path(layer, operator), operator, config, phase, config.window(layer))
        if operator in (SCREEN, *DYNAMIC)
        else _static(layer_path(layer, operator), shapes[operator], vectors, config.chosen(operator))
        for layer in range(config.num_hidden_layers)
        for operator in layer_operators(config)
    ]
    if config.attention.scored != "keys":
        found = [_without_keys(product, config, phase) for product in found]
    return [*found, *(_static(path, shape, phase.batch * phase.logits) for path, shape in config.outer_shapes.items())]


def _static(path: str, shape: tuple[int, int], vectors: Count, chosen: float = 1.0) -> Product:
    """A matrix of weights by which a share of the vectors is multiplied."""
    n_in, n_out = shape
    held, used = n_in * n_out, 1 if chosen == 1 else 1 - (1 - chosen) ** vectors
    vectors = vectors if chosen == 1 else vectors * chosen
    return Product(path, False, n_in, n_out, copies=1, vectors=vectors, held=held, written=0, used=used)


def _dynamic(path: str, operator: str, config: ModelConfig, phase: Phase, window: int | None) -> Product:
    dim, copies = config.head_dim, phase.batch * config.num_key_value_heads
    seen, share = phase.visible(window), _share(operator, config)
    seen = seen if share == 1 else np.maximum(seen * share, 1)
    n_in, n_out = (dim, seen) if operator.endswith(DYNAMIC[0]) else (seen, dim)
    held = phase.context if window is None else np.minimum(phase.context, window + phase.tokens - 1)
    return Product(
        path,
        True,
        n_in,
        n_out,
        copies=copies,
        vectors=config.group * phase.tokens,
        held=copies * held * dim,
        written=copies * phase.tokens * dim,
    )


def _share(operator: str, config: ModelConfig) -> float:
    """The share of the tokens that a product of attention is about."""
    everything = operator == SCREEN or (operator == DYNAMIC[0] and config.attention.attended_by == "scores")
    return 1.0 if everything else config.attention.attended


def _without_keys(product: Product, config: ModelConfig, phase: Phase) -> Product:
    """What becomes of a product where inputs are scored instead of keys (`decomposition`).

    Queries go through the transposed matrix of the keys, a part for each key head; what they score is held once, and
    all heads take turns, or for each key head.
    """
    heads, width = config.num_key_value_heads, config.hidden_size
    if product.path.endswith("attention.k"):
        vectors = product.vectors * config.group
        return replace(product, n_in=config.head_dim, n_out=width, copies=heads, vectors=vectors)
    if not product.path.endswith("attention.qk"):
        return product
    each = heads if config.attention.scored == "inputs_by_head" else 1
    wider = each * width / (heads * config.head_dim)
    return replace(
        product,
        n_in=width,
        copies=phase.batch * each,
        vectors=product.vectors * (heads // each),
        held=product.held * wider,
        written=product.written * wider,
    )


def vector_work(config: ModelConfig, phase: Phase) -> list[VectorWork]:
    """All element-wise work of a phase, in the order in which it runs.

    The sums of biases are not counted, nor what is done to embeddings.
    """
    each = phase.batch * phase.tokens
    found = [
        VectorWork(layer_path(layer, name), kind, elements)
        for layer in range(config.num_hidden_layers)
        for name, kind, elements in _layer_work(config, phase, each, config.window(layer))
    ]
    if config.block != "post":
        found.append(VectorWork("norm", "norm", phase.batch * phase.logits * config.hidden_size))
    if config.head == "transform":
        width = phase.batch * phase.logits * config.hidden_size
        found += [VectorWork("head.activation", "activation", width), VectorWork("head.norm", "norm", width)]
    return found


def _layer_work(config: ModelConfig, phase: Phase, each: Count, window: int | None) -> list[tuple[str, str, Count]]:
    """The element-wise work of a layer: name, kind and elements."""
    stream = each * config.hidden_size
    scores = each * config.num_attention_heads * phase.visible(window)
    scores = scores if config.attention.attended == 1 else scores * config.attention.attended
    heads = each * (config.num_attention_heads + config.num_key_value_heads)
    inner = each * config.intermediate_size * (config.ffn.experts_per_token if config.ffn.experts else 1)
    norms = {name: (name, "norm", stream) for name in BLOCK_NORMS[config.block]}
    found = [norms.pop("input_norm")] if "input_norm" in norms else []
    if config.attention.normed:
        found.append(("attention.head_norm", "norm", heads * config.head_dim))
    if isinstance(config.positions, Rotary):
        turned = config.head_dim if config.positions.dims is None else config.positions.dims
        found.append(("attention.rope", "rope", heads * turned))
    found += [("attention.softmax", "softmax", scores), ("attention.residual", "residual", stream)]
    before = [norms.pop(name) for name in ("attention.norm", "post_norm") if name in norms]
    found += [*before, ("ffn.activation", "activation", inner)]
    return [*found, *norms.values(), ("ffn.residual", "residual", stream)]
