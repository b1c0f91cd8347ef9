"""Whole models on whole systems: how long tables and sweeps of their costs take.

    python benchmarks/systems.py

Five models whose shapes are known on eight systems, each a run of 2,048 tokens read and 128 written, and 10,000 points
of (system, batch, context) of a decoding step. Everything is done twice: the first time programs are compiled, which
JAX keeps on disk between runs if it is told to (`JAX_COMPILATION_CACHE_DIR`).
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from turns import machine

import pim

MODELS = ("llama-2-7b", "llama-3-8b", "llama-2-70b", "gpt-3-175b", "mixtral-8x7b")
SYSTEMS = (
    "a100", "h100", "dgx-a100", "attacc", "attacc-gpus", "reram-digital", "reram-sram", "sram-digital",
)  # fmt: skip


def tables() -> Any:
    return pim.compare(MODELS, SYSTEMS, batch=8, prompt=2048, generate=128)


def sweep() -> int:
    batch, context = (grid.ravel() for grid in np.meshgrid(2 ** np.arange(10), 256 * np.arange(1, 126)))
    plans = [pim.place("llama-2-70b", pim.load_system(name)) for name in SYSTEMS]
    return sum(pim.cost(plan, batch=batch, context=context).latency.block_until_ready().size for plan in plans)


def seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


def main() -> None:
    print(machine())
    for name, call in (("five models on eight systems", tables), ("points of a step", sweep)):
        found, first = seconds(call)
        _, again = seconds(call)
        count = f"{found:,} " if isinstance(found, int) else ""
        print(f"{count}{name}: {first:.2f} s compiling, {again:.2f} s compiled")
        if not isinstance(found, int):
            print(found, end="\n\n")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
