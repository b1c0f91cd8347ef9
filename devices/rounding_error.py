"""What an arithmetic loses of a product, by the length of its sums."""

from functools import partial

import jax
import numpy as np

from pim.devices.arithmetic import Arithmetic

VECTORS, OUTPUTS = 8, 64


def relative_error(arithmetic: Arithmetic, n_in: int, *, seed: int = 0) -> float:
    """Root mean square error over root mean square of the exact product, in the sum of `n_in` products.

    Weights and inputs are uniform over [-1, 1] and independent; 512 sums are taken.

    >>> relative_error(pim.preset("dram-hbm-pim").model.arithmetic, 4096)
    0.0024...
    """
    draw = partial(np.random.default_rng([seed, n_in]).uniform, -1.0, 1.0)
    weights, x = draw((n_in, OUTPUTS)).astype(np.float32), draw((VECTORS, n_in)).astype(np.float32)
    exact = x.astype(np.float64) @ weights.astype(np.float64)
    found = np.asarray(_product(arithmetic, weights, x), np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@jax.jit
def _product(arithmetic: Arithmetic, weights, x):
    return arithmetic.multiply(arithmetic.hold(weights), x)
