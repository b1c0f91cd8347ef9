"""Percentiles without a sort: held against NumPy's, in double precision, and against JAX's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.order_statistics import percentile

QS = [0.0, 12.5, 50.0, 99.0, 99.99, 100.0]


@pytest.mark.parametrize("axis", [None, (0,), (1,), (0, 2)])
@pytest.mark.parametrize("q", QS)
def test_it_is_the_percentile(q, axis):
    values = np.random.default_rng(0).standard_t(2, size=(31, 3, 17)).astype(np.float32)
    values[3] = -0.0
    found = jax.jit(percentile, static_argnums=2)(jnp.asarray(values), q, axis)
    expected = np.percentile(values.astype(np.float64), q, axis=axis, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("q", [0.0, 25.0, 50.0, 75.0, 100.0])
def test_order_statistics_are_exact(q):
    """401 values, so that these percentiles are values themselves; many are equal, and some infinite."""
    values = np.random.default_rng(1).integers(-3, 4, 401).astype(np.float32) * np.float32(1e-30)
    values[:5] = np.inf, -np.inf, 0.0, -0.0, 3e38
    found = float(percentile(jnp.asarray(values), q)[0])
    assert found == np.sort(values)[round(4 * q)]


def test_what_is_no_number_comes_out():
    values = jnp.asarray([[1.0, jnp.nan], [2.0, 3.0]])
    np.testing.assert_array_equal(percentile(values, 50.0, (0,)), [[1.5, jnp.nan]])


def test_the_gradient_is_that_of_the_sorted_values():
    values = jnp.asarray(np.random.default_rng(2).normal(size=(40, 3)), jnp.float32)
    for argument in (0, 1):
        ours = jax.jacobian(lambda v, q: percentile(v, q, (0,))[0], argument)(values, 33.3)
        theirs = jax.jacobian(lambda v, q: jnp.percentile(v, q, axis=0), argument)(values, 33.3)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
