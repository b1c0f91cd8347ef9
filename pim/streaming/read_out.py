"""What is behind the last layer, some tokens at a time: logits of a large vocabulary are larger than anything else."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim.emulation import hook
from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.text import Batch
from pim.scoring import by_sequence
from pim.token_sums import token_sums

LOGITS_AT_ONCE = 1 << 25
"""Logits of a piece: 128 MB in each of the arrays that are made of them."""


class Piece(NamedTuple):
    """Tokens whose logits are found at once: some rows, and some neighbouring positions of them."""

    rows: Int32[np.ndarray, " rows"]
    first: int
    tokens: Int32[np.ndarray, "rows time"]
    scored: Float[np.ndarray, "rows time-1"]

    def of(self, x: Float[Any, "batch positions hidden"]) -> Float[Any, "rows time hidden"]:
        """What belongs to these tokens."""
        return x[self.rows, self.first : self.first + self.tokens.shape[1]]


def pieces(batch: Batch, vocab_size: int) -> Iterator[Piece]:
    """A batch cut into pieces of one shape; each scored token is scored in one of them.

    Positions overlap by one, since a token is scored by the logits in front of it; rows and positions that are there
    only to fill up the last piece are not scored.
    """
    count, time = batch.tokens.shape
    most = max(2, LOGITS_AT_ONCE // vocab_size)
    width = min(time, most)
    height = max(1, min(count, most // width))
    for top in range(0, count, height):
        rows = np.minimum(np.arange(top, top + height), count - 1).astype(np.int32)
        own = np.arange(top, top + height) < count
        for start in range(0, time - 1, width - 1):
            first = min(start, time - width)
            scored = batch.scored[rows, first : first + width - 1] * own[:, None]
            scored[:, : start - first] = 0.0
            yield Piece(rows, first, batch.tokens[rows, first : first + width], scored)


def read_out_sums(
    config: ModelConfig,
    exact: Mapping[str, Any],
    params: Mapping[str, Any],
    devices: Mapping[str, Any],
    batches: Sequence[Batch],
    streams: Sequence[tuple[Float[Any, "batch time hidden"], Float[Any, "batch time hidden"]]],
    key: Key[Array, ""] | None,
) -> dict[str, Float[np.ndarray, " sequences"]]:
    """Sums over the scored tokens of each sequence (see `token_sums`).

    Args:
        config: of the model.
        exact: its parameters outside the layers.
        params: the same, placed on devices.
        devices: see `emulated`.
        batches: of the text.
        streams: of each batch the residual stream behind the last layer: the exact model's, and that of the chip.
        key: of the chip.
    """

    def sums() -> Iterator[dict[str, Any]]:
        for batch, (digital, analog) in zip(batches, streams, strict=True):
            found: dict[str, np.ndarray] = {}
            for piece in pieces(batch, config.vocab_size):
                documents = batch.documents[piece.rows]
                given = piece.of(digital), piece.of(analog), piece.tokens, documents, np.int32(piece.first)
                for name, values in _sums(config, exact, params, devices, *given, piece.scored, key).items():
                    np.add.at(found.setdefault(name, np.zeros(len(batch.tokens))), piece.rows, np.asarray(values))
            yield found

    return by_sequence(batches, sums())


@partial(jax.jit, static_argnums=0)
def _sums(
    config: ModelConfig,
    exact: Mapping[str, Any],
    params: Mapping[str, Any],
    devices: Mapping[str, Any],
    digital: Float[Array, "batch time hidden"],
    analog: Float[Array, "batch time hidden"],
    tokens: Int32[Array, "batch time"],
    documents: UInt32[Array, " batch"],
    first: Int32[Array, ""],
    scored: Float[Array, "batch time-1"],
    key: Key[Array, ""] | None,
) -> dict[str, Float[Array, " batch"]]:
    ids = transformer.name_tokens(jnp.full(documents.shape, first), documents, tokens.shape[1])

    def logits(params, x, matmul):
        y = transformer.read_out(config, params, transformer.final_norm(config, params, x), ids, matmul)
        return jax.nn.log_softmax(y)

    reference = logits(exact, digital, transformer.digital_matmul)
    return token_sums(logits(params, analog, hook(devices, key)), reference, tokens, scored)
