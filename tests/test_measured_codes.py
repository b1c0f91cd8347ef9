"""The mean output code of a product is that of its conversions, one by one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pim
from pim import crossbar
from pim.chip import Chip
from pim.costs.measured_codes import mean_code
from pim.devices.catalogue import preset


def programmed(name: str, seed: int = 0, changes: dict | None = None) -> tuple[Chip, jax.Array]:
    rng = np.random.default_rng(seed)
    weights, x = rng.standard_t(4, (200, 30)) * 0.1, rng.standard_t(4, (64, 200))
    chip = pim.program(jnp.asarray(weights, jnp.float32), pim.replace(preset(name), changes or {}), key=pim.root_key(1))
    return chip, jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize(
    "name,changes",
    [
        ("rram-techC", {}),
        ("rram-neurram", {}),
        pytest.param("sram-qs28", {}, marks=pytest.mark.slow),
        ("rram-techC", {"adc.code": "offset"}),
    ],
)
def test_the_mean_code_is_that_of_the_conversions_counted_by_a_diagnosis(name, changes):
    chip, x = programmed(name, changes=changes)
    found = chip.diagnose(x, key=None).conversions
    assert found is not None
    share = np.abs(found.codes) / np.abs(found.codes).max()
    expected = (found.counts.sum(axis=0) * share).sum() / found.counts.sum()
    assert float(chip.operands(x).code) == pytest.approx(expected, rel=1e-4)
    assert chip.operands(x).source == "measured on inputs"


def test_calibrated_ranges_make_codes_larger():
    chip, x = programmed("rram-techC")
    assert chip.crossbar is not None
    ranges = crossbar.calibrate(chip.crossbar, chip.model, x)
    calibrated = replace(chip, crossbar=replace(chip.crossbar, ranges=ranges))
    assert float(calibrated.operands(x).code) > 2 * float(chip.operands(x).code) > 0


def test_codes_of_many_vectors_are_those_of_some_that_are_evenly_spaced():
    chip, x = programmed("rram-techC")
    assert chip.crossbar is not None
    many = jnp.repeat(x, 20, axis=0)  # 1280 vectors: every fifth
    few = mean_code(chip.crossbar, chip.model, x)
    assert few is not None
    assert float(chip.operands(many).code) == pytest.approx(float(few), rel=1e-4)


def test_a_converter_that_counts_takes_less_for_smaller_codes():
    device = pim.replace(preset("rram-techC"), {"adc.cost": pim.component("adc-cco28")})
    chip, x = programmed("rram-techC", changes={"adc.cost": pim.component("adc-cco28")})
    measured = chip.operands(x)
    assert float(measured.code) < 0.25
    adc = {}
    for label, operands in (("measured", measured), ("half", replace(measured, code=jnp.float32(0.5)))):
        ledger = pim.cost(device, (200, 30), operands=operands).ledger
        adc[label] = float(ledger.energy[ledger.components.index("adc")])
    assert adc["measured"] < 0.8 * adc["half"]


def test_without_converters_there_are_no_codes():
    chip, x = programmed("rram-techC", changes={"adc": None})
    assert chip.crossbar is not None and mean_code(chip.crossbar, chip.model, x) is None
    assert float(chip.operands(x).code) == 0.5
