"""Wear: the window that narrows, the cells that die, and what is left as it was without any writes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.cells.cell import Cell
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.wear import Wear
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.cells.write_verify import PulseSteps, WriteVerify
from pim.devices.errors import DeviceError
from pim.devices.random import root_key, site_key
from pim.devices.record import cast, check

KEY = root_key(2)
US = 1e-6
SHAPE = (2, 200, 250)


def keys(use: str):
    return site_key(KEY, use=use)


def constant(value: float) -> Polynomial:
    return Polynomial(jnp.array([value]))


def cell(wear: Wear | None, error=None) -> Cell:
    error = GaussianWriteError(constant(0.5), US, US) if error is None else error
    return cast(Cell(1 * US, 100 * US, write_error=error, wear=wear))


attempt = jax.jit(lambda cell, g: cell.tries(g, keys))
program = jax.jit(lambda cell, g, cycle=None: cell.program(g, keys, None, None, cycle))


def test_the_window_closes_by_a_power_of_the_writes():
    law = cast(Wear(0.0, onset=100.0, top_loss=0.1, bottom_loss=0.2))
    for writes, factor in ((1, 1.0), (100, 1.0), (1e4, 1e2), (1e6, 1e4)):
        low, high = law.window(1 * US, 100 * US, writes)
        assert float(low) == pytest.approx(1 * US * factor**0.2, rel=1e-5)
        assert float(high) == pytest.approx(100 * US * factor**-0.1, rel=1e-5)
    low, high = law.window(1 * US, 100 * US, 1e12)
    assert float(low) == float(high) == pytest.approx(np.sqrt(1 * 10**2 * 100 * 10**-1) * US, rel=1e-4)


def test_it_is_memtorchs_law():
    """log10 R = log10 R_0 + p_3 (p_1 size + p_2 T)(log10 x - log10 x_th), of a low-resistance state that fades."""
    p_1, p_2, p_3, size, temperature, threshold = 1e-3, 2e-4, 0.8, 50.0, 350.0, 1e4
    slope = p_3 * (p_1 * size + p_2 * temperature)
    law = cast(Wear(0.0, onset=threshold, top_loss=slope))
    for x in (1e5, 1e7):
        log_r = np.log10(1e4) + slope * (np.log10(x) - np.log10(threshold))
        assert float(1 / law.window(1 * US, 100 * US, x)[1]) == pytest.approx(10**log_r, rel=1e-4)


def test_cells_take_the_nearest_state_of_the_worn_window():
    worn = cell(Wear(1e4, top_loss=0.1, bottom_loss=0.2))
    for target, expected in ((100.0, 100 * 10**-0.4), (1.0, 10**0.8), (20.0, 20.0)):
        g = np.asarray(program(worn, jnp.full(SHAPE, target * US))) / US
        assert g.mean() == pytest.approx(expected, rel=2e-3)
        assert g.std() == pytest.approx(0.5, rel=0.02)


def test_lives_are_weibull_and_nested_in_the_writes():
    law = cast(Wear(0.0, life=1e6, shape=1.7, dead_lrs=0.25))
    g = jnp.full(SHAPE, 20 * US)
    dead = {n: np.asarray(law.dead(SHAPE, KEY, n)) for n in (0.0, 1e5, 4e5, 1e6, 1e7)}
    before = np.zeros(SHAPE, bool)
    for n, now in dead.items():
        assert now.mean() == pytest.approx(1 - np.exp(-((n / 1e6) ** 1.7)), abs=0.006)
        assert float(law.dead_share(n)) == pytest.approx(1 - np.exp(-((n / 1e6) ** 1.7)), abs=1e-6)
        assert not (before & ~now).any()
        before = now
    stuck = np.asarray(law.bury(g, 1 * US, 100 * US, KEY, 1e6)) / US
    assert (stuck[dead[1e6]] > 50).mean() == pytest.approx(0.25, abs=0.01)
    assert set(np.unique(stuck.round(3))) == {1.0, 20.0, 100.0}
    later = np.asarray(law.bury(g, 1 * US, 100 * US, KEY, 1e7)) / US
    np.testing.assert_array_equal(later[dead[1e6]], stuck[dead[1e6]])  # where it is stuck, it stays


def test_without_writes_all_is_as_it_was():
    g = jnp.linspace(1, 100, 100_000).reshape(SHAPE) * US
    fresh = program(cell(None), g)
    for wear in (Wear(0.0, top_loss=0.5, bottom_loss=0.5, life=1e3, shape=0.3), Wear(1e9)):
        np.testing.assert_array_equal(program(cell(wear), g), fresh)


@jax.jit
@jax.value_and_grad
def total(factors, writes):
    """Conductances in uS of three cells whose wear has its fields times `factors`."""
    law = Wear(writes * factors[0], jnp.float32(1.5), 0.1 * factors[1], 0.1 * factors[2],
               jnp.float32(1e6) * factors[3], 2.0 * factors[4], jnp.float32(0.5))  # fmt: skip
    return cell(law).program(jnp.array([[2.0, 50.0, 99.0]]) * US, keys, None).sum() / US


@pytest.mark.parametrize("writes", [0.0, 1.0, 3e4])
def test_slopes_are_finite_and_those_of_finite_differences(writes):
    """Above the onset the window moves; below it, and for the lives, whose draws are fixed, nothing does."""
    ones, h = jnp.ones(5), 0.01
    slope = np.asarray(total(ones, writes)[1])
    assert np.isfinite(slope).all()
    for i in range(5):
        ends = [total(ones.at[i].add(step), writes)[0] for step in (h, -h)]
        assert slope[i] == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=0.02, abs=5e-3)


def test_the_share_of_dead_cells_has_a_slope_at_the_first_write():
    share = lambda n, shape: Wear(n, life=jnp.float32(1e3), shape=shape).dead_share()
    slope = jax.jit(jax.grad(share, argnums=(0, 1)))
    for n in (0.0, 500.0):
        slopes = slope(jnp.float32(n), jnp.float32(0.5))
        assert np.isfinite(slopes).all()
    finite = (share(jnp.float32(505.0), jnp.float32(0.5)) - share(jnp.float32(495.0), jnp.float32(0.5))) / 10
    assert float(slopes[0]) == pytest.approx(float(finite), rel=0.02)


def test_a_worn_cell_fails_its_verify_where_its_window_does_not_reach():
    tries = WriteVerify(GaussianWriteError(constant(2.0), US, US), constant(3.0), US, US, 12)
    steps = WriteVerify(PulseSteps(0.0, 1.5 * US, 1.5 * US, 0.1), constant(2.0), US, US, 120)
    for law in (tries, steps):
        worn = cell(Wear(1e4, top_loss=0.1), law)
        for target, works in ((20.0, True), (100.0, False)):
            found = attempt(worn, jnp.full((1, 40, 40), target * US))
            assert (float(found.success.mean()) > 0.9) == works
        reached = 100 + np.asarray(found.error) / US
        assert reached.mean() == pytest.approx(100 * 10**-0.4, abs=1.0)


def test_a_life_below_one_write_is_refused():
    with pytest.raises(DeviceError, match=r"life = 0 is out of range"):
        check(cast(Wear(0.0, life=0.0)), "worn")
