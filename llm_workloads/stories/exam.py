"""How well a model knows the stories: its perplexity beside the best possible one, and the questions it answers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pim.llm_workloads.stories import Question, Story
from pim.llm_workloads.tokenizers import Tokenizer


@dataclass(frozen=True)
class Exam:
    """What came out of an exam.

    Attributes:
        perplexity: per token of the stories, BOS in front, EOS scored too.
        bound: perplexity per token of a model that knew how the stories are made, 2^(bits / tokens): what
            `Story.bits` bounds from above, so that a perfect model may come out a little below it.
        answered: for each question, whether greedy decoding of the answer gives it exactly.
    """

    perplexity: float
    bound: float
    answered: tuple[bool, ...]

    @property
    def accuracy(self) -> float:
        """The share of the questions that were answered."""
        return sum(self.answered) / len(self.answered)


def examine(
    logits: Callable[[Int[np.ndarray, "rows time"]], Any],
    tokenizer: Tokenizer,
    told: Sequence[Story],
    *,
    rows: int = 32,
) -> Exam:
    """Have a model read stories.

    Greedy decoding gives an answer exactly if and only if each of its tokens is the likeliest behind the true ones
    before it, so one reading of the story tells about all of its questions.

    Args:
        logits: tokens, padded at the end, to logits [rows, time, vocab]: `pim.load_model("tiny-stories").logits`.
        tokenizer: of the model, with BOS and EOS.
        told: the stories; of a seed that the model was not trained on.
        rows: stories that are read at a time, each padded to the longest of all.

    Example:
        >>> model = pim.load_model("tiny-stories")
        >>> examine(model.logits, model.tokenizer, stories(seed=1, count=100)).accuracy
    """
    ids = [[tokenizer.bos_id, *tokenizer.encode(story.text), tokenizer.eos_id] for story in told]
    longest = max(map(len, ids))
    loss, answered = 0.0, []
    for first in range(0, len(told), rows):
        batch = np.full((rows, longest), tokenizer.eos_id, np.int32)
        for row, story_ids in zip(batch, ids[first : first + rows], strict=False):
            row[: len(story_ids)] = story_ids
        read = np.asarray(logits(batch))
        for story, story_ids, row in zip(told[first:], ids[first:], read, strict=False):
            loss += _loss(story_ids, row)
            likeliest = row.argmax(-1)
            for question in story.questions:
                start, end = answer_tokens(tokenizer, story.text, question)
                # BOS shifts the ids by one, the prediction of a token stands one before it.
                answered.append(story_ids[start + 1 : end + 1] == likeliest[start:end].tolist())
    tokens = sum(map(len, ids)) - len(ids)
    bits = sum(story.bits for story in told)
    return Exam(math.exp(loss / tokens), 2 ** (bits / tokens), tuple(answered))


def answer_tokens(tokenizer: Tokenizer, text: str, question: Question) -> tuple[int, int]:
    """First and behind the last of the tokens of a text (without BOS) that hold the answer."""
    ids = tokenizer.encode(text)
    start = len(tokenizer.encode(text[: question.start]))
    end = start + 1
    while not tokenizer.decode(ids[start:end]).startswith(question.answer):
        end += 1
    return start, end


def _loss(ids: Sequence[int], logits: Float[np.ndarray, "time vocab"]) -> float:
    """Negative log-likelihood of a story behind its BOS, in nats."""
    scored = logits[: len(ids) - 1].astype(np.float64)
    top = scored.max(axis=-1)
    total = top + np.log(np.exp(scored - top[:, None]).sum(axis=-1))
    return float((total - scored[np.arange(len(scored)), ids[1:]]).sum())
