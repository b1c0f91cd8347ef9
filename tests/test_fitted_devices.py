"""Devices of known laws, measured into a CSV file by their own laws, fitted from the command line, and used."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import pim
from pim.cli import main
from pim.devices.cells.cell import Cell
from pim.devices.cells.conduction import Sinh
from pim.devices.cells.faults import StuckFaults
from pim.devices.fitting.cell_fit import fit_cells
from pim.devices.random import chip_key, root_key, site_key

Row = Mapping[str, Any]


def keys(seed: int):
    """Keys of the sites of one array of cells: the same at every time."""
    return lambda use: site_key(chip_key(root_key(seed), 0), use=use)


def programmed(cell: Cell, targets: np.ndarray, times: np.ndarray, seed: int) -> np.ndarray:
    """Conductances (S) of cells at times since programming (s), [times, cells]."""
    grid = jnp.asarray(targets, jnp.float32)[:, None]
    at = [cell.program(grid, keys(seed), jnp.float32(time)) for time in times]
    return np.array([np.asarray(g, float)[:, 0] for g in at])


def read_over_time(
    cell: Cell, targets: np.ndarray, times: np.ndarray, seed: int, cycle: int, late: float
) -> Iterator[Row]:
    """Rows of writing every target into a cell of its own and reading it at times since, `late` s after the pulse."""
    draw = np.random.default_rng(seed)
    g = programmed(cell, targets, times, seed)
    variance = cell.read_variance(jnp.asarray(g, jnp.float32))
    g = g + (0 if variance is None else np.sqrt(np.asarray(variance, float)) * draw.normal(size=g.shape))
    for i, target in enumerate(targets):
        about = {"device_id": f"c{i}", "cycle": cycle, "g_target_S": f"{target:.6g}"}
        yield {**about, "op": "prog", "t_s": 0, "v_V": 2.0, "pw_s": 1e-7}
        for time, value in zip(times, g[:, i], strict=True):
            yield {**about, "op": "read", "t_s": f"{time + late:.6g}", "g_S": f"{value:.6g}"}


def write_csv(path: Path, rows: list[Row], sidecar: str) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".toml").write_text(sidecar, encoding="utf-8")


def repeated(cell: Cell, targets: np.ndarray, count: int, seed: int) -> Iterator[Row]:
    """Rows of reading some cells again and again, a second after they were written."""
    draw = np.random.default_rng(seed)
    g = programmed(cell, targets, np.array([1.0]), seed)[0]
    sigma = np.sqrt(np.asarray(cell.read_variance(jnp.asarray(g, jnp.float32)), float))
    for i, target in enumerate(targets):
        about = {"device_id": f"n{i}", "g_target_S": f"{target:.6g}"}
        yield {**about, "op": "prog", "t_s": 0}
        for k, value in enumerate(g[i] + sigma[i] * draw.normal(size=count)):
            yield {**about, "op": "read", "t_s": f"{1 + 1e-3 * k:.6g}", "g_S": f"{value:.6g}"}


def swept(cell: Cell, cells: int, seed: int) -> Iterator[Row]:
    """Rows of a sweep of the reading voltage on some cells."""
    draw = np.random.default_rng(seed)
    v = np.concatenate([np.linspace(-0.4, -0.05, 8), np.linspace(0.05, 0.4, 8)])
    for i in range(cells):
        g = jnp.float32(draw.uniform(5e-6, 38e-6))
        terms = zip(cell.strengths(g), cell.conduction.drives(jnp.asarray(v, jnp.float32)), strict=True)
        current = sum(np.asarray(a * b, float) for a, b in terms)
        for voltage, value in zip(v, current * (1 + 0.005 * draw.normal(size=len(v))), strict=True):
            yield {"device_id": f"s{i}", "op": "read", "v_read_V": f"{voltage:.4g}", "i_A": f"{value:.6g}"}


def product_error(device, time: float) -> float:
    """Relative error of a product on some chips of a device."""
    draw = np.random.default_rng(7)
    weights, x = draw.normal(size=(128, 64)).astype(np.float32), draw.normal(size=(32, 128)).astype(np.float32)
    exact = x @ weights
    errors = []
    for seed in range(2):
        chip = pim.program(weights, device, key=root_key(seed), calibration=x, time=time)
        errors.append(np.linalg.norm(chip.matmul(x, key=root_key(100 + seed)) - exact) / np.linalg.norm(exact))
    return float(np.mean(errors))


# An HfOx cell of several laws


@pytest.fixture(scope="module")
def reram():
    """Technology C's relaxation and a tenth of a microsiemens of read noise, the curve of a sinh, and stuck cells."""
    faults = StuckFaults(stuck_lrs=0.003, stuck_hrs=0.03)
    laws = {"cell.read_noise.sigma": 0.1e-6, "cell.conduction": Sinh(v_0=0.4), "cell.faults": faults}
    return pim.replace(pim.preset("rram-techC"), laws)


