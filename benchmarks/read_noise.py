"""What read noise costs: products with noise drawn at every conversion against dense products, in one run.

    python benchmarks/read_noise.py [--size 512] [--batch 64] [--rounds 50] [--clock cpu]

8-bit multibit DACs and 8-bit ADCs, cells with read noise, whose variance is the same for all (additive) or goes with
the conductance (proportional: one more product). Normal numbers of 32 bits, or two from each 32 (`macro.draws`).
"""

# pyright: reportArgumentType=false
# Records are built of plain numbers, which `cast` turns into arrays.

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from mvm import macro, side
from turns import CLOCKS, machine, ratio, times

from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise
from pim.devices.converters.adc import ADC
from pim.devices.converters.dac import MultibitDAC

NOISES = {"none": None, "additive": AdditiveReadNoise(1e-7), "proportional": ProportionalReadNoise(0.02)}


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of read noise")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the matrix")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=50, help="turns of each product")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: where others load the machine")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shapes = (options.size, options.size), (options.batch, options.size)
    weights, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    dac, adc = MultibitDAC(8.0, 100.0, 0.0, 0.0), ADC(8.0, 100.0, 8.0)
    sides = {"dense": partial(jax.jit(jnp.matmul), x, weights)}
    for rows in (options.size, 128):
        for noise, law in NOISES.items():
            for draws in ("float32", "packed16") if law is not None else ("float32",):
                m = macro(rows, dac, adc, weight_bits=8.0, slices=1, cell=Cell(0.0, 40e-6, read_noise=law), draws=draws)
                sides[f"{rows:>5}  {noise:>13}  {draws if law is not None else '':>9}"] = side(m, "analog", weights, x)
    taken = times(sides, options.rounds, options.clock)
    print(f"{options.size} x {options.size}, batch {options.batch}: against the dense product, median (min-max)")
    print(f"{'rows':>5}  {'read noise':>13}  {'draws':>9}")
    for name in list(sides)[1:]:
        print(f"{name}  {ratio(taken[name], taken['dense']):>20}")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
