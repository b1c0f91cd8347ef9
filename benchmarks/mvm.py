"""How much slower the emulated product is than a dense float32 product of the same shape, in one run.

    python benchmarks/mvm.py [--size 4096] [--batch 1 16] [--rounds 7] [--quick] [--clock cpu]

First 4 slices of a weight, 8 one-bit input steps and a 6-bit ADC on every 128 rows, slice, step and column: 32 times
the multiply-adds of the dense product, in each formulation of them (`pim.formulation`). The last column holds the
analog one against its own bound: the same multiply-adds in the same order, without converters. Then 8-bit multibit DACs
and ADCs on 512 x 512 weights. All sides take turns, and the median of their ratios is printed; what they are
against: the last line.
"""

# pyright: reportArgumentType=false
# Records are built of plain numbers, which `cast` turns into arrays.

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from turns import CLOCKS, machine, ratio, times

from pim import crossbar
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.cell import Cell
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.formulation import forced
from pim.tile_programming import program_tiles

STEPS, SLICES, ROWS = 8, 4, 128


def macro(rows: int, dac, adc: ADC | None, **fields) -> AnalogMacro:
    """Cells without any error: what the converters cost, and how sums are formed."""
    settings = {"encoding": "differential", "weight_scale": "column", "input_range": "token", "columns": 1024}
    physical = {"v_read": 0.2, "t_read": 1e-8, "vdd": 0.9, "cell": Cell(0.0, 40e-6)}
    return cast(AnalogMacro(rows=rows, dac=dac, adc=adc, **{**settings, **physical, **fields}))


def side(m: AnalogMacro, kind: str, weights: jax.Array, x: jax.Array):
    """A product with programmed weights, as a call."""
    how = forced(kind, m, weights.shape[0], calibrated=False)
    programmed = jax.jit(partial(program_tiles, formulation=how))(weights, m, root_key(0), None)
    rows = jnp.stack([jnp.zeros(len(x), jnp.uint32), jnp.arange(len(x), dtype=jnp.uint32)], axis=1)
    return partial(jax.jit(crossbar.matmul), programmed, m, x, rows, root_key(1))


@jax.jit
def bare(cells: jax.Array, levels: jax.Array) -> jax.Array:
    """The multiply-adds of the emulated product alone: [tiles, rows, columns] cells, [tiles, inputs, rows] levels."""
    start = jnp.zeros((levels.shape[1], cells.shape[2]))
    total, _ = jax.lax.scan(lambda sums, tile: (sums + tile[0] @ tile[1], None), start, (levels, cells))
    return total


def bit_serial(size: int, batch: int, rounds: int, clock: str, rng: np.random.Generator) -> None:
    weights, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((size, size), (batch, size)))
    fields = {"weight_bits": 9.0, "slices": SLICES}
    m = macro(ROWS, BitSerialDAC(STEPS + 1, 100.0, 0.0, 0.0), ADC(6.0, 100.0, 8.0), **fields)
    wide = macro(ROWS, m.dac, ADC(10.0, 100.0, 8.0, range_rule="granular"), **fields)
    sides = {"dense": partial(jax.jit(jnp.matmul), x, weights)}
    sides |= {kind: side(m, kind, weights, x) for kind in ("analog", "integer", "packed")}
    sides["lossless"] = side(wide, "lossless", weights, x)
    analog = sides["analog"].args[0].weights
    sides["bare"] = partial(bare, analog, jnp.ones((analog.shape[0], STEPS * batch, ROWS)))
    taken = times(sides, rounds, clock)
    shown = "  ".join(f"{ratio(taken[k], taken['dense']):>20}" for k in ("analog", "integer", "packed", "lossless"))
    print(f"{batch:5d}  {shown}  {ratio(taken['analog'], taken['bare']):>22}")


def multibit(size: int, batch: int, rounds: int, clock: str, rng: np.random.Generator) -> None:
    weights, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((size, size), (batch, size)))
    dac, adc = MultibitDAC(8.0, 100.0, 0.0, 0.0), ADC(8.0, 100.0, 8.0)
    sides = {"dense": partial(jax.jit(jnp.matmul), x, weights)}
    for rows in (size, ROWS):
        for kind in ("analog", "integer"):
            m = macro(rows, dac, adc, weight_bits=8.0, slices=1)
            sides[f"{kind}, arrays of {rows} rows"] = side(m, kind, weights, x)
    wired = macro(ROWS, dac, adc, weight_bits=8.0, slices=1, wires=ArrayWires(1.0, 1.0))
    sides["analog, 128, folded wires"] = side(wired, "analog", weights, x)
    taken = times(sides, 8 * rounds, clock)
    print(
        f"\n{size} x {size}, batch {batch}, one slice, 8-bit multibit DAC, 8-bit ADC: against dense, median (min-max)"
    )
    for name in list(sides)[1:]:
        print(f"{name:>30}  {ratio(taken[name], taken['dense']):>20}")
    added = ratio(taken["analog, 128, folded wires"], taken[f"analog, arrays of {ROWS} rows"])
    print(f"{'folded wires / without':>30}  {added:>20}")


def main() -> None:
    parser = argparse.ArgumentParser(description="slowdown of the emulated product")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the large matrix")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each product")
    parser.add_argument("--quick", action="store_true", help="a smaller matrix and fewer turns")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: where others load the machine")
    options = parser.parse_args()
    size, rounds = (min(options.size, 1024), 3) if options.quick else (options.size, options.rounds)
    rng = np.random.default_rng(0)
    print(f"{size} x {size}, {SLICES} slices, {STEPS} one-bit steps, {ROWS} rows, 6-bit ADC (lossless: 10-bit)")
    print("against the dense float32 product, median (min-max)")
    heads = "  ".join(f"{kind:>20}" for kind in ("analog", "integer", "packed", "lossless"))
    print(f"batch  {heads}  {'analog / multiply-adds':>22}")
    for batch in options.batch:
        bit_serial(size, batch, rounds, options.clock, rng)
    multibit(512, 64, rounds, options.clock, rng)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
