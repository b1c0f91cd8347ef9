"""What another supply does to energies and delays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pim
from pim.devices.errors import DeviceError
from pim.devices.record import cast
from pim.devices.supply import AlphaPower, SupplyTable
from pim.devices.technology import supply_polynomial

TABLE = SupplyTable(*(jnp.array(row) for row in ([0.6, 0.7, 0.8], [0.25, 0.62, 1.0], [2.0, 1.3, 1.0])))
ALPHA = cast(AlphaPower(nominal=1.0, threshold=0.35, alpha=1.3, lowest=0.5, highest=1.2))  # type: ignore[arg-type]
LAWS = {"table": (TABLE, 0.6, 0.8), "alpha": (ALPHA, 0.5, 1.2), "polynomial": (supply_polynomial(65e-9, 1.0), 0.8, 1.1)}


@pytest.mark.parametrize("name", list(LAWS))
@given(place=st.floats(0.01, 0.98))
def test_a_higher_supply_costs_more_and_is_faster(name, place):
    law, low, high = LAWS[name]
    vdd = low + place * (high - low)
    more = vdd + 0.01 * (high - low)
    assert float(law.energy(more)) > float(law.energy(vdd)) > 0
    assert 0 < float(law.delay(more)) < float(law.delay(vdd))
    assert np.isfinite(float(jax.grad(law.energy)(jnp.float32(vdd))))
    assert np.isfinite(float(jax.grad(law.delay)(jnp.float32(vdd))))


@pytest.mark.parametrize("law", [ALPHA, supply_polynomial(65e-9, 1.0)])
def test_nothing_changes_at_the_nominal_supply(law):
    assert float(law.energy(law.nominal)) == pytest.approx(1.0)
    assert float(law.delay(law.nominal)) == pytest.approx(1.0)


def test_a_table_is_met_at_its_points_and_is_a_power_of_the_supply_in_between():
    for vdd, energy, delay in zip((0.6, 0.7, 0.8), (0.25, 0.62, 1.0), (2.0, 1.3, 1.0), strict=True):
        assert float(TABLE.energy(vdd)) == pytest.approx(energy, rel=1e-5)
        assert float(TABLE.delay(vdd)) == pytest.approx(delay, rel=1e-5)
    middle = np.sqrt(0.6 * 0.7)
    assert float(TABLE.energy(middle)) == pytest.approx(np.sqrt(0.25 * 0.62), rel=1e-5)


def test_the_alpha_power_law_by_hand():
    assert float(ALPHA.energy(0.7)) == pytest.approx(0.49)
    assert float(ALPHA.delay(0.7)) == pytest.approx((0.7 / 0.35**1.3) / (1.0 / 0.65**1.3), rel=1e-5)


@pytest.mark.parametrize("vdd", [0.40, 1.3])
def test_a_supply_outside_the_law_is_refused(vdd):
    with pytest.raises(DeviceError, match="choose one in that range"):
        ALPHA.check(vdd)
    with pytest.raises(DeviceError, match=r"vdd = 0\.55 V, but the supply's table was measured from 0\.6 to 0\.8 V"):
        TABLE.check(0.55)


@pytest.mark.parametrize(
    "changes", [{"supply.threshold": 0.85}, {"supply.threshold": 0.9, "supply.alpha": 1.0}, {"supply.nominal": 0.3}]
)
def test_a_threshold_that_leaves_no_overdrive_is_refused(changes):
    """A power of what is not positive has no value; with an exponent of 1 it would have a wrong one."""
    with pytest.raises(DeviceError, match=r"supply\.threshold = 0\.\d+ V is not below supply\.lowest = 0\.85 V"):
        pim.replace(pim.preset("sram-jia2020"), changes)
    with pytest.raises(DeviceError, match=r"supply\.threshold = 0\.9 V is not below"):
        pim.cost(pim.preset("sram-jia2020"), (64, 64), over={"supply.threshold": [0.4, 0.9]})


def test_a_macro_follows_its_supply():
    """Energies in J by the law, those of capacitances by C V^2 of their own, all times by the law."""
    chip = pim.replace(pim.preset("sram-c2c22"), {"vdd": 1.0, "v_read": 1.0})
    lower = pim.replace(chip, {"vdd": 0.7, "v_read": 0.7})
    ledgers = [pim.cost(device, (64, 128)).ledger for device in (chip, lower)]
    high, low = ({name: (e, t) for name, e, t in zip(x.components, x.energy, x.latency, strict=True)} for x in ledgers)
    for name in ("adc", "dac", "lines", "shift_add"):
        assert float(low[name][0] / high[name][0]) == pytest.approx(0.49, rel=1e-4), name
    for name in ("adc", "dac", "cells", "shift_add"):
        assert float(low[name][1] / high[name][1]) == pytest.approx(float(ALPHA.delay(0.7)), rel=1e-4), name
    with pytest.raises(DeviceError, match="the law of the supply is taken"):
        pim.replace(chip, {"vdd": 0.4})
