"""Sentence similarity: whether the vectors of two sentences are as close as people find their meanings.

The STS benchmark (Cer et al., arXiv 1708.00055), scored as for sentence encoders (Reimers and Gurevych, arXiv
1908.10084): a sentence's vector is the mean of what the encoder gives for its tokens, special ones among them; the
figure is Spearman's rank correlation of the cosines of pairs with the scores that people gave.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tasks.items import Items, csv_rows
from pim.llm_workloads.text import Row, ScoredText, pack
from pim.llm_workloads.tokenizers import HFTokenizer, Tokenizer

_HEADS = ["sentence1", "sentence2", "score"]


@dataclass(frozen=True)
class Pair:
    """Two sentences, the score that people gave them, and their place."""

    sentences: tuple[str, str]
    score: float
    where: str


@dataclass(frozen=True)
class Similarity(Items[Pair]):
    """Pairs of sentences with a score each."""

    name = "similarity"

    @classmethod
    def from_file(cls, path: Path | str) -> "Similarity":
        """Read a comma-separated file of two sentences and a score; a first line of these names is passed over.

        Raises:
            WorkloadError: a line with something else.

        Example:
            >>> Similarity.from_file("stsb_en_dev.csv").part(slice(200))
        """
        rows, sha256 = csv_rows(path, len(_HEADS))
        items = [_pair(row, where) for where, row in rows if row != _HEADS]
        if len(items) < 2:
            raise WorkloadError(f"{path}: ranks need two pairs or more, {len(items)} are there")
        return cls(Path(path).name, sha256, tuple(items))

    def scored(self, tokenizer: Tokenizer, context: int) -> ScoredText:
        """A row a sentence, the two of a pair one behind the other; no token is scored.

        Raises:
            WorkloadError: a tokenizer that is no tokenizer.json, a token that the model does not know.
        """
        if not isinstance(tokenizer, HFTokenizer):
            raise WorkloadError("sentence vectors need a tokenizer.json, which says what stands around a sentence")
        rows, cut = [], 0
        for number, pair in enumerate(self.items):
            for text in pair.sentences:
                ids = tokenizer.encode_sentence(text, context)
                cut += ids != tokenizer.encode_sentence(text)
                rows.append(Row(ids, len(ids), number))
        protocol = (
            "the vector of a sentence: mean over all its tokens, special ones among them; pairs by cosine; "
            f"{cut} sentences cut at {context} tokens"
        )
        return pack(rows, tokenizer, context=context, protocol=protocol, sha256=self.sha256)

    def metrics(self, vectors: Float[np.ndarray, "*lead rows hidden"]) -> dict[str, Float[np.ndarray, "*lead"]]:
        """Figures from the vectors of the sentences.

        Returns:
            spearman: rank correlation of the cosines with the scores; equal values share the mean of their ranks.
        """
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        unit = vectors.astype(np.float64) / length
        cosines = (unit[..., 0::2, :] * unit[..., 1::2, :]).sum(axis=-1)
        scores = rankdata([pair.score for pair in self.items])
        return {"spearman": _correlation(rankdata(cosines, axis=-1), scores)}


def _correlation(ranks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis; 0 where all values are equal, which say nothing of the order."""
    a = ranks - ranks.mean(axis=-1, keepdims=True)
    b = (scores - scores.mean()).reshape((1,) * (ranks.ndim - 1) + (-1,))
    spread = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.where(spread == 0, 1.0, spread))


def _pair(row: list[str], where: str) -> Pair:
    first, second, score = row
    if not first.strip() or not second.strip():
        raise WorkloadError(f"{where}: a sentence is blank")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise WorkloadError(f"{where}: the score must be a number, not {score!r}")
    return Pair((first, second), value, where)
