"""Costs of near-DRAM devices: many shapes and presets in one call, against single calls in the same run.

    python benchmarks/near_dram.py [--pairs 100000] [--rounds 5]

The first line is the time of one jitted call that gives energy and latency of all pairs, and the ratio of as many
single calls to it. Then the deviation from command-level simulators, where their golden runs are at hand (PIM_SHARED).
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from pim.costs.near_dram_cost import matrix_cost
from pim.devices.catalogue import preset, presets
from pim.devices.device import replace
from pim.devices.dram.work import Work

SINGLES = 200


def seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def many(pairs: int, rounds: int) -> None:
    devices = {row.name: preset(row.name).model for row in presets() if row.family == "near-dram"}
    rng = np.random.default_rng(0)
    n_in, n_out = rng.integers(1, 20000, (2, -(-pairs // len(devices))))

    @jax.jit
    def together(devices, n_in, n_out):
        return {name: matrix_cost(device, n_in, n_out) for name, device in devices.items()}

    one = jax.jit(matrix_cost)
    names = list(devices)
    singles = lambda: [one(devices[names[i % len(names)]], int(n_in[i]), int(n_out[i])) for i in range(SINGLES)]
    compiling = seconds(lambda: together(devices, n_in, n_out))
    seconds(singles)
    turns = [(seconds(lambda: together(devices, n_in, n_out)), seconds(singles)) for _ in range(rounds)]
    call = statistics.median(a for a, _ in turns)
    ratio = statistics.median(b / SINGLES * pairs / a for a, b in turns)
    print(
        f"{pairs:,} pairs of shape and preset ({len(devices)} presets): {call * 1e3:.1f} ms a call, {compiling:.1f} s"
    )
    print(f"with its compilation; as many single calls take {ratio:.0f} times as long")


def simulators(golden: Path) -> None:
    rows = json.loads(golden.read_text())["aim_gddr6"]
    device = replace(preset("dram-aim"), {"refresh": None})
    print(f"\n{'GDDR6-AiM, cycles':>28}  {'simulator':>10}  {'here':>10}")
    for row in rows:
        if row["kind"] == "gemv" and row.get("reuse", 1) == 1:
            model = replace(device, {"banks.channels": row["channels"]}).model
            found = float(model.commands(Work("gemv", row["in"], row["out"])).cycles.total)
            print(f"{row['out']:>12} x {row['in']:>5}, {row['channels']:>2} ch  {row['cycles']:>10,}  {found:>10,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="costs of near-DRAM devices in one call")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    many(options.pairs, options.rounds)
    golden = Path(os.environ.get("PIM_SHARED", "../shared")) / "golden/dram_pim_cycles.json"
    if golden.is_file():
        simulators(golden)


if __name__ == "__main__":
    main()
