"""Noise of a product by source against closed forms, and what a diagnosis counts against counting by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pim.calibration import calibrate
from pim.devices.array_wires import ArrayWires
from pim.devices.bit_line import Saturation
from pim.devices.catalogue import preset, presets
from pim.devices.cells.cell import Cell
from pim.devices.cells.faults import StuckFaults
from pim.devices.cells.read_noise import AdditiveReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.adc import ADC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.errors import StudyError
from pim.evaluation import evaluate
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.model_snr import model_snr
from pim.noise_sources import MEANINGS, SOURCES, present, without
from pim.noise_split import decibels
from pim.programming import program

WINDOW = 40e-6
KEY, READ = root_key(3), root_key(5)
RNG = np.random.default_rng(0)
W = RNG.normal(size=(64, 32)).astype(np.float32)
X = RNG.normal(size=(256, 64)).astype(np.float32)
EXACT = X.astype(np.float64) @ W
SCALE = np.abs(W).max(axis=0)
FULL = np.abs(X).max()
WRITE = GaussianWriteError(Polynomial(np.ones(1)), 0.5e-6, WINDOW)


def device(**fields) -> Device:
    """A device without any error but those asked for, two tiles of 32 rows for `W`."""
    cell = {k: fields.pop(k) for k in ("write_error", "read_noise", "faults") if k in fields}
    macro = AnalogMacro(
        **{"rows": 32, "columns": 64, "slices": 1, "encoding": "differential", "weight_scale": "column"},
        **{"input_range": "calibrated", "v_read": 0.2, "t_read": 1e-8, "vdd": 0.9, "dac": ExactDAC(), **fields},
        cell=Cell(0.0, WINDOW, 1e-13, **cell),
    )
    return Device("made", "test", "made up", cast(macro), {}, {})


def diagnosis(key=READ, **fields):
    return program(W, device(**fields), key=KEY, calibration=X).diagnose(X, key=key)


def of_cells(variance: float) -> float:
    """Noise over signal of products in which each cell has an error of that variance (cells^2)."""
    levels = X.astype(np.float64) / FULL
    return float((variance * (levels**2).sum(axis=1)[:, None] * (SCALE * FULL)[None] ** 2).mean() / (EXACT**2).mean())


def test_without_errors_nothing_is_lost():
    found = diagnosis()
    assert found.split.total < 1e-12
    assert found.conversions is None
    assert found.ir_drop is None
    assert "sums are read exactly" in str(found)


def test_read_noise_alone_is_that_of_two_cells_a_weight():
    sigma = 0.8e-6
    split = diagnosis(read_noise=AdditiveReadNoise(sigma)).split
    assert split.noise["read"] == pytest.approx(of_cells(2 * (sigma / WINDOW) ** 2), rel=0.06)
    assert split.total == pytest.approx(split.noise["read"], rel=1e-4)
    assert "read" not in diagnosis(key=None, read_noise=AdditiveReadNoise(sigma)).split.noise


def test_write_error_alone_is_that_of_two_cells_a_weight():
    sigma = 0.5e-6
    law = GaussianWriteError(Polynomial(np.ones(1)), sigma, WINDOW)
    chips = [
        program(W, device(write_error=law), key=root_key(k), calibration=X).diagnose(X, key=READ) for k in range(6)
    ]
    # Half of the cells are asked for zero, from where they cannot go down: their error has half the variance, and a
    # mean that its square adds to; E[max(0, z)^2] = 1/2.
    expected = of_cells(1.5 * (sigma / WINDOW) ** 2)
    assert np.mean([c.split.noise["write"] for c in chips]) == pytest.approx(expected, rel=0.1)


def test_rounding_of_inputs_alone_is_a_twelfth_of_the_squared_step():
    split = diagnosis(dac=MultibitDAC(6.0, 100.0, 0.0, 0.0)).split
    step = FULL / 31
    expected = step**2 / 12 * (W.astype(np.float64) ** 2).sum(axis=0).mean() / (EXACT**2).mean()
    assert split.noise == {"quantisation": pytest.approx(expected, rel=0.05)}


def test_rounding_of_sums_alone_is_a_twelfth_of_the_squared_step_of_each_tile():
    chip = program(W, device(adc=ADC(8.0, 100.0, 8.0)), key=KEY, calibration=X)
    found = chip.diagnose(X, key=READ)
    assert chip.crossbar is not None
    steps = np.asarray(chip.crossbar.ranges.adc).reshape(2) / 127
    expected = ((steps**2).sum() / 12 * (SCALE * FULL) ** 2).mean() / (EXACT**2).mean()
    assert found.split.noise["adc"] == pytest.approx(expected, rel=0.05)
    parts = [X[:, :32].astype(np.float64) @ W[:32], X[:, 32:].astype(np.float64) @ W[32:]]
    by_tile = [
        (step**2 / 12 * (SCALE * FULL) ** 2).mean() / (p**2).mean() for step, p in zip(steps, parts, strict=True)
    ]
    np.testing.assert_allclose(found.tile_snr, -10 * np.log10(by_tile), atol=0.4)


def test_lost_cells_alone_take_their_share_of_the_squared_weights():
    share = 0.01
    chips = [
        program(W, device(faults=StuckFaults(0.0, share)), key=root_key(k), calibration=X).diagnose(X, key=READ)
        for k in range(8)
    ]
    expected = share * ((X.astype(np.float64) ** 2) @ (W.astype(np.float64) ** 2)).mean() / (EXACT**2).mean()
    assert np.mean([c.split.noise["faults"] for c in chips]) == pytest.approx(expected, rel=0.25)


def test_lines_that_hold_no_more_lose_what_is_beyond():
    limit = 1.5
    split = diagnosis(bit_line=Saturation(limit)).split
    unit = (SCALE * FULL)[None]
    sums = [(X[:, i : i + 32].astype(np.float64) @ W[i : i + 32]) / unit for i in (0, 32)]
    lost = sum((np.clip(s, -limit, limit) - s) * unit for s in sums)
    assert split.noise["nonlinearity"] == pytest.approx((lost**2).mean() / (EXACT**2).mean(), rel=1e-3)


def test_wires_alone_are_the_ir_drop():
    found = diagnosis(wires=ArrayWires(word_line=2.0, bit_line=2.0))
    assert found.ir_drop is not None
    assert found.ir_drop > 1e-3
    assert found.split.noise["wires"] == pytest.approx(found.ir_drop**2, rel=1e-3)
    assert "IR drop" in str(found)


@pytest.mark.slow
def test_independent_sources_add_up_to_the_error_of_the_product():
    fields = {
        "read_noise": AdditiveReadNoise(0.4e-6),
        "write_error": WRITE,
        "dac": MultibitDAC(6.0, 100.0, 0.0, 0.0),
        "adc": ADC(6.0, 100.0, 8.0),
    }
    chip = program(W, device(**fields), key=KEY, calibration=X)
    found = chip.diagnose(X, key=READ)
    split = found.split
    assert list(split.noise) == ["quantisation", "write", "read", "adc"]
    error = np.asarray(found.y, np.float64) - EXACT
    assert split.total == pytest.approx((error**2).mean() / (EXACT**2).mean(), rel=1e-4)
    assert abs(split.cross) < 0.05 * split.total
    assert split.total_snr == pytest.approx(-10 * np.log10(split.total))
    np.testing.assert_array_equal(found.y, chip.matmul(X, key=READ))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["split"]["noise"] == dict(split.noise)
    assert all(name in str(found) for name in (*split.noise, "cross", "clipped", "codes used"))


def test_conversions_are_counted_as_by_hand():
    """Two tiles of exact sums, a range that only half of the calibration sums fit in."""
    chip = program(W, device(adc=ADC(5.0, 50.0, 8.0)), key=KEY, calibration=X)
    found = chip.diagnose(X[:40].reshape(4, 10, 64), key=None)
    assert chip.crossbar is not None
    full = np.asarray(chip.crossbar.ranges.adc, np.float64).reshape(2)
    sums = np.stack([(X[:40, i : i + 32].astype(np.float64) @ W[i : i + 32]) / (SCALE * FULL)[None] for i in (0, 32)])
    level = sums / (full / 15)[:, None, None]
    clipped = (np.abs(level) > 15.5).mean(axis=1)
    assert found.conversions is not None
    assert clipped.mean() > 0.3
    np.testing.assert_allclose(found.conversions.clipped[:, 0], clipped, atol=1e-6)
    assert found.conversions.clipped_share == pytest.approx(clipped.mean())
    codes = np.clip(np.round(level), -15, 15).astype(int)
    np.testing.assert_array_equal(found.conversions.codes, np.arange(-15, 16))
    by_hand = np.bincount(codes.ravel() + 15, minlength=31)
    assert np.abs(found.conversions.counts[0] - by_hand).sum() <= 4  # a sum at a tie may fall on either side
    assert found.y.shape == (4, 10, 32)


def test_every_preset_loses_the_sources_that_are_taken_out():
    for row in presets():
        macro = preset(row.name).model
        if not isinstance(macro, AnalogMacro):
            continue
        for name in present(macro):
            left = present(without(macro, [name]))
            white = name == "read" and macro.cell.slow_noise is not None and macro.cell.slow_noise.has_white
            assert (name in left) == white, (row.name, name)
        assert present(without(macro, SOURCES)) == (), row.name
    assert set(MEANINGS) == set(SOURCES)


@pytest.mark.parametrize("name", ["rram-milo2021", "sram-c2c22"])
def test_a_preset_without_its_sources_is_exact(name):
    macro = without(preset(name).model, SOURCES)
    bare = Device(name, "test", "bare", macro, {}, {})
    y = program(W, bare, key=KEY, calibration=X).matmul(X, key=READ)
    np.testing.assert_allclose(y, EXACT, atol=1e-4)


def test_what_cannot_be_diagnosed_says_so():
    with pytest.raises(DeviceError, match="no analog cells"):
        program(W, preset("digital-28nm"), key=KEY).diagnose(X, key=None)
    many = program(W, device(), key=KEY, calibration=X, chips=2)
    with pytest.raises(DeviceError, match=r"chips\[0\]"):
        many.diagnose(X, key=None)
    with pytest.raises(DeviceError, match="zero everywhere"):
        program(W, device(), key=KEY, calibration=X).diagnose(np.zeros_like(X), key=None)


def test_decibels():
    assert decibels(0.001) == pytest.approx(30.0)
    assert decibels(0.0) == float("inf")
    assert decibels(1.0, 0.0) == float("-inf")


def test_a_compensated_chip_is_judged_with_its_gain():
    """Without the gain of its digital scale the split would count what was compensated."""
    chip = program(W, device(write_error=WRITE), key=KEY, calibration=X)
    assert chip.crossbar is not None
    louder = replace(chip, crossbar=replace(chip.crossbar, scale=1.1 * chip.crossbar.scale))
    split = louder.diagnose(X, key=None).split
    error = np.asarray(louder.matmul(X, key=None), np.float64) - EXACT
    assert split.total == pytest.approx((error**2).mean() / (EXACT**2).mean(), rel=1e-4)
    assert split.noise["write"] == pytest.approx(split.total, rel=1e-4)


def of_a_model(*operators: str) -> Plan:
    """The shipped model with those operators on rram-techC, calibrated, and all else exact."""
    devices = {"cells": preset("rram-techC"), "digital": preset("digital-28nm")}
    plan = place(
        load_model("tiny-stories"), System(devices, rules=[*((path, "cells") for path in operators), ("*", "digital")])
    )
    return calibrate(plan, story_text(3, 2), context=64, tokens=64)


@pytest.mark.slow
def test_few_bits_of_the_converters_dominate_a_matrix_and_many_do_not():
    plan = of_a_model("layers.0.ffn.down")
    worst = []
    for bits in (3.0, 10.0):
        scored = evaluate(plan.replace({"cells.adc.bits": bits}), story_text(2, 1), context=64, chips=1, tokens=40)
        (found,) = scored.snr(tokens=40, progress=False).matrices
        assert (found.layer, found.operator, found.device) == (0, "ffn.down", "cells")
        worst.append(found.split.worst)
    assert worst[0] == "adc" and worst[1] != "adc"


@pytest.mark.slow
def test_few_bits_of_the_converters_dominate_ffns_and_many_do_not(tmp_path):
    """With 4 bits most noise is the converters', with 10 it is the cells' and their inputs'."""
    plan = of_a_model("layers.*.ffn.*")
    result = evaluate(plan.replace({"cells.adc.bits": 4.0}), story_text(2, 1), context=64, chips=1, tokens=40)
    found = result.snr(tokens=40, progress=False)
    data = found.to_dataset()
    assert data["noise"].mean("matrix").idxmax("source") == "adc"
    assert data.attrs["tokens"] == 40
    assert [*data["operator"].values[:4]] == ["ffn.gate", "ffn.up", "ffn.down", "ffn.gate"]
    assert set(data["device"].values) == {"cells"}
    assert str(found).count("\n") == 8
    assert found.worst.split.total == data["total"].max()
    assert len(found.plot().axes) == 3
    written = result.report(tmp_path, noise=found)
    assert [path.name for path in written] == ["result.nc", "result.json", "report.html", "noise.nc"]
    assert "Noise of each product" in (tmp_path / "report.html").read_text()
    assert result.sample is not None
    fine = model_snr(plan.replace({"cells.adc.bits": 10.0}), result.sample.head(40), progress=False).to_dataset()
    assert fine["noise"].mean("matrix").idxmax("source") != "adc"
    assert (fine["noise"].sel(source="adc") < data["noise"].sel(source="adc")).all()
    for name in ("quantisation", "write"):  # the same cells and the same inputs
        np.testing.assert_allclose(fine["noise"].sel(source=name), data["noise"].sel(source=name), rtol=1e-4)


@pytest.mark.slow
def test_few_bits_of_the_converters_dominate_a_model_and_many_do_not():
    plan = of_a_model("layers.*.attention.?", "layers.*.ffn.*", "head")
    text = as_scored(story_text(2, 4), load_model("tiny-stories").tokenizer, context=256, max_tokens=256)
    worst = [
        model_snr(plan.replace({"cells.adc.bits": bits}), text, progress=False)
        .to_dataset()["noise"]
        .mean("matrix")
        .idxmax("source")
        .item()
        for bits in (4.0, 10.0)
    ]
    assert worst[0] == "adc"
    assert worst[1] != "adc"


def test_a_result_without_text_or_analog_devices_has_no_noise():
    plan = of_a_model()
    text = as_scored(story_text(2, 1), load_model("tiny-stories").tokenizer, context=64)
    with pytest.raises(StudyError, match="no matrix of tiny-stories"):
        model_snr(plan, text)
