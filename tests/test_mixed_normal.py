"""Normal numbers that are mixed where they are made, and words that are made once or where they are used."""

import jax
import numpy as np
import pytest

from pim.devices import random
from pim.devices.random import mixed_normal, normal, root_key, uniform


def test_mixed_numbers_are_those_of_an_array_of_all_of_them():
    weights = np.array([0.6, -0.3, 0.74], np.float32)
    key, shape = root_key(4), (2, 50, 3)
    every = np.asarray(normal(key, (*shape, 3)), np.float64)
    np.testing.assert_allclose(jax.jit(mixed_normal, static_argnums=1)(key, shape, weights), every @ weights, atol=2e-6)


@pytest.mark.parametrize("draw", [normal, uniform])
def test_small_arrays_have_the_words_of_large_ones(draw, monkeypatch):
    key, shape = root_key(7), (3, 1, 41)
    kept = draw(key, shape)
    monkeypatch.setattr(random, "SMALL", 0)
    np.testing.assert_allclose(draw(key, shape), kept, rtol=1e-6)
