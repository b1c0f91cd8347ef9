"""A model of 1.1 billion weights, evaluated layer by layer from its checkpoint: time, and memory at its peak.

    python benchmarks/large_model.py [--layers 22] [--tokens 512] [--chips 2] [--preset rram-wan2022] [--kill-after N]

Random weights in TinyLlama's shape (hidden 2048, 22 layers, 32 heads on 4 key heads, 32,000 tokens) are written as a
sharded checkpoint, bfloat16, into a temporary folder, which is deleted at the end. The plan has the layers' matrices on
the preset and the rest on an exact digital unit; its converters are calibrated on some tokens first. With --kill-after
the run is killed (SIGKILL) behind so many steps of a layer and a stream, started again, and its scores are held against
those of a run that was left alone, bit by bit.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HIDDEN, INNER, HEADS, KEY_HEADS, DIM, VOCABULARY = 2048, 5632, 32, 4, 64, 32000
LAYER = {
    "self_attn.q_proj": (HEADS * DIM, HIDDEN),
    "self_attn.k_proj": (KEY_HEADS * DIM, HIDDEN),
    "self_attn.v_proj": (KEY_HEADS * DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * DIM),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
NORMS = ("input_layernorm", "post_attention_layernorm")


def tensors(layers: int) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Name, shape and standard deviation of each; a deviation of 0 stands for ones."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN), 1.0
    for i in range(layers):
        for name, (n_out, n_in) in LAYER.items():
            depth = np.sqrt(2 * layers) if name in ("self_attn.o_proj", "mlp.down_proj") else 1.0
            yield f"model.layers.{i}.{name}.weight", (n_out, n_in), 1 / (depth * np.sqrt(n_in))
        for name in NORMS:
            yield f"model.layers.{i}.{name}.weight", (HIDDEN,), 0.0
    yield "model.norm.weight", (HIDDEN,), 0.0
    yield "lm_head.weight", (VOCABULARY, HIDDEN), 2 / np.sqrt(HIDDEN)


def write_checkpoint(folder: Path, layers: int, seed: int = 0) -> int:
    """A sharded checkpoint, tensor by tensor; returns its parameters."""
    every, shard_bytes, shards = list(tensors(layers)), 400e6, [[]]
    for tensor in every:
        if sum(2 * np.prod(shape) for _, shape, _ in shards[-1]) > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    rng, weight_map = np.random.default_rng(seed), {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        header, at = {}, 0
        for name, shape, _ in shard:
            size = 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            weight_map[name], at = file, at + size
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, shape, deviation in shard:
                for rows in np.array_split(np.arange(shape[0]), max(1, shape[0] // 1024)):
                    part = (len(rows), *shape[1:])
                    drawn = deviation * rng.standard_normal(part, np.float32) if deviation else np.ones(part)
                    (drawn.astype("<f4").view("<u4") >> 16).astype("<u2").tofile(out)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return sum(int(np.prod(shape)) for _, shape, _ in every)


class Numbers:
    """A tokenizer of numbers, for a model that has never read a word."""

    bos_id, eos_id, vocab_size = None, None, VOCABULARY

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids) -> str:
        return " ".join(map(str, ids))


def random_text(seed: int, sequences: int, time: int):
    from pim.llm_workloads.text import ScoredText

    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (sequences, time)).astype(np.int32)
    whole = np.full(sequences, time, np.int32)
    first, source = np.ones(sequences, np.int32), np.arange(sequences, dtype=np.int32)
    return ScoredText(tokens, whole, first, source, time, "random tokens", f"seed {seed}")


def evaluated(folder: Path, options: argparse.Namespace) -> None:
    """One run in this process: what it took, and its scores into a file."""
    import jax

    import pim
    from pim.llm_workloads.checkpoint import open_checkpoint
    from pim.llm_workloads.model import Model, OnDisk

    if options.kill_after:
        _kill_after(options.kill_after)
    checkpoint = open_checkpoint(folder)
    model = Model("random", checkpoint.config, OnDisk(folder), Numbers(), checkpoint)
    device = pim.preset(options.preset)
    if options.draws:
        device = pim.replace(device, {"draws": options.draws})
    plan = pim.place(model, pim.inference_system(device, pim.preset("ideal")))
    start = time.perf_counter()
    plan = pim.calibrate(plan, random_text(1, 1, options.calibration), context=options.calibration)
    calibrated = time.perf_counter()
    text = random_text(2, options.tokens // 256 or 1, min(options.tokens, 256))
    result = pim.evaluate(plan, text, chips=options.chips, resume=options.resume)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.savez(options.scores, **vars(result.scores))
    dense = _dense_seconds(checkpoint.config.matrix_shapes.values(), text.tokens.size)
    dense *= checkpoint.config.num_hidden_layers
    told = {
        "parameters": checkpoint.config.parameters,
        "calibration_s": round(calibrated - start, 1),
        "evaluation_s": round(end - calibrated, 1),
        "peak_resident_GB": round(peak / 1e9, 2),
        "dense_products_s": round(dense, 2),
        "evaluation_over_dense": round((end - calibrated) / (options.chips * dense), 1),
        "digital_perplexity": result.digital_perplexity,
        "perplexity": list(map(float, result.points[0].perplexity)),
        "kl": result.points[0].kl,
        "jax": jax.__version__,
    }
    print(json.dumps(told, indent=1))


def _kill_after(units: int) -> None:
    from pim.streaming import streams

    keep, done = streams.InFolder.keep, []

    def counted(self, name, stage, arrays):
        keep(self, name, stage, arrays)
        done.append(name)
        if len(done) == units:
            os.kill(os.getpid(), signal.SIGKILL)

    streams.InFolder.keep = counted


def _dense_seconds(shapes, tokens: int) -> float:
    """Of the exact products of one layer: the fastest of three."""
    import jax
    import jax.numpy as jnp

    multiply, total = jax.jit(jnp.matmul), 0.0
    for n_in, n_out in shapes:
        x, w, taken = jnp.ones((tokens, n_in)), jnp.ones((n_in, n_out)), []
        for _ in range(4):
            start = time.perf_counter()
            jax.block_until_ready(multiply(x, w))
            taken.append(time.perf_counter() - start)
        total += min(taken[1:])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of a large model, layer by layer")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--tokens", type=int, default=512, help="in sequences of 256")
    parser.add_argument("--calibration", type=int, default=64, help="tokens on which converter ranges are found")
    parser.add_argument("--chips", type=int, default=2)
    parser.add_argument("--preset", default="rram-wan2022")
    parser.add_argument("--draws", default="", help="how read noise is drawn, such as packed16; default: as the preset")
    parser.add_argument("--kill-after", type=int, default=0, help="steps behind which the run is killed, and goes on")
    parser.add_argument("--model", type=Path, help="a folder to keep the checkpoint in, or that has it already")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scores", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scores is not None:
        evaluated(options.model, options)
        return
    with tempfile.TemporaryDirectory(prefix="pim-large-") as name:
        place = Path(name)
        folder = options.model or place / "model"
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            count = write_checkpoint(folder, options.layers)
            print(f"{count / 1e9:.2f} billion weights written in {time.perf_counter() - start:.0f} s")
        killed = _child(options, folder, place, "killed", options.kill_after) if options.kill_after else None
        if killed is not None:
            assert killed == -signal.SIGKILL, f"the run ended with {killed} before it was killed"
            print(f"killed behind {options.kill_after} steps; on it goes")
            assert _child(options, folder, place, "killed", 0) == 0
        assert _child(options, folder, place, "whole", 0) == 0
        if killed is not None:
            one, other = (np.load(place / f"{run}.npz") for run in ("whole", "killed"))
            same = all(np.array_equal(one[each], other[each]) for each in one.files)
            print(f"killed and resumed: {'the same to the bit' if same else 'ANOTHER RESULT'}")


def _child(options: argparse.Namespace, folder: Path, place: Path, run: str, kill_after: int) -> int:
    """The run in a process of its own, so that its peak of memory is its own."""
    own = {"model": folder, "resume": place / run, "scores": place / f"{run}.npz", "kill_after": kill_after}
    given = {name: value for name, value in (vars(options) | own).items() if value is not None}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return subprocess.run([sys.executable, __file__, *arguments]).returncode


if __name__ == "__main__":
    main()
