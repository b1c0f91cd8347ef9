"""Train the shipped model `tiny-stories` from nothing: `python -m pim.llm_workloads.train_tiny_stories --out DIR`.

Stories of `pim.llm_workloads.stories` are told on the fly, so no story is seen twice; a byte-level BPE of 1,024 tokens
is trained on the first of them. Each row of a batch is one story, `<s> story <|endoftext|>`; rows of a batch have
similar lengths, so little of it is padding. AdamW (arXiv 1711.05101) with gradient clipping, a short warm-up and a
cosine to zero. Two cores do it in about an hour; the extra `train` brings optax.
"""

import argparse
import functools
import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pim.llm_workloads.checkpoint import load_checkpoint, save_checkpoint
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import SEPARATOR, Story, stories
from pim.llm_workloads.stories.model_card import model_card

COMMAND = "python -m pim.llm_workloads.train_tiny_stories"

VOCABULARY = 1024
EOS, BOS = 0, 1
CONTEXT = 256
TRAINING_SEED = 0
"""Seed of the stories that the shipped model was trained on; every other seed tells stories it has not seen."""

APART = 2**24
"""How far apart the numbers of the stories of the lessons are."""

TOKENIZER_STORIES = 20_000
POOL = 2048
"""Stories that are sorted by length at a time before they are cut into batches."""


def train_tokenizer(seed: int) -> Tokenizer:
    """A byte-level BPE, lossless on any text, trained on the first stories of a seed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[SEPARATOR, "<s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((story.text for story in stories(seed, TOKENIZER_STORIES)), trainer)
    return tokenizer


@dataclass(frozen=True)
class Lesson:
    """What is trained on: `tell(seed, count, start)` and what a token of an answer counts in the loss.

    The best model stays the same whatever an answer weighs, since the story determines it.
    """

    tell: Callable[[int, int, int], list[Story]]
    answer_weight: float


def retold(seed: int, count: int, start: int) -> list[Story]:
    """The first half of each story, and then its sentences again in another order."""
    told = []
    for number, story in enumerate(stories(seed, count, start)):
        sentences = re.split(r"(?<=[.?!]) ", story.text)
        half = sentences[: len(sentences) // 2]
        again = np.random.default_rng([seed, start + number]).permutation(half)
        told.append(Story(" ".join([*half, *again]), story.bits, ()))
    return told


RETELL = Lesson(retold, answer_weight=1.0)
LOOK_UP = Lesson(functools.partial(stories, questions=6), answer_weight=12.0)
TELL = Lesson(stories, answer_weight=3.0)
"""What was told long before is a small part of a story, and looking it up is learnt late from stories alone. So a run
begins with sentences told twice, which teach to copy, and stories with many questions, which teach what to copy."""


def batches(
    tokenizer: Tokenizer, lesson: Lesson, seed: int, start: int, rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless tokens [rows, time], one story a row between BOS and EOS, padded with EOS, and their weights in the loss.

    The time is a multiple of 64 and at most 256, so that few shapes are compiled. A token weighs 1, one of an answer
    `lesson.answer_weight`, BOS and padding 0. `start` is the number of the first story.
    """
    order = np.random.default_rng([seed, start])
    while True:
        told = sorted(
            _weighed(tokenizer, lesson.tell(seed, POOL, start), lesson.answer_weight),
            key=lambda story: len(story[0]),
        )
        start += POOL
        for first in order.permutation(np.arange(0, POOL - rows + 1, rows)):
            batch = told[first : first + rows]
            width = min(CONTEXT, 64 * math.ceil(len(batch[-1][0]) / 64))
            tokens = np.full((rows, width), EOS, np.int32)
            weights = np.zeros((rows, width), np.float32)
            for row, (ids, weighed) in enumerate(batch):
                tokens[row, : len(ids)] = ids[:width]
                weights[row, : len(ids)] = weighed[:width]
            yield tokens, weights


def _weighed(tokenizer: Tokenizer, told: list[Story], answer_weight: float) -> Iterator[tuple[list[int], np.ndarray]]:
    for story, encoding in zip(told, tokenizer.encode_batch([story.text for story in told]), strict=True):
        starts, ends = np.array(encoding.offsets).T
        weights = np.ones(len(starts) + 2, np.float32)
        weights[0] = 0.0
        for question in story.questions:
            answers = (ends > question.start) & (starts < question.start + len(question.answer))
            weights[1:-1][answers] = answer_weight
        yield [BOS, *encoding.ids, EOS], weights


def initial_parameters(config: Any, seed: int) -> dict[str, Any]:
    """Normal weights of standard deviation 1/sqrt(inputs), over sqrt(2 layers) where they add to the residual stream.

    The tree is that of `pim.llm_workloads.llama`, float32, unrolled.
    """
    draw = np.random.default_rng(seed)
    layers, hidden = config.num_hidden_layers, config.hidden_size
    segment = {name: np.ones((layers, hidden), np.float32) for name in ("input_norm", "post_norm")}
    for name, shape in config.matrix_shapes.items():
        residual = math.sqrt(2 * layers) if name in ("attention.o", "ffn.down") else 1.0
        weights = draw.standard_normal((layers, *shape)) / math.sqrt(shape[0]) / residual
        segment[name] = weights.astype(np.float32)
    return {
        "embed": (0.05 * draw.standard_normal((config.vocab_size, hidden))).astype(np.float32),
        "segments": [segment],
        "norm": np.ones(hidden, np.float32),
    }


