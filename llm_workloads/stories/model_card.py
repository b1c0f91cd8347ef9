"""The card of a model that was trained on the stories: what it is, how it was made, how well it does."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.stories import Story, stories
from pim.llm_workloads.stories.exam import examine
from pim.llm_workloads.tokenizers import Tokenizer

OPENING_WORDS = 4

CARD = """---
license: apache-2.0
language: en
library_name: pim-emulator
---

# tiny-stories

A Llama of {parameters:,} parameters ({layers} layers, {hidden} wide, {heads} query and {kv_heads} key heads of
{head_dim}, SwiGLU of {inner}, rotary positions, tied head, context {context}), {vocab:,} byte-level BPE tokens,
float16. It tells and understands small stories whose end depends on their beginning, so that noise in its products
has something to break. Trained by this project from nothing; Apache-2.0, as the project.

## Data

`pim.llm_workloads.stories`, seed {seed}: told on the fly, each story seen at most once. Any other seed is held out.

## Training

{training}

## Held-out stories ({count:,} of seed {held_out})

| | |
|---|---|
| perplexity per token, end of story included | {perplexity:.3f} |
| perplexity of a perfect model, at most | {bound:.3f} |
| excess, bits per token | {excess:.3f} |
| questions about the story answered exactly, greedy | {accuracy:.1%} of {questions:,} |

The perplexity of a perfect model follows from the choices that the generator made, at -log2 p bits each; where two
ways of choosing tell the same story it is a little lower still.

## Greedy continuations

The first words of held-out stories are given.

{samples}
"""


def model_card(
    config: ModelConfig,
    logits: Callable[[Any], Any],
    tokenizer: Tokenizer,
    *,
    training: str,
    training_seed: int,
    held_out: int = 1,
    count: int = 1000,
) -> str:
    """Examine a model on held-out stories and describe it in Markdown.

    Args:
        config: shapes and constants.
        logits: of the model, as `examine` takes them.
        tokenizer: of the model.
        training: how it was trained, in Markdown.
        training_seed: seed of the stories that it was trained on.
        held_out: another seed.
        count: held-out stories to read.
    """
    told = stories(held_out, count)
    exam = examine(logits, tokenizer, told)
    samples = [continuation(logits, tokenizer, opening(story), config.max_position_embeddings) for story in told[:3]]
    return CARD.format(
        parameters=config.parameters,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        inner=config.intermediate_size,
        context=config.max_position_embeddings,
        vocab=config.vocab_size,
        seed=training_seed,
        training=training,
        held_out=held_out,
        count=count,
        perplexity=exam.perplexity,
        bound=exam.bound,
        excess=np.log2(exam.perplexity / exam.bound),
        accuracy=exam.accuracy,
        questions=len(exam.answered),
        samples="\n\n".join(f"> {sample}" for sample in samples),
    )


def opening(story: Story) -> str:
    """The first words of a story."""
    return " ".join(story.text.split()[:OPENING_WORDS])


def continuation(logits: Callable[[Any], Any], tokenizer: Tokenizer, prompt: str, context: int) -> str:
    """A text continued greedily until it ends itself or the context is full."""
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
    row = np.full((1, context), tokenizer.eos_id, np.int32)
    while len(ids) < context and ids[-1] != tokenizer.eos_id:
        row[0, : len(ids)] = ids
        ids.append(int(np.asarray(logits(row))[0, len(ids) - 1].argmax()))
    return tokenizer.decode(ids)
