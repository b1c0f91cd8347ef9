"""Multiple choice: of several continuations, the one that the model finds likeliest.

As lm-evaluation-harness scores it (`ConfigurableTask.process_results` of version 0.4.13): by the sum of log
probabilities of a choice (its `acc`), by that sum over the choice's characters (`acc_norm`), and over its bytes
(`acc_bytes`); of equals the first is taken. PIQA (Bisk et al., arXiv 1911.11641) is asked with the harness's prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tasks.continuations import Continuation, as_continuations
from pim.llm_workloads.tasks.items import Items, json_lines, text_of
from pim.llm_workloads.text import ScoredText
from pim.llm_workloads.tokenizers import Tokenizer


@dataclass(frozen=True)
class Question:
    """A question: what is said before the choices, the choices, the index of the right one, and its place."""

    context: str
    choices: tuple[str, ...]
    label: int
    where: str


@dataclass(frozen=True)
class MultipleChoice(Items[Question]):
    """Questions with choices."""

    name = "multiple-choice"

    @classmethod
    def from_file(cls, path: Path | str) -> "MultipleChoice":
        """Read a file with a JSON object a line.

        Either PIQA's (`goal`, `sol1`, `sol2`, `label`), asked as "Question: GOAL / Answer:", or any other with its
        whole prompt in `context` or `query`, two or more `choices`, and the index of the right one, counted from 0, in
        `label` or `gold`.

        Raises:
            WorkloadError: a line that is neither.

        Example:
            >>> MultipleChoice.from_file("piqa_dev.jsonl").part(slice(100))
        """
        lines, sha256 = json_lines(path)
        return cls(Path(path).name, sha256, tuple(_question(item, where) for where, item in lines))

    def scored(self, tokenizer: Tokenizer, context: int) -> ScoredText:
        """A row a choice, those of one question together; see `as_continuations`."""
        rows = [
            Continuation(question.context, f" {choice}", f"{question.where}, choice {index}", number)
            for number, question in enumerate(self.items)
            for index, choice in enumerate(question.choices)
        ]
        protocol = "each choice, with a blank before it, behind its question"
        return as_continuations(rows, tokenizer, context=context, protocol=protocol, sha256=self.sha256)

    def metrics(
        self,
        nll: Float[np.ndarray, "*lead rows"],
        right: Float[np.ndarray, "*lead rows"],
        tokens: Int[np.ndarray, " rows"],
    ) -> dict[str, Float[np.ndarray, "*lead"]]:
        """Figures from the sums of each row, of which the loss in nats alone counts here.

        Returns:
            accuracy: share of questions whose right choice is the likeliest.
            accuracy_norm: whose right choice is the likeliest by character.
            accuracy_bytes: by byte.
        """
        choices = [choice for question in self.items for choice in question.choices]
        sizes = {
            "accuracy": [1] * len(choices),
            "accuracy_norm": [len(choice) for choice in choices],
            "accuracy_bytes": [len(choice.encode()) for choice in choices],
        }
        return {name: self._accuracy(nll, np.array(size, np.float64)) for name, size in sizes.items()}

    def _accuracy(self, nll: np.ndarray, size: np.ndarray) -> np.ndarray:
        loss = nll / size.reshape((1,) * (nll.ndim - 1) + (-1,))
        ends = list(accumulate((len(question.choices) for question in self.items), initial=0))
        picks = [loss[..., start:stop].argmin(axis=-1) for start, stop in pairwise(ends)]
        hits = [pick == question.label for pick, question in zip(picks, self.items, strict=True)]
        return np.asarray(np.mean(hits, axis=0))


def _question(item: Mapping[str, Any], where: str) -> Question:
    if "goal" in item:
        prompt = f"Question: {text_of(item, 'goal', where)}\nAnswer:"
        choices: Sequence[Any] = [text_of(item, name, where) for name in ("sol1", "sol2")]
    else:
        prompt = text_of(item, "query" if "query" in item else "context", where)
        choices = item.get("choices", ())
    if not isinstance(choices, list) or len(choices) < 2:
        raise WorkloadError(f"{where}: 'choices' must be a list of two or more texts, not {choices!r}")
    blank = next((choice for choice in choices if not isinstance(choice, str) or not choice.strip()), None)
    if blank is not None:
        raise WorkloadError(f"{where}: the choice {blank!r} must be text that is not blank")
    label = item.get("label", item.get("gold"))
    if type(label) is not int or not 0 <= label < len(choices):
        raise WorkloadError(f"{where}: 'label' must be the index of one of {len(choices)} choices, not {label!r}")
    return Question(prompt, tuple(choices), label, where)
