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
_FEW = 4


@dataclass(frozen=True)
class Batch:
    """Sequences of similar length, cut to a common one.

    Attributes:
        tokens: padded at the end.
        lengths: tokens of each row that are no padding.
        documents: identity of each row, the same in whatever batch it comes.
        scored: 1 where the token behind this one is scored, else 0.
        index: rows of the text that these are.
        kept: rows of the batch that they stand in; the others repeat the first and score nothing.
    """

    tokens: Int32[np.ndarray, "rows time"]
    lengths: Int32[np.ndarray, " rows"]
    documents: UInt32[np.ndarray, " rows"]
    scored: Float[np.ndarray, "rows time-1"]
    index: Int64[np.ndarray, " kept"]
    kept: slice


@dataclass(frozen=True)
class Row:
    """A sequence of which the tokens from `first` on are scored; `source` is the document that it is a piece of."""

    ids: Sequence[int]
    first: int
    source: int


@dataclass(frozen=True)
class ScoredText:
    """The sequences of a text, one a row: the valid tokens of a row are scored from a first one on.

    What stands before that is context: the row's BOS, the overlap of two windows, or the prompt of a continuation.

    Attributes:
        tokens: padded with 0 to the longest sequence.
        lengths: valid tokens of each row.
        first: position of the first scored token of each row, at least 1.
        source: number of the document that each row is a piece of, ascending from 0.
        context: most tokens that a row may have.
        protocol: how the text was cut, in words.
        sha256: of the whole text, UTF-8.
    """

    tokens: Int32[np.ndarray, "rows time"]
    lengths: Int32[np.ndarray, " rows"]
    first: Int32[np.ndarray, " rows"]
    source: Int32[np.ndarray, " rows"]
    context: int
    protocol: str
    sha256: str

    @property
    def count(self) -> int:
        """Number of rows: documents, windows, or continuations."""
        return len(self.lengths)

    @property
    def documents(self) -> UInt32[np.ndarray, " rows"]:
        """Identity of each row."""
        return np.arange(self.count, dtype=np.uint32)

    def scored_tokens(self) -> Int32[np.ndarray, " rows"]:
        """Number of scored tokens of each row."""
        return self.lengths - self.first

    def valid_tokens(self) -> Bool[np.ndarray, "rows time"]:
        """Which tokens are no padding."""
        return np.arange(self.tokens.shape[1])[None, :] < self.lengths[:, None]

    def is_scored(self) -> Bool[np.ndarray, "rows time"]:
        """Which tokens are scored."""
        return self.valid_tokens() & (np.arange(self.tokens.shape[1])[None, :] >= self.first[:, None])

    def rows(self) -> list[Int32[np.ndarray, " length"]]:
        """The tokens of each row, without padding."""
        return [row[:length] for row, length in zip(self.tokens, self.lengths, strict=True)]

    def head(self, tokens: int) -> "ScoredText":
        """The first rows up to about `tokens` tokens, at least one row, which is cut where it alone has more."""
        if tokens < 2:
            raise WorkloadError(f"{tokens} tokens are no text: give at least 2")
        count = max(1, int(np.searchsorted(np.cumsum(self.lengths), tokens, side="right")))
        lengths = np.minimum(self.lengths[:count], tokens).astype(np.int32)
        return replace(
            self,
            tokens=self.tokens[:count, : lengths.max()],
            lengths=lengths,
            first=np.minimum(self.first[:count], lengths),
            source=self.source[:count],
        )

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
        scored = self.is_scored()[taken, 1:width].astype(np.float32)
        scored[len(index) :] = 0.0
        kept = slice(0, len(index))
        return Batch(self.tokens[taken, :width], self.lengths[taken], self.documents[taken], scored, index, kept)


def as_scored(
    text: str | ScoredText,
    tokenizer: Tokenizer,
    *,
    context: int,
    max_tokens: int | None = None,
    stride: int | None = None,
) -> ScoredText:
    """Cut a text into scored sequences: documents where it has separators, else windows.

    Args:
        text: the text; one that is cut already is returned as it is.
        tokenizer: of the model.
        context: most tokens of a sequence, BOS among them.
        max_tokens: most scored tokens of the whole, taken from its beginning; all by default.
        stride: tokens from the beginning of one window to that of the next. Where windows overlap, the tokens that two
            of them have are context in the later one; a document is then scored to its end. By default windows do
            not overlap, and documents are cut.

    Raises:
        WorkloadError: a context below 2, a budget or a stride below 1, a stride that leaves tokens out between two
            windows, a text without a token to score, a token that the model does not know.

    Example:
        >>> scored = as_scored("Once upon a time.<|endoftext|>One day.", tokenizer, context=256)
        >>> scored.count
        2
    """
    if isinstance(text, ScoredText):
        return text
    cut = cut_documents if SEPARATOR in text else cut_windows
    return cut(text, tokenizer, context=context, max_tokens=max_tokens, stride=stride)


def cut_documents(
    text: str, tokenizer: Tokenizer, *, context: int, max_tokens: int | None = None, stride: int | None = None
) -> ScoredText:
    """Each `<|endoftext|>` block alone, stripped: BOS and its tokens, cut at `context` in all, each behind BOS scored.

    Without a BOS the first token of a block is not scored. Blank blocks are left out. With a `stride` a block that is
    longer goes on in windows to its end.
    """
    front = _front(tokenizer)
    room = _room(front, context, max_tokens, stride)
    blocks = [block for block in (block.strip() for block in text.split(SEPARATOR)) if block]
    encoded = ((number, tokenizer.encode(block)) for number, block in enumerate(blocks))
    if stride is None:
        rows = (Row((front + ids)[:context], 1, number) for number, ids in encoded)
        long = f"{_begins(front)}, cut at {context} tokens"
    else:
        rows = (Row(ids, first, i) for i, whole in encoded for ids, first in _windows(whole, front, context, stride))
        long = f"whole, in windows of {_stepping(front, context, stride, room)}"
    return _within(max_tokens, rows, text, tokenizer, context, f"documents: each {SEPARATOR} block alone, {long}")


