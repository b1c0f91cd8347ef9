"""What wire resistance costs: arrays folded once, and circuits solved vector by vector, against a dense product.

    python benchmarks/ir_drop.py [--size 128] [--batch 64] [--rounds 9]

The dense product is that of `batch` vectors with one array in float32, all take turns, and medians of the ratios are
printed; absolute times say more about the machine than about the code. Errors are those of the currents, over the
largest, against float64: a direct sparse solution of every node (tests/nodal.py) where cells are linear and inputs are
sources, else the same solver. Once folded, an array's products cost what they cost without wires.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.circuit.field import solve_vectors
from pim.circuit.fold import fold
from pim.circuit.gate import gate_currents
from pim.circuit.newton import solve_nonlinear
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.conduction import Sinh

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

DENSE_CALLS = 20  # of the dense product a turn: one is over too fast to be timed
FOLD, VECTORS, GATE, NEWTON = (jax.jit(f) for f in (fold, solve_vectors, gate_currents, solve_nonlinear))
DENSE = jax.jit(jnp.matmul)


def in_precision(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def in_float64(solver: Callable, arguments: tuple) -> np.ndarray:
    """The currents that a solver finds in float64, iterative ones to 1e-10."""
    with jax.enable_x64(True):
        found = solver(*in_precision(arguments, jnp.float64))
        return np.asarray(getattr(found, "currents", found))


def apart(found, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())


def seconds(call: Callable, calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        found = call()
    jax.block_until_ready(found)
    return (time.perf_counter() - start) / calls


def report(name: str, ours: Callable, dense: Callable, error: float, rounds: int) -> None:
    """One line: the median time, and that of the ratios, of calls that take turns."""
    turns = [(seconds(ours), seconds(dense, DENSE_CALLS)) for _ in range(rounds + 1)][1:]  # the first one compiled
    ratios = [own / base for own, base in turns]
    spread = f"{statistics.median(ratios):8.0f} ({min(ratios):.0f}-{max(ratios):.0f})"
    print(f"{name:<30} {1e3 * statistics.median(own for own, _ in turns):9.1f} {spread:>26} {error:9.1e}")


def main() -> None:
    from nodal import nodal_conductance  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description="cost and error of wire resistance")
    parser.add_argument("--size", type=int, default=128, help="rows and columns of the array")
    parser.add_argument("--batch", type=int, default=64, help="vectors")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    options = parser.parse_args()
    rng, n = np.random.default_rng(0), options.size
    g = jnp.asarray(rng.uniform(1e-6, 1e-4, (1, n, n)), jnp.float32)
    v = jnp.asarray(rng.uniform(0, 0.2, (options.batch, n)), jnp.float32)
    bits = jnp.asarray(rng.choice([0.0, 0.2], size=v.shape), jnp.float32)
    dense, law = partial(DENSE, v, g[0]), Sinh(jnp.float32(0.15))
    exactly = partial(np.asarray, dtype=np.float64)

    def wires(ohm: float, tolerance: float = 1e-6, **fields) -> ArrayWires:
        return in_precision(ArrayWires(ohm, ohm, 0.0, 0.0, ohm, tolerance, **fields), jnp.float32)  # type: ignore

    print(f"{n} x {n} cells of 1 to 100 uS, {options.batch} vectors, {jax.default_backend()}")
    print(f"{'':<30} {'ms':>9} {'x dense product':>26} {'error':>9}")
    for ohm in (1.0, 5.0):
        source, gate = wires(ohm), wires(ohm, input="gate")
        expected = exactly(v) @ nodal_conductance(exactly(g), ohm, ohm)
        error = apart(exactly(v) @ exactly(FOLD(g, source).conductance[0]), expected)
        report(f"fold, one array, {ohm:g} Ohm", partial(FOLD, g, source), dense, error, options.rounds)
        error = apart(VECTORS(g, v, source).currents, expected)
        report(f"by vector, {ohm:g} Ohm", partial(VECTORS, g, v, source), dense, error, options.rounds)
        error = apart(GATE(g, bits, gate), in_float64(GATE, (g, bits, gate)))
        report(f"gate input, {ohm:g} Ohm", partial(GATE, g, bits, gate), dense, error, options.rounds)
        some = g, v[:4], wires(ohm, 1e-10), law
        error = apart(NEWTON(g, v, source, law).currents[:4], in_float64(NEWTON, some))
        report(f"sinh cells, {ohm:g} Ohm", partial(NEWTON, g, v, source, law), dense, error, options.rounds)


if __name__ == "__main__":
    main()
