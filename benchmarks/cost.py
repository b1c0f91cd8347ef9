"""What asking for a cost takes: one layer, many shapes, many configurations, each against single calls in the same run.

    python benchmarks/cost.py [--device rram-techC] [--many 100000] [--rounds 5]

Medians over rounds in which the sides take turns. NeuroSim 1.4 takes 19 s of processor time for one 4096 x 4096 layer.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import pim
from pim.devices.catalogue import preset
from pim.devices.device import Device

SINGLES = 20


def seconds(call: Callable[[], Any]) -> float:
    """Time of a call, its results at hand."""
    start = time.perf_counter()
    jax.block_until_ready([(found.energy, found.latency, found.area) for found in call()])
    return time.perf_counter() - start


def sides(device: Device, many: int) -> dict[str, Callable[[], list[Any]]]:
    """What is timed, by name: each gives the costs that it asked for."""
    rng = np.random.default_rng(0)
    n_in, n_out = rng.integers(1, 16384, (2, many))
    over = {"vdd": device["vdd"] * rng.uniform(0.98, 1.02, many), "t_read": device["t_read"] * rng.uniform(1, 9, many)}
    layer = (4096, 4096)

    def alone() -> list[Any]:
        return [
            pim.cost(pim.replace(device, {path: float(values[i]) for path, values in over.items()}), layer)
            for i in range(SINGLES)
        ]

    return {
        "layer": lambda: [pim.cost(device, layer)],
        "shapes": lambda: [pim.cost(device, (n_in, n_out))],
        "configurations": lambda: [pim.cost(device, layer, over=over)],
        f"{SINGLES} configurations, one by one": alone,
    }


def measured(device: Device, many: int = 100_000, rounds: int = 5) -> dict[str, float]:
    """Median times (s), warm."""
    calls = sides(device, many)
    for call in calls.values():
        seconds(call)
    turns = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in turns) for name in calls}


def main() -> None:
    """Print the times and their ratios."""
    parser = argparse.ArgumentParser(description="what asking for a cost takes")
    parser.add_argument("--device", default="rram-techC")
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    found = measured(preset(options.device), options.many, options.rounds)
    for name, each in found.items():
        print(f"{name:<35}{each * 1e3:>10.1f} ms")
    single = found[f"{SINGLES} configurations, one by one"] / SINGLES * options.many
    print(
        f"{options.many:,} configurations one by one would take {single / found['configurations']:,.0f} times as long,"
    )
    print(f"as many shapes {found['layer'] * options.many / found['shapes']:,.0f} times")


if __name__ == "__main__":
    main()
