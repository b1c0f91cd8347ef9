"""Calls that take turns: ratios of their times say more about the code than times, which say more about the machine."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Time on the wall, or of all cores on this process: the one to take where others load the machine."""


def seconds(call: Callable[[], Any], clock: str = "wall") -> float:
    start = CLOCKS[clock]()
    jax.block_until_ready(call())
    return CLOCKS[clock]() - start


def times(sides: Mapping[str, Callable[[], Any]], rounds: int, clock: str = "wall") -> dict[str, list[float]]:
    """Seconds of each side in each turn; the first, which compiles, is left away."""
    turns = [{name: seconds(call, clock) for name, call in sides.items()} for _ in range(rounds + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in sides}


def ratio(these: list[float], those: list[float]) -> str:
    """Median, and least to most, of the ratios of two sides turn by turn."""
    ratios = [a / b for a, b in zip(these, those, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def machine(rounds: int = 5) -> str:
    """Cores, and the fastest that this machine multiplies two float32 matrices and reads memory, in words."""
    square, long = jnp.ones((2048, 2048)), jnp.ones(1 << 25)
    multiply, read = jax.jit(jnp.matmul), jax.jit(jnp.sum)
    sides = {"multiply": lambda: multiply(square, square), "read": lambda: read(long)}
    best = {name: min(taken) for name, taken in times(sides, rounds).items()}
    return (
        f"{os.cpu_count()} cores, {2 * 2048**3 / best['multiply'] / 1e9:.0f} GFLOP/s in a 2048 x 2048 x 2048 product, "
        f"{long.nbytes / best['read'] / 1e9:.0f} GB/s read from memory"
    )
