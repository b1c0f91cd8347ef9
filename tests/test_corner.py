"""Corners: a device at the ends of process, temperature and supply."""

import dataclasses

import numpy as np
import pytest

import pim
from pim.devices.corner import COLD, HOT, Corner
from pim.devices.errors import DeviceError
from pim.devices.random import root_key

W = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)


def with_die_spread():
    """Current-domain SRAM whose dies differ by 5 % in the current of a cell."""
    device = pim.preset("sram-qs28")
    return pim.replace(device, {"cell.variation.sigma_die": 0.05, "adc": None})


def product(device):
    return np.asarray(pim.program(W, device, key=root_key(0)).matmul(X, key=None))


def test_a_slow_die_conducts_less_and_a_fast_one_more():
    device = pim.replace(with_die_spread(), {"bit_line": None})
    slow, typical, fast = (product(pim.at_corner(device, name)) for name in ("SS", "TT", "FF"))
    np.testing.assert_allclose(slow, typical * np.exp(-0.15), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fast, typical * np.exp(0.15), rtol=1e-4, atol=1e-3)


def test_a_typical_die_at_room_temperature_is_the_device_without_a_spread_of_dies():
    device = pim.preset("sram-qs28")
    np.testing.assert_array_equal(product(pim.at_corner(device, "TT")), product(device))


def test_a_corner_is_temperature_and_supply_of_the_circuits_too():
    device = with_die_spread()
    hot, cold = pim.at_corner(device, "SS"), pim.at_corner(device, "FF")
    assert (hot["environment.temperature"], cold["environment.temperature"]) == pytest.approx((HOT, COLD))
    assert (hot["vdd"], cold["vdd"]) == pytest.approx((0.81, 0.99))
    cost = {name: pim.cost(pim.at_corner(device, name), (64, 16)) for name in ("TT", "TT-hot", "TT-cold")}
    leak = {name: c.ledger.energy[c.ledger.components.index("leakage")] for name, c in cost.items()}
    assert float(leak["TT-hot"] / leak["TT"]) == pytest.approx(2 ** (98.15 / 10), rel=1e-3)
    assert float(leak["TT-cold"] / leak["TT"]) == pytest.approx(2 ** (-66.85 / 10), rel=1e-3)


def test_a_corner_of_ones_own():
    device = pim.at_corner(with_die_spread(), Corner(process=1.0, supply=1.05))
    assert device["vdd"] == pytest.approx(0.945)
    assert device["cell.variation.die"] == 1.0
    assert device.provenance["environment.temperature"].grade == "user"


def test_what_has_no_corners_says_so():
    with pytest.raises(DeviceError, match=r"unknown corner 'SS-hot'; did you mean"):
        pim.at_corner(pim.preset("sram-qs28"), "SS-hot")
    with pytest.raises(DeviceError, match="has no 'environment'"):
        pim.at_corner(pim.preset("ideal"), "SS")
    bare = pim.preset("sram-qs28")
    bare = dataclasses.replace(bare, model=dataclasses.replace(bare.model, environment=None))
    with pytest.raises(DeviceError, match="has no 'environment'"):
        pim.at_corner(bare, "SS")
