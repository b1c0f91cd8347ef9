"""Capacitor ladders against the nodal equations of their circuit."""

import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.catalogue import preset
from pim.devices.cells.ladder import C2CLadder
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.devices.record import cast

KEY = root_key(2)


def nodal_output(bits, sections, end, parasitic, code: int) -> float:
    """Voltage of the last node: charge balance at every node, C V = C_bit b at each."""
    n = len(bits)
    matrix, charge = np.zeros((n, n)), np.zeros(n)
    for k in range(n):
        matrix[k, k] += bits[k] + parasitic + (end if k == 0 else 0.0)
        charge[k] = bits[k] * ((code >> k) & 1)
        if k + 1 < n:
            for i, j in ((k, k + 1), (k + 1, k)):
                matrix[i, i] += sections[k]
                matrix[i, j] -= sections[k]
    return float(np.linalg.solve(matrix, charge)[-1])


@pytest.mark.parametrize("parasitic", [0.0, 0.1])
def test_every_code_is_that_of_the_circuit(parasitic):
    law = cast(C2CLadder(4, 0.05, parasitic))
    codes = jnp.arange(16.0)
    drawn = law.drawn((16,), KEY)
    for k, found in enumerate(np.asarray(drawn.output(codes))):
        own = np.asarray(drawn.bits)[:, k], np.asarray(drawn.sections)[:, k], float(drawn.end[k]), parasitic
        assert found == pytest.approx(nodal_output(*own, k), rel=1e-5, abs=1e-7)


def test_ideal_capacitors_halve_from_bit_to_bit():
    law = cast(C2CLadder(7, 0.0))
    fraction = jnp.arange(128.0) / 127.0
    np.testing.assert_allclose(law.realised(fraction, KEY), fraction, atol=1e-6)
    np.testing.assert_allclose(law.drawn((), KEY).output(jnp.array(64.0)), 0.5, rtol=1e-6)


def test_mismatch_of_the_highest_bit_is_near_that_of_a_unit_and_parasitics_take_from_every_node():
    law = cast(C2CLadder(7, 0.01))
    half = np.asarray(law.realised(jnp.full(20_000, 64.0 / 127.0), KEY)) * 127 / 64
    # b C / (C + C_below), C_below = C (1 + (e_section + e_rest) / ...): both sides of the last node count a half
    assert half.std() == pytest.approx(0.5 * np.hypot(0.01, 0.01 * below_spread()), rel=0.03)
    shunted = cast(C2CLadder(7, 0.0, 0.1)).realised(jnp.arange(128.0) / 127, KEY)
    assert float(shunted[127]) < 2 / 2.1  # what the last node alone loses; those below lose more


def below_spread() -> float:
    """Spread of the capacitance below the last node, in units of sigma: s_k+1^2 from s_k^2 by the series rule."""
    # a node's total, bit and below, is 2C with variance 1 + v; in series with 2C, variance 2, both count a quarter
    v = 1.0
    for _ in range(6):
        v = (2.0 + 1.0 + v) / 16.0
    return float(np.sqrt(v))


def test_the_preset_holds_a_weight_to_its_mismatch():
    device = preset("sram-c2c22")
    assert 38 < device.precision().weights[0].snr_db < 46
    exact = replace(device, {"cell.ladder.sigma_unit": 0.0}).precision().weights[0]
    assert exact.snr_db == pytest.approx(10 * np.log10(12 * 127**2 * (0.98 / 9)), abs=1)  # rounding to 128 levels


def test_levels_and_ladder_must_agree():
    with pytest.raises(DeviceError, match=r"set cell\.levels = 128"):
        replace(preset("sram-c2c22"), {"cell.levels": 64})
    with pytest.raises(DeviceError, match="leave write-verify away"):
        replace(preset("sram-c2c22"), {"cell.write_error": preset("rram-radar").model.cell.write_error})