@pytest.fixture(scope="module")
def fitted(reram, tmp_path_factory):
    """Several experiments on it in one file, fitted by the command line: what it found, and the device."""
    folder, cell = tmp_path_factory.mktemp("reram"), reram.model.cell
    levels = np.asarray(cell.relaxation.levels, float)
    targets = np.tile(levels, 120)
    two = [np.full(len(targets), level) for level in (2e-6, 38e-6)]
    rows = [row for k, ends in enumerate(two) for row in read_over_time(cell, ends, np.array([1.0]), 0, k + 1, 0.0)]
    rows += read_over_time(cell, targets, np.asarray(cell.relaxation.times, float), 0, 3, 0.0)
    rows += [*repeated(cell, np.tile(levels, 5), 24, 1), *swept(cell, 40, 2)]
    sidecar = 'technology = "HfOx RRAM"\ng_min_S = 0.0\ng_max_S = 40e-6\nread_voltage_V = 0.2\n'
    write_csv(folder / "mine.csv", rows, sidecar)
    assert main(["fit", str(folder / "mine.csv"), "--out", str(folder / "out"), "--quiet"]) == 0
    return json.loads((folder / "out" / "fit.json").read_text())["laws"], pim.load_device(folder / "out" / "mine.toml")


def test_one_file_of_several_experiments_gives_each_law(fitted, reram):
    laws, device = fitted
    truth, cell = reram.model.cell, device.model.cell
    value = lambda law, name: laws[law]["parameters"][name]["value"]
    assert {"relaxation", "read_noise", "conduction", "faults"} <= laws.keys()
    assert value("relaxation", "slow_share") == pytest.approx(float(truth.relaxation.path.slow_share), abs=0.05)
    assert value("relaxation", "slow_decades") == pytest.approx(float(truth.relaxation.path.slow_decades), rel=0.3)
    for k, tails in enumerate(np.asarray(truth.relaxation.nu)):
        assert tails.min() < value("relaxation", f"nu[{k}]") < tails.max()  # one for all levels
    assert float(cell.conduction.v_0) == pytest.approx(0.4, rel=0.02)
    assert float(cell.read_noise.sigma) == pytest.approx(0.1e-6, rel=0.1)
    untouched = replace(truth, relaxation=None, read_noise=None)
    g = programmed(untouched, np.full(laws["faults"]["cells"], 20e-6), np.array([1.0]), 0)[0]
    for name, stuck_at in (("stuck_lrs", g.max()), ("stuck_hrs", g.min())):
        assert value("faults", name) == pytest.approx(np.mean(g == stuck_at), abs=1e-3)
    assert cell.write_error is None  # shifts from the target have it in them


def test_a_product_on_the_fitted_device_errs_as_on_the_true_one(fitted, reram):
    """With the same share of stuck cells, of which 2,000 cells hold too few to tell it."""
    _, device = fitted
    device = pim.replace(device, {"cell.faults": reram.model.cell.faults})
    for time in (1.0, 1e5):
        true, ours = (product_error(d, time) for d in (reram, device))
        assert ours == pytest.approx(true, rel=0.08), time


# Phase-change cells


def test_a_preset_s_drift_comes_back(tmp_path):
    """Cells of the GST preset without its 1/f noise: exponents by state, and the spread of writing."""
    preset = pim.replace(pim.preset("pcm-gst25"), {"cell.slow_noise": None})
    cell = preset.model.cell
    targets = np.repeat(np.geomspace(0.05, 0.2, 5) * 25e-6, 400)
    t_0 = float(cell.drift.t_0)
    rows = read_over_time(cell, targets, np.concatenate([[0.0], np.geomspace(10, 1e6, 8)]), 0, 1, t_0)
    write_csv(tmp_path / "gst.csv", list(rows), 'technology = "PCM"\ng_max_S = 25e-6\n')
    found = fit_cells(tmp_path / "gst.csv", ["write", "drift"], progress=False)
    ours = found.device().model.cell
    assert float(ours.drift.t_0) == pytest.approx(t_0)
    u = jnp.asarray(np.geomspace(0.06, 0.18, 4), jnp.float32)
    np.testing.assert_allclose(ours.drift.mean(u), cell.drift.mean(u), rtol=0.05)
    np.testing.assert_allclose(ours.drift.spread(u), cell.drift.spread(u), rtol=0.15)
    np.testing.assert_allclose(ours.write_error.sigma(u * 25e-6), cell.write_error.sigma(u * 25e-6), rtol=0.08)
