"""Collectives over links: a ring walked step by step, and what holds for any amount and number of devices."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.costs.collectives import all_gather, all_reduce, transfer
from pim.devices.catalogue import component
from pim.devices.components.link import Link
from pim.devices.record import cast

LINK = cast(Link(energy_per_bit=2e-12, bytes_per_second=1e11, latency=1e-6))
COLLECTIVES = (all_gather, all_reduce)
AMOUNTS = st.floats(0, 1e9, width=32)


def walked(values: np.ndarray, link: Link) -> tuple[np.ndarray, float, float]:
    """Sums over devices in a ring, `values` [devices, devices, numbers of a share], with the time and energy of it.

    Each step every device sends one share of 4-byte numbers to the next, which adds it up, and later keeps it.
    """
    held, n = values.copy(), len(values)
    amount, time, energy = 4.0 * values.shape[-1], 0.0, 0.0
    for step in range(2 * (n - 1)):
        sent = [held[device, (device - step) % n].copy() for device in range(n)]
        for device in range(n):
            share = (device - step) % n
            taker = held[(device + 1) % n]
            taker[share] = sent[device] + taker[share] if step < n - 1 else sent[device]
            energy += float(link.energy(amount))
        time += float(link.time(amount))
    return held, time, energy


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_an_all_reduce_is_a_walk_around_the_ring(n):
    values = np.random.default_rng(n).integers(-9, 9, (n, n, 5)).astype(np.float64)
    held, time, energy = walked(values, LINK)
    for device in held:
        np.testing.assert_array_equal(device, values.sum(axis=0))
    found = all_reduce(LINK, 4.0 * n * 5, n)
    assert np.allclose(found, (time, energy), rtol=1e-5)


@pytest.mark.parametrize("collective", COLLECTIVES)
@given(amount=AMOUNTS)
def test_one_device_alone_has_nothing_to_hand_over(collective, amount):
    assert [float(figure) for figure in collective(LINK, amount, 1)] == [0.0, 0.0]


@given(AMOUNTS, st.integers(2, 64))
def test_adding_up_is_gathering_twice_and_more_devices_send_more(amount, n):
    gathered, summed, more = (
        np.array(f(LINK, amount, m)) for f, m in ((all_gather, n), (all_reduce, n), (all_gather, n + 1))
    )
    assert np.allclose(summed, 2 * gathered, rtol=1e-5)
    assert (more >= gathered * (1 - 1e-6)).all()
    time, energy = gathered
    assert np.isclose(energy, 8 * (n - 1) * amount * 2e-12, rtol=1e-4)  # every device gets all but its own share
    assert time >= (n - 1) * 1e-6 * (1 - 1e-5) and time >= (n - 1) / n * amount / 1e11 * (1 - 1e-5)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_many_amounts_are_one_call(collective):
    amounts = jnp.asarray([0.0, 1e3, 1e6, 1e9])
    time, energy = collective(LINK, amounts, 8)
    for i, amount in enumerate(amounts):
        one = collective(LINK, amount, 8)
        assert np.allclose(one, (time[i], energy[i]), rtol=1e-6)
    assert float(transfer(LINK, amounts)[0][3]) == pytest.approx(1e-6 + 1e9 / 1e11)


def test_the_link_of_an_a100_is_the_fit_to_its_measurements():
    """6,060 ns and 0.009 ns a byte of its share, for each of n - 1 steps: as AttAcc's simulator fits them."""
    link = component("link-nvlink3").model
    for amount in (2 * 12288.0, 64 * 2 * 12288.0, 1e8):
        wanted = 7 * (6060e-9 + 0.009e-9 * amount / 8)
        assert float(all_reduce(link, amount, 8)[0]) == pytest.approx(wanted, rel=1e-3)
