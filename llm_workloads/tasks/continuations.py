"""Continuations behind their contexts, as sequences of which the continuation alone is scored.

Both are encoded in one, as in lm-evaluation-harness (`TemplateLM._encode_pair` and `HFLM._loglikelihood_tokens` of
version 0.4.13, https://github.com/EleutherAI/lm-evaluation-harness): the blanks that end a context go over to its
continuation, the tokens of the continuation are those of the whole behind as many as the context alone has, and what is
too long loses the beginning of its context. Two things are ours: a model's BOS stands in front of every context, as it
does in our perplexities (there only where the tokenizer itself puts it), and stays there when the context is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.text import Row, ScoredText, pack
from pim.llm_workloads.tokenizers import Tokenizer


@dataclass(frozen=True)
class Continuation:
    """A text to score behind a context.

    Attributes:
        context: what stands before it; may be empty.
        text: the continuation, with the blank that separates it from the context.
        where: the place of its item, for errors.
        item: number of its item.
    """

    context: str
    text: str
    where: str
    item: int


def encoded_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The tokens of a context and those of its continuation.

    Example:
        >>> encoded_pair(tokenizer, "Once upon a ", "time")  # as "Once upon a" and " time"
    """
    kept = context.rstrip()
    before = tokenizer.encode(kept)
    return before, tokenizer.encode(context + continuation)[len(before) :]


def as_continuations(
    items: Sequence[Continuation], tokenizer: Tokenizer, *, context: int, protocol: str, sha256: str
) -> ScoredText:
    """A row for each continuation, in the order given, all of its tokens scored and none of its context's.

    Args:
        items: the continuations; those of one item must follow each other.
        tokenizer: of the model.
        context: most tokens of a row, BOS among them; contexts that are too long lose their beginning.
        protocol: how contexts and continuations were made, in words; how they were encoded is added.
        sha256: of the file that they come from.

    Raises:
        WorkloadError: a continuation without a token or without room for one before it, a context that is empty where
            the tokenizer has neither BOS nor EOS to stand for it, a token that the model does not know.
    """
    rows, cut = [], 0
    front = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for item in items:
        before, scored = encoded_pair(tokenizer, item.context, item.text)
        begin = front or ([] if before else _instead_of_context(tokenizer, item.where))
        room = context - len(begin) - len(scored)
        if not scored:
            raise WorkloadError(f"{item.where}: the continuation {item.text!r} has no token")
        if room + len(begin) < 1:
            raise WorkloadError(
                f"{item.where}: a continuation of {len(scored)} tokens does not fit into a context of {context} with "
                "a token before it: give a longer context"
            )
        kept = before[max(0, len(before) - room) :]
        cut += len(kept) < len(before)
        rows.append(Row(begin + kept + scored, len(begin) + len(kept), item.item))
    begins = "BOS in front" if front else "no BOS"
    told = f"{protocol}; encoded as one and split, {begins}, {cut} contexts cut on the left to {context} tokens in all"
    return pack(rows, tokenizer, context=context, protocol=told, sha256=sha256)


def _instead_of_context(tokenizer: Tokenizer, where: str) -> list[int]:
    """What stands before a continuation without a context: the end of the text before, as in lm-evaluation-harness."""
    if tokenizer.eos_id is None:
        raise WorkloadError(f"{where}: the context is empty, and the tokenizer has neither BOS nor EOS to begin with")
    return [tokenizer.eos_id]
