"""Train the shipped model `tiny-stories` from nothing: `python -m pim.llm_workloads.train_tiny_stories --out DIR`.

Stories of `pim.llm_workloads.stories` are told on the fly, so no story is seen twice; a byte-level BPE of 1,024 tokens
is trained on the first of them. Each row of a batch is one story, `<s> story <|endoftext|>`; the lessons come from
`pim.llm_workloads.stories.lessons`. Matrices are trained by Muon (arXiv 2502.16982), everything else by Adam, with a
short warm-up and a cosine to zero. Two cores do it in about an hour, a third faster where glibc takes huge pages
(`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`); the extra `train` brings optax.
"""

import argparse
import functools
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.saving import save_checkpoint
from pim.llm_workloads.stories import SEPARATOR, stories
from pim.llm_workloads.stories.lessons import Lesson, batches, lessons
from pim.llm_workloads.stories.model_card import model_card

COMMAND = "python -m pim.llm_workloads.train_tiny_stories"

VOCABULARY = 1024
EOS, BOS = 0, 1
CONTEXT = 256
TRAINING_SEED = 0
"""Seed of the stories that the shipped model was trained on; every other seed tells stories it has not seen."""

APART = 2**24
"""How far apart the numbers of the stories of two lessons are."""

TOKENIZER_STORIES = 20_000
MATRIX_DECAY = 0.05


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


def initial_parameters(config: Any, seed: int) -> dict[str, Any]:
    """Normal weights of standard deviation 1/sqrt(inputs), over sqrt(2 layers) where they add to the residual stream.

    Queries and keys of a group begin alike, so that a token looks for its like (arXiv 2305.09828): what is copied is
    learnt from there. The tree is that of `pim.llm_workloads.transformer`, float32.
    """
    draw = np.random.default_rng(seed)
    layers, hidden = config.num_hidden_layers, config.hidden_size
    segment = {name: np.ones((layers, hidden), np.float32) for name in ("input_norm", "post_norm")}
    for name, shape in config.matrix_shapes.items():
        residual = math.sqrt(2 * layers) if name in ("attention.o", "ffn.down") else 1.0
        weights = draw.standard_normal((layers, *shape)) / math.sqrt(shape[0]) / residual
        segment[name] = weights.astype(np.float32)
    group = config.num_attention_heads // config.num_key_value_heads
    queries = segment["attention.q"].reshape(layers, hidden, config.num_key_value_heads, group, config.head_dim)
    alike = 0.7 * queries.sum(axis=3).reshape(layers, hidden, -1) / math.sqrt(group)
    segment["attention.k"] = alike + math.sqrt(1 - 0.7**2) * segment["attention.k"]
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


def _optimizer(params: dict[str, Any]) -> Any:
    """Muon for the matrices [1, in, out] of the layers, Adam at a fifth of its rate for the embedding and the norms."""
    import jax
    import optax
    from optax.contrib import MuonDimensionNumbers, scale_by_muon

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda leaf: MuonDimensionNumbers(1, 2), params)

    kinds = jax.tree.map(lambda leaf: "matrix" if leaf.ndim == 3 else "other", params)
    muon = optax.chain(
        scale_by_muon(beta=0.95, weight_dimension_numbers=matrices), optax.add_decayed_weights(MATRIX_DECAY)
    )
    adam = optax.chain(optax.scale_by_adam(b1=0.9, b2=0.99), optax.scale(0.2))
    return optax.partition({"matrix": muon, "other": adam}, kinds)


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
    from pim.llm_workloads.families.llama import llama_config
    from pim.llm_workloads.transformer import forward

    config = llama_config(
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
    optimizer = _optimizer(params)

    def matmul(operator: str, w: Any, x: Any, ids: Any) -> Any:
        """The digital product, all rows of a batch in one."""
        return jnp.matmul(x, w) if w.ndim > 2 else (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], -1)

    def loss(params: Any, tokens: Any, weights: Any) -> tuple[Any, Any]:
        """Weighted loss a token; plain loss a token of the text and of the answers."""
        logits = forward(config, params, tokens[:, :-1], matmul=matmul)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        weighted, plain, answers = (jnp.sum(losses * w) / jnp.sum(w) for w in (weights, weights > 0, weights > 1))
        return weighted, jnp.stack([plain, answers])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, tokens: Any, weights: Any, rate: Any) -> tuple[Any, Any, Any]:
        (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(params, tokens, weights)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), state, value

    state = optimizer.init(params)
    began, seen, recent = time.monotonic(), 0, []
    taught: dict[Lesson, Iterator[Any]] = {}
    for number in itertools.count():
        minutes = (time.monotonic() - began) / 60
        progress = number / options.steps if options.steps else minutes / options.minutes
        if progress >= 1:
            break
        turns = lessons(progress)
        lesson = turns[number % len(turns)]
        if lesson not in taught:
            start = options.start + len(taught) * APART
            taught[lesson] = batches(tokenizer, lesson, options.seed, start, tokens=options.tokens, context=CONTEXT)
        tokens, weights = next(taught[lesson])
        rate = np.float32(learning_rate(progress, options.rate))
        params, state, value = step(params, state, tokens, weights[:, 1:], rate)
        seen += int((weights > 0).sum())
        recent.append(np.asarray(value))
        if number % 100 == 99:
            loss_text, loss_answers = np.mean(recent, axis=0)
            recent.clear()
            print(
                f"step {number + 1}  {minutes:.1f} min  {seen:,} tokens  loss {loss_text:.4f}, "
                f"of answers {loss_answers:.4f}",
                flush=True,
            )
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
    parser.add_argument("--tokens", type=int, default=3072, help="tokens in a batch")
    parser.add_argument("--rate", type=float, default=0.015, help="highest learning rate of the matrices")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
