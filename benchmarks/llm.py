"""A whole text on a whole model's devices: seconds, and how often the exact model could have read it in that time.

    python benchmarks/llm.py [--chips 4] [--tokens N] [--draws packed16] [--only multibit serial compile]

Two systems of measured ReRAM cells (rram-techC), weights of 8 bits in 4 slices: inputs of 8 bits at once with the
noise of the cells at each read, and bit by bit with the noise of each conversion on top. The model is stories260K on
its whole text where $PIM_SHARED has them, else the shipped tiny-stories on stories of its kind. The first evaluation,
of one chip, compiles; the second, of all chips, does not. Then what compiling takes by itself, for models of few and
many layers, all alike or of three structures. Nothing is read from JAX's cache of compiled programs.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from turns import machine

import pim
from pim import scoring
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.device import Device
from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, program_model
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import Model
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.mapping.plan import Plan

SLICED = {"weight_bits": 8, "slices": 4}
NOISE = 0.5
"""Of a conversion, in LSB."""


def devices(draws: str) -> dict[str, Device]:
    multibit = pim.replace(pim.preset("rram-techC"), {**SLICED, "draws": draws})
    dac = multibit.model.dac
    one_by_one = BitSerialDAC(8, dac.percentile, dac.capacitance_per_bit, dac.area)
    return {"multibit": multibit, "serial": pim.replace(multibit, {"dac": one_by_one, "adc.noise": NOISE})}


def work() -> tuple[Model, str, str]:
    """A model, a text to score and another to calibrate on."""
    shared = Path(os.environ.get("PIM_SHARED", "shared")) / "data"
    if not (shared / "stories260K").is_dir():
        return pim.load_model("tiny-stories"), story_text(101, 110), story_text(102, 5)
    text, other = (shared / "text" / f"tinystories_{name}.txt" for name in ("dev", "gpt4_sample"))
    return pim.load_model(shared / "stories260K"), text.read_text(), other.read_text()


class Spent:
    """Seconds on the wall and of processors, since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __call__(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    spent = Spent()
    found = jax.block_until_ready(call())
    return found, spent()


def shown(spent: tuple[float, float]) -> str:
    return f"{spent[0]:7.1f} s ({spent[1]:.1f} s of processors)"


def evaluation(name: str, device: Device, chips: int, tokens: int | None) -> None:
    model, text, other = work()
    plan, calibration = timed(
        lambda: pim.calibrate(pim.place(model, pim.inference_system(device, pim.preset("digital-28nm"))), other)
    )
    scored = as_scored(text, model.tokenizer, context=256, max_tokens=tokens)
    batches = list(scored.batches(scoring.TOKENS_PER_BATCH))
    read = lambda: [scoring._exact(model.config, model.params, b.tokens) for b in batches]
    timed(read)
    _, dense = timed(read)
    _, first = timed(lambda: pim.evaluate(plan, scored, chips=1, progress=False))
    result, run = timed(lambda: pim.evaluate(plan, scored, chips=chips, progress=False))
    print(f"\n{name}: {model.name}, {int(result.scores.tokens.sum()):,} tokens")
    print(f"  perplexity {result.perplexity:.4f}, exact {result.digital_perplexity:.4f}")
    print(f"  calibration                {shown(calibration)}")
    print(f"  one chip, and compiling    {shown(first)}")
    print(f"  {chips} chips, compiled        {shown(run)}: {run[1] / dense[1]:.0f} exact readings of {dense[1]:.2f} s")


def layered(layers: int, structures: int, draws: str) -> Plan:
    """A narrow model of random weights, uncalibrated, whose first and last layers may be on other devices."""
    config = llama_config(512, 64, 172, layers, 8, 4, 8)
    rng = np.random.default_rng(0)
    shapes = {"embed": (512, 64), "head": (64, 512), "norm": (64,)}
    stack = {name: (layers, *shape) for name, shape in config.matrix_shapes.items() if name != "head"}
    stack |= dict.fromkeys(("input_norm", "post_norm"), (layers, 64))
    draw = lambda shape: jax.numpy.asarray(rng.normal(size=shape) / 8, jax.numpy.float32)
    params = {name: draw(shape) for name, shape in shapes.items()}
    params |= {"segments": [{name: draw(shape) for name, shape in stack.items()}]}
    known = {name: pim.replace(d, {"input_range": "token"}) for name, d in devices(draws).items()}
    known["digital"] = pim.preset("digital-28nm")
    rules = [("*.attention.qk", "digital"), ("*.attention.pv", "digital"), ("head", "digital")]
    if structures == 3:
        rules += [("layers.0.*", "serial"), (f"layers.{layers - 1}.*", "digital")]
    return pim.place(Model("layers", config, params, work()[0].tokenizer), pim.System(known, rules))


def compiling(draws: str) -> None:
    """What compiling the scoring of a batch takes, by depth and structures."""
    tokens = np.zeros((16, 256), np.int32)
    scored, documents = np.ones((16, 255), np.float32), np.arange(16, dtype=np.uint32)
    key = chip_key(root_key(0), 0)
    print("\ncompiling: programming of a chip; scoring of a batch, traced and compiled")
    for structures in (1, 3):
        for layers in (5, 32):
            plan = layered(layers, structures, draws)
            assert plan.model is not None and len(plan.segments()) == structures
            jax.clear_caches()
            params, programmed = timed(lambda plan=plan: program_model(plan, key))
            exact = np.zeros((16, 256, 512), np.float32)
            spent = Spent()
            lowered = scoring._score.lower(plan.config, params, emulated(plan), exact, tokens, documents, scored, key)
            traced = spent()
            lowered.compile()
            print(
                f"  {layers:3d} layers, {structures} structures: {shown(programmed)}; {shown(traced)} traced, "
                f"{shown(spent())} in all"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="a language model on its devices")
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--tokens", type=int, help="most tokens to score; all by default")
    parser.add_argument("--draws", choices=("float32", "packed16"), default="float32", help="normal numbers of reads")
    parser.add_argument("--only", nargs="+", choices=("multibit", "serial", "compile"))
    options = parser.parse_args()
    chosen = options.only or ("multibit", "serial", "compile")
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"others on this machine: load {os.getloadavg()[0]:.1f}; {machine()}")
    for name, device in devices(options.draws).items():
        if name in chosen:
            evaluation(name, device, options.chips, options.tokens)
    if "compile" in chosen:
        compiling(options.draws)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
