"""Devices of known laws, measured into a CSV file by their own laws, fitted from the command line, and used."""

import csv
from collections.abc import Iterator, Mapping
from functools import partial
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


def repeated(cell: Cell, cells: int, count: int, seed: int) -> Iterator[Row]:
    """Rows of reading some cells again and again, a second after they were written."""
    draw = np.random.default_rng(seed)
    target = np.full(cells, 20e-6)
    g = programmed(cell, target, np.array([1.0]), seed)[0]
    sigma = np.sqrt(np.asarray(cell.read_variance(jnp.asarray(g, jnp.float32)), float))
    for i in range(cells):
        about = {"device_id": f"n{i}", "g_target_S": 20e-6}
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


def product_error(device, time: float, seeds: range) -> float:
    """Relative error of a product on some chips of a device."""
    draw = np.random.default_rng(7)
    weights, x = draw.normal(size=(128, 128)).astype(np.float32), draw.normal(size=(32, 128)).astype(np.float32)
    exact = x @ weights
    errors = []
    for seed in seeds:
        chip = pim.program(weights, device, key=root_key(seed), calibration=x, time=time)
        errors.append(np.linalg.norm(chip.matmul(x, key=root_key(100 + seed)) - exact) / np.linalg.norm(exact))
    return float(np.mean(errors))


@pytest.fixture(scope="module")
def reram():
    """An HfOx cell with the relaxation of technology C, the curve of a sinh, and stuck cells."""
    laws = {"cell.conduction": Sinh(v_0=0.4), "cell.faults": StuckFaults(stuck_lrs=0.02, stuck_hrs=0.04)}
    return pim.replace(pim.preset("rram-techC"), laws)


@pytest.fixture(scope="module")
def fitted(reram, tmp_path_factory):
    """Several experiments on it in one file, fitted by the command line."""
    folder = tmp_path_factory.mktemp("reram")
    cell = reram.model.cell
    targets = np.tile(np.asarray(cell.relaxation.levels, float), 150)
    two = [np.full(len(targets), level) for level in (2e-6, 38e-6)]
    rows = [row for k, ends in enumerate(two) for row in read_over_time(cell, ends, np.array([1.0]), 0, k + 1, 0.0)]
    rows += read_over_time(cell, targets, np.asarray(cell.relaxation.times, float), 0, 3, 0.0)
    rows += [*repeated(cell, 30, 24, 1), *swept(cell, 40, 2)]
    sidecar = 'technology = "HfOx RRAM"\ng_min_S = 0.0\ng_max_S = 40e-6\nread_voltage_V = 0.2\n'
    write_csv(folder / "mine.csv", rows, sidecar)
    assert main(["fit", str(folder / "mine.csv"), "--out", str(folder / "out"), "--quiet"]) == 0
    return fit_cells(folder / "mine.csv", progress=False), pim.load_device(folder / "out" / "mine.toml")


def test_one_file_of_several_experiments_gives_each_law(fitted, reram):
    found, device = fitted
    assert {"relaxation", "read_noise", "conduction", "faults"} <= set(found.laws)
    law, truth = found["relaxation"], reram.model.cell
    assert law["slow_share"] == pytest.approx(float(truth.relaxation.path.slow_share), abs=0.05)
    assert law["slow_decades"] == pytest.approx(float(truth.relaxation.path.slow_decades), rel=0.3)
    np.testing.assert_allclose(law.group("nu"), truth.relaxation.nu[:, 0], rtol=0.4)
    assert found["conduction"]["v_0"] == pytest.approx(0.4, rel=0.02)
    low, high = found["faults"].band("stuck_hrs")
    assert low <= 0.04 <= high
    assert float(device.model.cell.read_noise.sigma) == pytest.approx(float(truth.read_noise.sigma), rel=0.1)


def test_a_product_on_the_fitted_device_errs_as_on_the_true_one(fitted, reram):
    _, device = fitted
    for time in (1.0, 1e5):
        true, ours = (product_error(d, time, range(4)) for d in (reram, device))
        assert ours == pytest.approx(true, rel=0.06), time