def cut_windows(
    text: str, tokenizer: Tokenizer, *, context: int, max_tokens: int | None = None, stride: int | None = None
) -> ScoredText:
    """Windows of BOS and the next `context - 1` tokens, each behind BOS scored, unless a window before has it.

    Without a BOS a window is `context` tokens, and the very first of what does not overlap is not scored.

    Without overlap, what is left at the end and fills no window is not scored, as in the code of GPTQ
    (arXiv 2210.17323), unless the text is shorter than one. With a `stride` that lets windows overlap, the last one
    ends with the text and may be shorter, as in https://huggingface.co/docs/transformers/perplexity.
    """
    front = _front(tokenizer)
    room = _room(front, context, max_tokens, stride)
    step = room if stride is None else stride
    windows = list(_windows(tokenizer.encode(text), front, context, step))
    if step == room and len(windows) > 1 and len(windows[-1][0]) < context:
        windows.pop()
    rows = (Row(ids, first, number) for number, (ids, first) in enumerate(windows))
    cut = _stepping(front, context, step, room)
    return _within(max_tokens, rows, text, tokenizer, context, f"windows: {cut}")


def _windows(ids: list[int], front: list[int], context: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """Windows to the end of the text, each with the position in it of its first token that no window before has."""
    size, done = context - len(front), 0
    for start in range(0, len(ids), stride):
        end = min(start + size, len(ids))
        yield front + ids[start:end], max(1, len(front) + done - start)
        done = end
        if end == len(ids):
            return


def _stepping(front: list[int], context: int, step: int, room: int) -> str:
    """How windows follow each other and what of them is scored, in words."""
    if step == room:
        return f"{context} tokens each, no overlap, {_begins(front)}"
    first = "BOS in front" if front else "the first token of all unscored"
    return f"{context} tokens every {step}, each token scored in the first window that has it, {first}"


def _front(tokenizer: Tokenizer) -> list[int]:
    """What begins a sequence."""
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id]


def _begins(front: list[int]) -> str:
    """What of sequences that share no token is scored, in words."""
    return "BOS in front, every token behind it scored" if front else "the first token of each unscored"


def _room(front: list[int], context: int, max_tokens: int | None, stride: int | None) -> int:
    """Tokens of a text that a sequence has room for, if the sizes make sense."""
    room = context - len(front)
    if context < 2:
        raise WorkloadError(f"a context of {context} tokens leaves none to score: give at least 2")
    if max_tokens is not None and max_tokens < 1:
        raise WorkloadError(f"a budget of {max_tokens} tokens leaves none to score: give at least 1")
    if stride is not None and stride < 1:
        raise WorkloadError(f"windows with a stride of {stride} tokens do not move on: give at least 1")
    if stride is not None and stride > room:
        raise WorkloadError(
            f"windows with a stride of {stride} tokens leave some out, since a context of {context} "
            f"has room for {room} of the text: give at most {room}, which is without overlap"
        )
    return room


def _within(
    max_tokens: int | None, rows: Iterator[Row], text: str, tokenizer: Tokenizer, context: int, protocol: str
) -> ScoredText:
    """The rows that have a token to score, up to a budget of them."""
    left = math.inf if max_tokens is None else max_tokens
    kept: list[Row] = []
    for row in rows:
        scored = len(row.ids) - row.first
        if scored > 0:
            kept.append(replace(row, ids=row.ids[: row.first + int(min(scored, left))]))
            left -= scored
        if left <= 0:
            break
    if not kept:
        raise WorkloadError(f"the text ({len(text)} characters) has no token to score")
    budget = "" if max_tokens is None else f", at most {max_tokens} scored tokens"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return pack(kept, tokenizer, context=context, protocol=protocol + budget, sha256=sha256)


def pack(rows: Sequence[Row], tokenizer: Tokenizer, *, context: int, protocol: str, sha256: str) -> ScoredText:
    """Rows as one array. Sources are counted anew from 0, so that those without a row leave no gap.

    Raises:
        WorkloadError: a token that the model does not know.
    """
    for number, row in enumerate(rows):
        if min(row.ids) < 0 or max(row.ids) >= tokenizer.vocab_size:
            wrong = next(i for i in row.ids if not 0 <= i < tokenizer.vocab_size)
            raise WorkloadError(
                f"sequence {number} of the text has token id {wrong} ({tokenizer.decode([wrong])!r}), "
                f"but the model's vocabulary has {tokenizer.vocab_size}: the tokenizer is of another model"
            )
    tokens = np.zeros((len(rows), max(len(row.ids) for row in rows)), np.int32)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row.ids)] = row.ids
    column = lambda values: np.array(list(values), np.int32)
    return ScoredText(
        tokens,
        lengths=column(len(row.ids) for row in rows),
        first=column(row.first for row in rows),
        source=np.unique(column(row.source for row in rows), return_inverse=True)[1].astype(np.int32),
        context=context,
        protocol=protocol,
        sha256=sha256,
    )
