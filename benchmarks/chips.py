"""What many chips of one matrix cost in one call, against single calls and against dense products, in one run.

    python benchmarks/chips.py [--size 512] [--chips 64] [--rounds 5]

Three columns: one call over chip after chip with single calls; programming and product of all chips over as many dense
float32 products; and the emulated product of all chips over those. The sides take turns and the median of their ratios
is printed; absolute times say more about the machine than about the code. Programming draws a normal number for every
cell, 2 for a weight and more where the device ages: that, and not the product, is its cost.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pim.chip import Chip
from pim.devices.catalogue import preset
from pim.devices.random import chip_key, root_key
from pim.programming import program

KEY, READ = root_key(0), root_key(1)


def seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


@partial(jax.jit, static_argnames="chips")
def dense(x: jax.Array, weights: jax.Array, chips: int) -> jax.Array:
    """As many dense products, of matrices that differ."""
    return jax.lax.map(lambda c: x @ (weights + c), jnp.arange(chips, dtype=jnp.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description="many chips in one call")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the matrix")
    parser.add_argument("--chips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(options.size, options.size)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(16, options.size)), jnp.float32)
    print(f"{options.chips} chips of {options.size} x {options.size}, 16 inputs, read noise: median (min-max)")
    print(
        f"{'device':>22}  {'one call / single calls':>24}  {'program and product / dense':>28}  {'product / dense':>18}"
    )
    for name in ("rram-wan2022-crosssim", "rram-wan2022", "rram-techC"):
        device = preset(name)
        together = partial(program, weights, device, key=KEY, chips=options.chips)
        chips: Chip = together()
        alone = lambda device=device: [program(weights, device, key=chip_key(KEY, c)) for c in range(options.chips)]
        sides = (
            lambda together=together: together().crossbar,
            lambda alone=alone: [chip.crossbar for chip in alone()],
            lambda chips=chips: chips.matmul(x, key=READ),
            partial(dense, x, weights, options.chips),
        )
        turns = [[seconds(side) for side in sides] for _ in range(options.rounds + 1)][1:]  # the first turn compiled
        ratios = (
            [one / many for one, many, _, _ in turns],
            [(one + product) / exact for one, _, product, exact in turns],
            [product / exact for _, _, product, exact in turns],
        )
        shown = [f"{statistics.median(r):.2f} ({min(r):.2f}-{max(r):.2f})" for r in ratios]
        print(f"{name:>22}  {shown[0]:>24}  {shown[1]:>28}  {shown[2]:>18}")


if __name__ == "__main__":
    main()
