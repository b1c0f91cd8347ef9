"""How much slower the emulated product is than a dense float32 product of the same shape, in one run.

    python benchmarks/mvm.py [--size 4096] [--rounds 7]

4096 x 4096 weights in 4 slices, 8 one-bit input steps, a 6-bit ADC on every 128 rows, slice, step and column: 32 times
the multiply-adds of the dense product. The two products take turns, and the median of their ratios is printed; absolute
times say more about the machine than about the code. The last column holds the product against its own bound, the same
multiply-adds in the same order without converters and noise.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pim import crossbar
from pim.devices.catalogue import preset
from pim.devices.converters.dac import BitSerialDAC
from pim.devices.device import Device, replace
from pim.devices.random import root_key
from pim.tile_programming import program_tiles

STEPS = 8
MACRO = {"rows": 128, "slices": 4, "columns": 512, "adc.bits": 6, "cell.read_noise": None}


def device(noise: bool) -> Device:
    base = preset("rram-wan2022")
    changes = {"weight_bits": 9, "dac": BitSerialDAC(STEPS + 1, jnp.float32(99.99), jnp.float32(0), jnp.float32(0))}
    kept = {k: v for k, v in MACRO.items() if not (noise and k == "cell.read_noise")}
    return replace(base, {**kept, **changes})


def seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


@jax.jit
def bare(cells: jax.Array, levels: jax.Array) -> jax.Array:
    """The multiply-adds of the emulated product alone: [tiles, rows, columns] cells, [tiles, inputs, rows] levels."""
    start = jnp.zeros((levels.shape[1], cells.shape[2]))
    total, _ = jax.lax.scan(lambda sums, tile: (sums + tile[0] @ tile[1], None), start, (levels, cells))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="slowdown of the emulated product")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the matrix")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each product")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(options.size, options.size)), jnp.float32)
    dense = jax.jit(jnp.matmul)
    print(f"{options.size} x {options.size}, {MACRO['slices']} slices, {STEPS} input bits, 6-bit ADC, 128 rows")
    print("batch  read noise  against the dense float32 product (median, min-max)  against its bare multiply-adds")
    for noise in (False, True):
        macro = device(noise).model
        programmed = jax.jit(program_tiles)(weights, macro, root_key(0), macro.cell.reference_time)
        emulated = jax.jit(crossbar.matmul)
        for batch in (1, 16):
            x = jnp.asarray(rng.normal(size=(batch, options.size)), jnp.float32)
            rows = jnp.stack([jnp.zeros(batch, jnp.uint32), jnp.arange(batch, dtype=jnp.uint32)], axis=1)
            exact = partial(dense, x, weights)
            analog = partial(emulated, programmed, macro, x, rows, root_key(1))
            levels = jnp.ones((programmed.weights.shape[0], STEPS * batch, MACRO["rows"]))
            bound = partial(bare, programmed.weights, levels)
            turns = [tuple(seconds(call) for call in (exact, analog, bound)) for _ in range(options.rounds + 1)][1:]
            ratios = [emulated_s / exact_s for exact_s, emulated_s, _ in turns]  # the first turn compiled
            over_bound = statistics.median(emulated_s / bound_s for _, emulated_s, bound_s in turns)
            spread = f"{statistics.median(ratios):6.1f} ({min(ratios):.1f}-{max(ratios):.1f})"
            print(f"{batch:5d}  {'yes' if noise else 'no':>10}  {spread:>49}  {over_bound:28.2f}")


if __name__ == "__main__":
    main()