def unrolled(params: dict[str, Any]) -> dict[str, Any]:
    """Each layer as a segment of its own: the gradient of layers in a row is faster than that of a scan."""
    layers = [
        {name: stack[layer : layer + 1] for name, stack in segment.items()}
        for segment in params["segments"]
        for layer in range(len(segment["input_norm"]))
    ]
    return {**params, "segments": layers}


def learning_rate(progress: float, peak: float, warmup: float = 0.02) -> float:
    """Rises linearly over the warm-up, then falls as a cosine to zero; `progress` runs from 0 to 1."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def main(arguments: list[str] | None = None) -> None:
    """Train and save; see the module's head."""
    options = _options(arguments)
    try:
        import jax
        import jax.numpy as jnp
        import optax
    except ImportError as error:
        raise WorkloadError(f"training needs {error.name}: python -m pip install 'pim-emulator[train]'") from error
    from pim.llm_workloads.llama import LlamaConfig, forward

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        tie_word_embeddings=True,
        max_position_embeddings=CONTEXT,
    )
    if options.resume:
        tokenizer = Tokenizer.from_file(str(options.resume / "tokenizer.json"))
        config, params = load_checkpoint(options.resume)
    else:
        tokenizer = train_tokenizer(options.seed)
        params = initial_parameters(config, options.seed)
    params = jax.tree.map(jnp.asarray, unrolled(params))
    decayed = {
        "embed": True,
        "segments": [{name: "norm" not in name for name in segment} for segment in params["segments"]],
        "norm": False,
    }
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b1=0.9, b2=0.99),
        optax.add_decayed_weights(0.1, mask=decayed),
    )

    def matmul(operator: str, w: Any, x: Any, ids: Any) -> Any:
        """The digital product, all rows of a batch in one."""
        return jnp.matmul(x, w) if w.ndim > 2 else (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], -1)

    def loss(params: Any, tokens: Any, weights: Any) -> tuple[Any, Any]:
        """Weighted loss a token, and the plain one."""
        logits = forward(config, params, tokens[:, :-1], matmul=matmul)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        plain = jnp.minimum(weights, 1.0)
        return jnp.sum(losses * weights) / jnp.sum(weights), jnp.sum(losses * plain) / jnp.sum(plain)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, tokens: Any, weights: Any, rate: Any) -> tuple[Any, Any, Any]:
        (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(params, tokens, weights)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), state, value

    state = optimizer.init(params)
    began, seen, recent = time.monotonic(), 0, []
    retell, look_up, tell = (
        batches(tokenizer, lesson, options.seed, options.start + k * APART, options.rows)
        for k, lesson in enumerate((RETELL, LOOK_UP, TELL))
    )
    for number in itertools.count():
        minutes = (time.monotonic() - began) / 60
        progress = number / options.steps if options.steps else minutes / options.minutes
        if progress >= 1:
            break
        lesson = tell if progress >= options.look_up else (retell, look_up)[number % 2]
        tokens, weights = next(lesson)
        rate = np.float32(learning_rate(progress, options.rate))
        params, state, value = step(params, state, tokens, weights[:, 1:], rate)
        seen += int((weights > 0).sum())
        recent.append(float(value))
        if number % 100 == 99:
            mean = float(np.mean(recent))
            recent.clear()
            print(f"step {number + 1}  {minutes:.1f} min  {seen:,} tokens  loss {mean:.4f}", flush=True)
        if number % 300 == 299:
            save(options.out, config, params, tokenizer)
    save(options.out, config, params, tokenizer)
    training = (
        f"`{COMMAND} {' '.join(sys.argv[1:] if arguments is None else arguments)}`: {number} steps, {seen:,} tokens, "
        f"{(time.monotonic() - began) / 60:.0f} minutes."
    )
    model = load_model(options.out)
    card = model_card(model.config, model.logits, model.tokenizer, training=training, training_seed=options.seed)
    (options.out / "MODEL_CARD.md").write_text(card)
    print(card)


def save(folder: Path, config: Any, params: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Write config.json, model.safetensors (float16) and tokenizer.json."""
    save_checkpoint(folder, config, params, bos_id=BOS, eos_id=EOS)
    tokenizer.save(str(folder / "tokenizer.json"))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED, help="of the stories and of the first weights")
    parser.add_argument("--steps", type=int, default=0, help="length of the run; the same steps, the same model")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the run where no steps are given")
    parser.add_argument("--resume", type=Path, help="folder of a model to go on from; Adam's moments start anew")
    parser.add_argument("--start", type=int, default=0, help="number of the first story: as many as were seen before")
    parser.add_argument("--look-up", type=float, default=0.6, help="share of the run that is not for plain stories")
    parser.add_argument("--rows", type=int, default=8, help="stories in a batch")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
