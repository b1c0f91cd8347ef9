"""The last word of a passage, behind the rest of it: LAMBADA (Paperno et al., arXiv 1606.06031).

In the form that OpenAI gave it and `lambada_openai` of lm-evaluation-harness reads: a passage is split at its last
blank, and its word is right if each of its tokens is the one that greedy decoding would write.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tasks.continuations import Continuation, as_continuations
from pim.llm_workloads.tasks.items import Items, json_lines, text_of
from pim.llm_workloads.text import ScoredText
from pim.llm_workloads.tokenizers import Tokenizer


@dataclass(frozen=True)
class LastWord(Items[Continuation]):
    """Passages whose last word is asked for."""

    name = "last-word"

    @classmethod
    def from_file(cls, path: Path | str) -> "LastWord":
        """Read a file with a JSON object a line, the passage in its `text`.

        Raises:
            WorkloadError: a line that has none, or a passage without a blank before its last word.

        Example:
            >>> LastWord.from_file("lambada_dev.jsonl").part(slice(100))
        """
        lines, sha256 = json_lines(path)
        items = (_split(text_of(item, "text", where), where, number) for number, (where, item) in enumerate(lines))
        return cls(Path(path).name, sha256, tuple(items))

    def scored(self, tokenizer: Tokenizer, context: int) -> ScoredText:
        """A row an item, its word scored; see `as_continuations`."""
        protocol = "the last word, from its blank on, behind the rest of its passage"
        return as_continuations(self.items, tokenizer, context=context, protocol=protocol, sha256=self.sha256)

    def metrics(
        self,
        nll: Float[np.ndarray, "*lead rows"],
        right: Float[np.ndarray, "*lead rows"],
        tokens: Int[np.ndarray, " rows"],
    ) -> dict[str, Float[np.ndarray, "*lead"]]:
        """Figures from the sums of each row: loss in nats, tokens that are right, tokens.

        Returns:
            accuracy: share of words of which every token is right.
            perplexity: exp of the mean loss of a word, whatever its tokens.
        """
        words = right == tokens.reshape((1,) * (right.ndim - 1) + (-1,))
        return {"accuracy": np.asarray(words.mean(axis=-1)), "perplexity": np.asarray(np.exp(nll.mean(axis=-1)))}


def _split(text: str, where: str, number: int) -> Continuation:
    rest, blank, word = text.rpartition(" ")
    if not rest.strip() or not word.strip():
        raise WorkloadError(f"{where}: the passage does not end in a blank and a word: {text[-40:]!r}")
    return Continuation(rest, blank + word, where, number)
