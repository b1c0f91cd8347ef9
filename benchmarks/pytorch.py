"""The digital forward against the same model in PyTorch (Hugging Face's `transformers`), in one run.

    pip install -e '.[oracle]'
    python benchmarks/pytorch.py [--rounds 7] [--quick]
    taskset -c 0 python benchmarks/pytorch.py --clock cpu    # one thread each, where others load the machine

Two Llamas: stories260K (from $PIM_SHARED; a random one of its shape where there is none) and a random one of 39 M
parameters. Prefill reads batches of 256 tokens and returns every logit; decoding goes on from 64 read tokens with a
cache of keys and values, the likeliest token each time. PyTorch runs without gradients, once with the attention called
eager, which forms the scores as we do, and once with its fused one (sdpa), the default of `transformers`. Sides take
turns; the ratio is our time over theirs, so that below 1 we are faster.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]
from turns import CLOCKS, machine, ratio, times

from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.transformer import Cache, advance, forward, init_cache

STORIES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
}
LARGER = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
TIME, READ, STEPS = 256, 64, 64


def random_checkpoint(folder: Path, shape: dict[str, Any]) -> Path:
    """A Llama of a shape, with random weights."""
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).save_pretrained(folder)
    return folder


def checkpoints(folder: Path) -> dict[str, Path]:
    stories = Path(os.environ.get("PIM_SHARED", "")) / "data" / "stories260K"
    if not (stories / "config.json").is_file():
        stories = random_checkpoint(folder / "stories", STORIES)
    return {"stories260K": stories, "Llama, 512 wide": random_checkpoint(folder / "larger", LARGER)}


@partial(jax.jit, static_argnums=0)
def decode(config: ModelConfig, params: dict[str, Any], token: jax.Array, cache: Cache) -> jax.Array:
    """The next `STEPS` tokens, in one compiled loop."""

    def step(state: tuple[jax.Array, Cache], _: None) -> tuple[tuple[jax.Array, Cache], jax.Array]:
        token, cache = state
        logits, cache = advance(config, params, token, cache)
        return (logits.argmax(-1), cache), token[:, 0]

    return jax.lax.scan(step, (token, cache), length=STEPS)[1].T


def ours(folder: Path, tokens: np.ndarray) -> dict[str, Callable[[], Any]]:
    config, params = load_checkpoint(folder)
    ids = jnp.asarray(tokens)
    cache = init_cache(config, len(tokens), READ + STEPS)
    logits, cache = jax.jit(advance, static_argnums=0)(config, params, ids[:, :READ], cache)
    token = logits[:, -1:].argmax(-1)
    return {
        "prefill": partial(jax.jit(forward, static_argnums=0), config, params, ids),
        "decode": partial(decode, config, params, token, cache),
    }


def theirs(folder: Path, tokens: np.ndarray, attention: str) -> dict[str, Callable[[], Any]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32
    ).eval()
    ids = torch.tensor(tokens, dtype=torch.long)

    @torch.no_grad()
    def prefill() -> np.ndarray:
        return model(ids, use_cache=False).logits.numpy()

    with torch.no_grad():
        read = model(ids[:, :READ], use_cache=True)
    cache, first = read.past_key_values, read.logits[:, -1:].argmax(-1)

    @torch.no_grad()
    def go_on() -> np.ndarray:
        if cache.get_seq_length() > READ:
            cache.crop(READ - cache.get_seq_length())
        token, found = first, []
        for _ in range(STEPS):
            found.append(token)
            token = model(token, past_key_values=cache, use_cache=True).logits.argmax(-1)
        return torch.cat(found, dim=1).numpy()

    return {"prefill": prefill, "decode": go_on}


def compare(name: str, folder: Path, batch: int, rounds: int, clock: str) -> None:
    tokens = np.random.default_rng(0).integers(3, 512, (batch, TIME), dtype=np.int32)
    sides = {"ours": ours(folder, tokens)}
    sides |= {f"PyTorch, {kind}": theirs(folder, tokens, kind) for kind in ("eager", "sdpa")}
    for what, count in (("prefill", batch * TIME), ("decode", batch * STEPS)):
        calls = {side: work[what] for side, work in sides.items()}
        (found, *others) = (np.asarray(call()) for call in calls.values())
        apart = max(float(np.abs(found - other).max()) for other in others)
        same = f"logits {apart:.0e} apart" if what == "prefill" else f"{(found == others[0]).mean():.0%} same tokens"
        taken = times(calls, rounds, clock)
        rate = count / min(taken["ours"])
        shown = "  ".join(f"{ratio(taken['ours'], taken[side]):>18}" for side in list(calls)[1:])
        print(f"{name:16} {batch:5} {what:8} {rate:9.0f} token/s  {shown}  {same}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the digital forward against PyTorch")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--quick", action="store_true", help="a batch of one and fewer turns")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: where others load the machine")
    options = parser.parse_args()
    rounds, batches = (3, [1]) if options.quick else (options.rounds, options.batch)
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as JAX takes
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, jax {jax.__version__}")
    print("our time over theirs, median (min-max); prefill of 256 tokens, decoding of 64")
    print(f"{'model':16} batch {'':8} {'ours':>17}  {'PyTorch, eager':>18}  {'PyTorch, sdpa':>18}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in checkpoints(Path(folder)).items():
            for batch in batches:
                compare(name, path, batch, rounds, options.clock)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
