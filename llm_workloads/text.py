"""Text cut into scored sequences, with the protocol that a perplexity is only comparable under.

A text in which `<|endoftext|>` separates documents is scored document by document, any other in windows.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt32

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tokenizers import Tokenizer

SEPARATOR = "<|endoftext|>"
SHARED_RUN = 32
"""Tokens in a row that two texts may not share if one is to calibrate what is scored on the other."""

_FEW = 4
_GREETING = 8


@dataclass(frozen=True)
class Batch:
    """Sequences of similar length, cut to a common one.

    Attributes:
        tokens: padded at the end.
        documents: identity of each row, the same in whatever batch it comes.
        scored: 1 where the token behind this one is scored, else 0.
        index: rows of the text that these are.
        kept: rows of the batch that they stand in; the others repeat the first and score nothing.
    """

    tokens: Int32[np.ndarray, "rows time"]
    documents: UInt32[np.ndarray, " rows"]
    scored: Float[np.ndarray, "rows time-1"]
    index: Int64[np.ndarray, " kept"]
    kept: slice


@dataclass(frozen=True)
class ScoredText:
    """The sequences of a text, one a row: every valid token but the first of its row is scored.

    Attributes:
        tokens: padded with 0 to the longest sequence.
        lengths: valid tokens of each row.
        context: most tokens that a row may have.
        protocol: how the text was cut, in words.
        sha256: of the whole text, UTF-8.
    """

    tokens: Int32[np.ndarray, "rows time"]
    lengths: Int32[np.ndarray, " rows"]
    context: int
    protocol: str
    sha256: str

    @property
    def count(self) -> int:
        """Number of rows: documents, or windows."""
        return len(self.lengths)

    @property
    def documents(self) -> UInt32[np.ndarray, " rows"]:
        """Identity of each row."""
        return np.arange(self.count, dtype=np.uint32)

    def scored_tokens(self) -> Int32[np.ndarray, " rows"]:
        """Number of scored tokens of each row."""
        return self.lengths - 1

    def valid_tokens(self) -> Bool[np.ndarray, "rows time"]:
        """Which tokens are no padding."""
        return np.arange(self.tokens.shape[1])[None, :] < self.lengths[:, None]

    def rows(self) -> list[Int32[np.ndarray, " length"]]:
        """The tokens of each row, without padding."""
        return [row[:length] for row, length in zip(self.tokens, self.lengths, strict=True)]

    def head(self, tokens: int) -> "ScoredText":
        """The first rows up to about `tokens` tokens, at least one row, which is cut where it alone has more."""
        if tokens < 2:
            raise WorkloadError(f"{tokens} tokens are no text: give at least 2")
        count = max(1, int(np.searchsorted(np.cumsum(self.lengths), tokens, side="right")))
        lengths = np.minimum(self.lengths[:count], tokens).astype(np.int32)
        return replace(self, tokens=self.tokens[:count, : lengths.max()], lengths=lengths)

    def batches(self, tokens: int) -> Iterator[Batch]:
        """Cut into batches of about `tokens` tokens, of few shapes, since each is compiled.

        Up to four batches have one shape. More are sorted by length and padded to quarters of the longest.
        """
        longest = self.tokens.shape[1]
        batches = math.ceil(self.count * longest / tokens)
        if batches <= _FEW:
            yield from self._in_shapes(longest, lambda width: math.ceil(self.count / batches))
        else:
            yield from self._in_shapes(math.ceil(longest / _FEW), lambda width: max(1, tokens // width))

    def _in_shapes(self, step: int, rows_of: Callable[[int], int]) -> Iterator[Batch]:
        """Longest first; the width is a multiple of `step`, the rows depend on the width."""
        order = np.argsort(-self.lengths, kind="stable").astype(np.int64)
        while len(order):
            width = min(self.tokens.shape[1], step * math.ceil(self.lengths[order[0]] / step))
            rows = rows_of(width)
            yield self._batch(order[:rows], rows, width)
            order = order[rows:]

    def _batch(self, index: Int64[np.ndarray, " kept"], rows: int, width: int) -> Batch:
        taken = np.concatenate([index, np.full(rows - len(index), index[0])])
        scored = self.valid_tokens()[taken, 1:width].astype(np.float32)
        scored[len(index) :] = 0.0
        return Batch(self.tokens[taken, :width], self.documents[taken], scored, index, slice(0, len(index)))


def as_scored(
    text: str | ScoredText, tokenizer: Tokenizer, *, context: int, max_tokens: int | None = None
) -> ScoredText:
    """Cut a text into scored sequences: documents where it has separators, else windows.

    Args:
        text: the text; one that is cut already is returned as it is.
        tokenizer: of the model.
        context: most tokens of a sequence, BOS among them.
        max_tokens: most scored tokens of the whole, taken from its beginning; all by default.

    Raises:
        WorkloadError: a context below 2, a budget below 1, a text without a token to score, a token that the model
            does not know.

    Example:
        >>> scored = as_scored("Once upon a time.<|endoftext|>One day.", tokenizer, context=256)
        >>> scored.count
        2
    """
    if isinstance(text, ScoredText):
        return text
    cut = cut_documents if SEPARATOR in text else cut_windows
    return cut(text, tokenizer, context=context, max_tokens=max_tokens)


def cut_documents(text: str, tokenizer: Tokenizer, *, context: int, max_tokens: int | None = None) -> ScoredText:
    """Each `<|endoftext|>` block alone, stripped: BOS and its tokens, cut at `context` in all, each behind BOS scored.

    Without a BOS the first token of a block is not scored. Blank blocks are left out.
    """
    _check_sizes(context, max_tokens)
    front, begins = _front(tokenizer)
    blocks = (block.strip() for block in text.split(SEPARATOR))
    rows = ((front + tokenizer.encode(block))[:context] for block in blocks if block)
    protocol = f"documents: each {SEPARATOR} block alone, {begins}, cut at {context} tokens"
    return _scored_text(rows, text, tokenizer, context, max_tokens, protocol)


def cut_windows(text: str, tokenizer: Tokenizer, *, context: int, max_tokens: int | None = None) -> ScoredText:
    """Windows that do not overlap: BOS and the next `context - 1` tokens, each behind BOS scored.

    Without a BOS a window is `context` tokens, the first of them not scored. What is left at the end is not scored
    either, unless the text is shorter than one window.
    """
    _check_sizes(context, max_tokens)
    front, begins = _front(tokenizer)
    ids, step = tokenizer.encode(text), context - len(front)
    starts = range(0, max(1, len(ids) - step + 1), step)
    rows = (front + ids[start : start + step] for start in starts)
    protocol = f"windows: {context} tokens each, no overlap, {begins}"
    return _scored_text(rows, text, tokenizer, context, max_tokens, protocol)


def _front(tokenizer: Tokenizer) -> tuple[list[int], str]:
    """What begins a sequence, and how that is scored, in words."""
    if tokenizer.bos_id is None:
        return [], "the first token unscored"
    return [tokenizer.bos_id], "BOS in front, every token behind it scored"


def _check_sizes(context: int, max_tokens: int | None) -> None:
    if context < 2:
        raise WorkloadError(f"a context of {context} tokens leaves none to score: give at least 2")
    if max_tokens is not None and max_tokens < 1:
        raise WorkloadError(f"a budget of {max_tokens} tokens leaves none to score: give at least 1")


def _scored_text(
    rows: Iterator[Sequence[int]],
    text: str,
    tokenizer: Tokenizer,
    context: int,
    max_tokens: int | None,
    protocol: str,
) -> ScoredText:
    left = math.inf if max_tokens is None else max_tokens
    kept: list[Sequence[int]] = []
    for row in rows:
        if len(row) > 1:
            kept.append(row[: int(min(len(row), left + 1))])
            left -= len(kept[-1]) - 1
        if left <= 0:
            break
    if not kept:
        raise WorkloadError(f"the text ({len(text)} characters) has no token to score")
    for number, row in enumerate(kept):
        if min(row) < 0 or max(row) >= tokenizer.vocab_size:
            wrong = next(i for i in row if not 0 <= i < tokenizer.vocab_size)
            raise WorkloadError(
                f"sequence {number} of the text has token id {wrong} ({tokenizer.decode([wrong])!r}), "
                f"but the model's vocabulary has {tokenizer.vocab_size}: the tokenizer is of another model"
            )
    tokens = np.zeros((len(kept), max(map(len, kept))), np.int32)
    for row, ids in zip(tokens, kept, strict=True):
        row[: len(ids)] = ids
    budget = "" if max_tokens is None else f", at most {max_tokens} scored tokens"
    return ScoredText(
        tokens,
        np.array([len(row) for row in kept], np.int32),
        context,
        protocol + budget,
        hashlib.sha256(text.encode()).hexdigest(),
    )


def overlap(calibration: ScoredText, scored: ScoredText) -> str | None:
    """Where the scored text repeats the calibration text, in words; None if it does not.

    It does if they have a sequence (of 8 tokens or more) or 32 tokens in a row in common. What is calibrated on scored
    text looks better than it is: the caller raises.
    """
    runs = {run for row in calibration.rows() for run in _runs(row[1:])}
    for number, row in enumerate(scored.rows()):
        at = next((at for at, run in enumerate(_runs(row[1:])) if run in runs), None)
        if at is not None:
            return f"sequence {number} of the scored text shares the tokens from its {at + 1}th on"
    return None


def _runs(row: Int32[np.ndarray, " length"]) -> list[bytes]:
    """Every run of `SHARED_RUN` tokens; a row that is shorter is one run, but a greeting of a few tokens is none."""
    length = min(len(row), SHARED_RUN)
    return [] if length < _GREETING else [row[at : at + length].tobytes() for at in range(len(row) - length + 1)]
