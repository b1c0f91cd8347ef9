"""Fits: a cell of known laws is measured on paper, fitted, and compared with the truth."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, t

from pim.devices.catalogue import preset
from pim.devices.cells.relaxation import Z_GRID
from pim.devices.constants import BOLTZMANN, ELECTRONVOLT
from pim.devices.errors import DeviceError
from pim.devices.fitting.cell_fit import fit_cells
from pim.devices.fitting.history import history
from pim.devices.fitting.pulse_update_fit import neurosim_label
from pim.devices.fitting.shifts import times_of
from pim.devices.fitting.sidecar import Sidecar
from pim.devices.fitting.table import Measurements, measurements
from pim.devices.fitting.weighted import proportion

SEEDS = 50

# Measurements of known cells: columns, what they were made of, and the sidecar

Truth = dict[str, dict[str, float]]
Experiment = tuple[dict[str, Any], Truth, Sidecar]


def simulate(columns: dict[str, Any], sidecar: Sidecar) -> Measurements:
    return measurements(columns, "simulated.csv", None, sidecar)


def written(seed: int, nu: float = np.inf) -> Experiment:
    """A GST cell's write error (0.263 + 1.965 x - 1.173 x^2 uS, G_max 25 uS), normal or with tails."""
    draw = np.random.default_rng(seed)
    target = np.repeat(np.linspace(0.5, 25, 16) * 1e-6, 160)
    sigma = np.polynomial.polynomial.polyval(target / 25e-6, [0.26348e-6, 1.9650e-6, -1.1731e-6])
    wide = 1.0 if np.isinf(nu) else norm.ppf(0.75) / t.ppf(0.75, nu)
    noise = draw.normal(size=len(target)) if np.isinf(nu) else wide * draw.standard_t(nu, len(target))
    truth = {"sigma_0": 0.26348e-6, "sigma_1": 1.9650e-6, "sigma_2": -1.1731e-6, "bias": 0.0}
    truth |= {} if np.isinf(nu) else {"nu": nu}
    g = np.maximum(target + sigma * noise, -9e-6)
    columns = {"device_id": np.arange(len(target)), "op": ["prog"] * len(target), "g_S": g, "g_target_S": target}
    return columns, {"write_error": truth}, Sidecar(g_max_S=25e-6)


def verified(seed: int) -> Experiment:
    """Pulses until a write succeeds; after 30 it has failed."""
    draw = np.random.default_rng(seed)
    need = 1 + draw.negative_binomial(2.0, 2.0 / (2.0 + 5.0), 600)
    pulses = np.minimum(need, 30)
    cell = np.repeat(np.arange(600), pulses)
    ok = np.where(np.diff(cell, append=-1) != 0, (need <= 30)[cell], np.nan)
    columns = {"device_id": cell, "op": ["prog"] * len(cell), "ok": ok, "g_target_S": np.full(len(cell), 1e-5),
               "g_S": np.full(len(cell), 1e-5)}  # fmt: skip
    return columns, {"pulse_count": {"mean": 6.0, "shape": 2.0}}, Sidecar()


TIMES = np.array([0.01, 0.1, 1.0, 100.0, 1e5])


def relaxed(seed: int, nu: tuple[float, ...] = (6, 7, 8, 9, 10), cells: int = 150) -> Experiment:
    """Technology C's variance, 1.84 log10(t / s) + 4.41 uS^2, along a path; tails lighter than its own where asked."""
    draw = np.random.default_rng(seed)
    levels, s = np.array([10.0, 18.0, 26.0, 34.0]), np.log10(TIMES)
    apart = abs(s[:, None] - s[None, :])
    correlation = np.where(apart == 0, 1.0, 0.768 * np.exp(-apart / 7.24))
    z = draw.normal(size=(len(levels), cells, len(s))) @ np.linalg.cholesky(correlation).T
    variance, mean = (1.84 * s + 4.41) * np.linspace(0.8, 1.2, 4)[:, None], -0.2 * s - 0.3
    tails = np.array(nu)
    scale = np.sqrt(variance * (tails - 2) / tails)
    shift = mean + scale[:, None] * t.ppf(norm.cdf(z), tails)
    g = np.maximum(levels[:, None, None] + shift, 0.0)
    truth = {f"variance_slope[{i}]": 1.84e-12 * k for i, k in enumerate(np.linspace(0.8, 1.2, 4))}
    truth |= {f"variance_at_1s[{i}]": 4.41e-12 * k for i, k in enumerate(np.linspace(0.8, 1.2, 4))}
    truth |= {f"mean_slope[{i}]": -0.2e-6 for i in range(4)} | {f"mean_at_1s[{i}]": -0.3e-6 for i in range(4)}
    truth |= {f"nu[{k}]": v for k, v in enumerate(tails)} | {"slow_share": 0.768, "slow_decades": 7.24}
    truth |= {f"scale[{k * 4 + i}]": 1e-6 * scale[i, k] for k in range(5) for i in range(4)}
    truth |= {f"location[{k * 4 + i}]": 1e-6 * mean[k] for k in range(5) for i in range(4)}
    shape = np.broadcast_shapes(g.shape)
    device = np.broadcast_to(np.arange(4 * cells).reshape(4, cells, 1), shape).ravel()
    columns = {
        "device_id": device, "op": ["read"] * device.size, "g_S": 1e-6 * g.ravel(),
        "t_s": np.broadcast_to(TIMES, shape).ravel(),
        "g_target_S": 1e-6 * np.broadcast_to(levels[:, None, None], shape).ravel(),
    }  # fmt: skip
    return columns, {"relaxation": truth}, Sidecar(g_max_S=40e-6)


def drifted(seed: int) -> Experiment:
    """A phase-change cell, nu falling with ln u, its lowest states sinking into the noise floor."""
    draw = np.random.default_rng(seed)
    u = np.repeat(np.array([0.04, 0.1, 0.25, 0.5, 1.0]), 60)
    time = np.geomspace(20, 2e6, 8)
    nu = 0.045 - 0.0155 * np.log(u) + (0.02 - 0.005 * np.log(u)) * draw.normal(size=len(u))
    g = 25e-6 * u[:, None] * (time / 20) ** -nu[:, None] * np.exp(0.01 * draw.normal(size=(len(u), len(time))))
    floor = 0.35e-6
    device = np.repeat(np.arange(len(u)), len(time))
    columns = {
        "device_id": device, "op": ["read"] * device.size, "g_S": np.maximum(g, floor).ravel(),
        "t_s": np.tile(time, len(u)), "g_target_S": np.repeat(25e-6 * u, len(time)),
    }  # fmt: skip
    truth = {"nu_mean": 0.045, "nu_mean_slope": -0.0155, "nu_sigma": 0.02, "nu_sigma_slope": -0.005}
    return columns, {"drift": truth}, Sidecar(technology="PCM", g_max_S=25e-6, noise_floor_S=floor)


def noisy(seed: int) -> Experiment:
    """1/f noise of an amplitude lognormal over cells, a white floor, and telegraph noise in a seventh of them."""
    draw = np.random.default_rng(seed)
    cells, count, interval = 100, 512, 2.5e-3
    g = 40e-6 * np.exp(draw.uniform(np.log(0.05), 0, cells))
    amplitude = 4e-6 * (g / 40e-6) ** -0.8 * np.exp(0.5 * draw.normal(size=cells))
    white = 5e-7 * np.ones(cells)
    frequency = np.fft.rfftfreq(8 * count, interval)
    density = np.zeros((cells, len(frequency)))
    density[:, 1:] = amplitude[:, None] / frequency[1:] + white[:, None]
    turns = draw.normal(size=(cells, len(frequency))) + 1j * draw.normal(size=(cells, len(frequency)))
    relative = np.fft.irfft(turns * np.sqrt(density * 8 * count / (4 * interval)), axis=1)[:, :count]
    has = draw.random(cells) < 1 / 7
    amplitude[has] = np.nan
    relative[has] = np.sqrt(white[0] / (2 * interval)) * draw.normal(size=(has.sum(), count))
    down, up = 0.05, 0.1
    state, filled = draw.random(has.sum()) < down / (down + up), np.empty((has.sum(), count))
    for k in range(count):
        filled[:, k] = state
        state = np.where(state, draw.random(len(state)) >= up, draw.random(len(state)) < down)
    relative[has] -= 0.1 * filled
    reading = g[:, None] * (1 + relative)
    device = np.repeat(np.arange(cells), count)
    columns = {
        "device_id": device, "op": ["read"] * device.size, "g_S": reading.ravel(),
        "t_s": np.tile(interval * np.arange(1, count + 1), cells), "g_target_S": np.repeat(g, count),
    }  # fmt: skip
    rates = {"rate_down": -np.log1p(-down) / interval, "rate_up": -np.log1p(-up) / interval}
    truth = {
        "flicker": {"amplitude": 4e-6, "amplitude_log": 0.5, "exponent": -0.8, "white": 5e-7},
        "telegraph": {"share": 1 / 7, "step": 0.1, "filled": down / (down + up), **rates},
    }
    return columns, truth, Sidecar(g_max_S=40e-6, read_bandwidth_Hz=1e6)


def repeated(seed: int) -> Experiment:
    """Some readings of each cell: a noise in proportion to the conductance, lognormal over cells."""
    draw = np.random.default_rng(seed)
    g = np.exp(draw.uniform(np.log(2e-6), np.log(40e-6), 80))
    sigma = 0.01 * g * np.exp(0.3 * draw.normal(size=80))
    reading = g[:, None] + sigma[:, None] * draw.normal(size=(80, 24))
    columns = {"device_id": np.repeat(np.arange(80), 24), "op": ["read"] * 1920, "g_S": reading.ravel()}
    return columns, {"read_noise": {"sigma_relative": 0.01, "sigma_log": 0.3, "exponent": 1.0}}, Sidecar()


def baked(seed: int) -> Experiment:
    """Bakes at four temperatures, lost after a lognormal time with 1.1 eV; and a sweep on other cells."""
    draw = np.random.default_rng(seed)
    temperature = np.repeat([400.0, 440.0, 480.0, 520.0], 40)
    time = np.geomspace(10, 1e7, 15)
    inverse = ELECTRONVOLT / (BOLTZMANN * temperature)
    centre = np.log(2e4) + 1.1 * (inverse - inverse.mean())
    lost = np.exp(centre + 0.8 * draw.normal(size=len(temperature)))
    g = 50e-6 * (1 - 0.1 * (time / lost[:, None]) ** 0.3)
    bake = {
        "device_id": np.repeat(np.arange(160), 16), "t_s": np.tile(np.concatenate([[0.0], time]), 160),
        "g_S": np.column_stack([np.full(160, 50e-6), np.maximum(g, 1e-6)]).ravel(),
        "temp_K": np.repeat(temperature, 16),
    }  # fmt: skip
    points = np.array([280.0, 300, 320, 340, 360])
    slope = -1e-3 + 2e-4 * draw.normal(size=60)
    sweep = 30e-6 * (1 + slope[:, None] * (points - 320.0)) * (1 + 1e-3 * draw.normal(size=(60, 5)))
    warm = {
        "device_id": np.repeat(np.arange(160, 220), 5), "t_s": np.full(300, np.nan), "g_S": sweep.ravel(),
        "temp_K": np.tile(points, 60),
    }  # fmt: skip
    columns = {name: np.concatenate([bake[name], warm[name]]) for name in bake}
    columns["op"] = ["read"] * len(columns["g_S"])
    retention = {"time": 2e4, "activation_energy": 1.1 * ELECTRONVOLT, "sigma_log": 0.8}
    return columns, {"retention": retention, "tcr": {"tcr": -1e-3, "tcr_sigma": 2e-4}}, Sidecar()


def swept(seed: int, law: str = "sinh") -> Experiment:
    """I(V) of a sinh, or of the cubic of Milo 2021."""
    draw = np.random.default_rng(seed)
    g = np.exp(draw.uniform(np.log(50e-6), np.log(225e-6), 40))[:, None]
    v = np.linspace(-0.5, 0.5, 20)
    x = np.log10(g)
    second = np.polynomial.polynomial.polyval(x, [2.37e-4, 5.4e-5])
    third = np.polynomial.polynomial.polyval(x, [8.24e-4, 1.85e-4])
    i = g * 0.4 * np.sinh(v / 0.4) if law == "sinh" else g * v + second * v**2 + third * v**3
    i = i * (1 + 0.01 * draw.normal(size=i.shape))
    columns = {
        "device_id": np.repeat(np.arange(40), 20),
        "op": ["read"] * 800,
        "v_read_V": np.tile(v, 40),
        "i_A": i.ravel(),
    }
    sinh = {"v_0": 0.4, "noise": 0.01}
    cubic = {"quadratic_0": 2.37e-4, "quadratic_1": 5.4e-5, "cubic_0": 8.24e-4, "cubic_1": 1.85e-4, "noise": 0.01}
    return columns, {"conduction": sinh if law == "sinh" else cubic}, Sidecar()


def pulsed(seed: int, curvature: float = 1.5) -> Experiment:
    """Trains of 64 pulses up and down across the window of each cell, by soft bounds; windows differ."""
    draw = np.random.default_rng(seed)
    devices, cycles, pulses = 60, 3, 64
    ratio = np.exp(-curvature)  # of the last to the first step
    slope = 1 - ratio ** (1 / pulses)
    first = slope / (1 - ratio)
    window = 38e-6 * np.exp(0.1 * draw.normal(size=devices))
    rows = []
    for cycle in range(cycles):
        u = np.zeros(devices)
        rows.append((cycle, "read", u))
        for op, way in (("set", 1), ("reset", -1)):
            for _ in range(pulses):
                u = u + way * (first - slope * (u if way > 0 else 1 - u) + 0.003 * draw.normal(size=devices))
                rows.append((cycle, op, u))
    cycle, op, u = zip(*rows, strict=True)
    columns = {
        "device_id": np.tile(np.arange(devices), len(rows)), "cycle": np.repeat(cycle, devices) + 1.0,
        "op": np.repeat(op, devices), "g_S": (2e-6 + window * np.array(u)).ravel(),
    }  # fmt: skip
    truth = {"first": first, "last": first * ratio, "curvature": curvature, "c2c": 0.003, "d2d": 0.1003,
             "nonlinearity": float(neurosim_label(curvature))}  # fmt: skip
    return columns, {"pulse_up": truth, "pulse_down": truth}, Sidecar()


def faulty(seed: int) -> Experiment:
    """A chip that is asked for its two ends; some cells stay where they are."""
    draw = np.random.default_rng(seed)
    shares = {"stuck_lrs": 0.03, "stuck_hrs": 0.08, "stuck_mid": 0.02, "non_forming": 0.05}
    state = draw.choice(5, 400, p=[1 - sum(shares.values()), *shares.values()])
    still = np.select([state == 1, state == 2, state == 3], [39e-6, 1e-6, 20e-6], 0.5e-6)
    parts = []
    for k, target in enumerate((2e-6, 38e-6)):
        g = np.where(state == 0, target, still) + 0.5e-6 * draw.normal(size=400)
        parts.append({"op": ["prog"] * 400, "g_target_S": [target] * 400, "g_S": g, "cycle": [k + 1] * 400,
                      "device_id": range(400), "ok": [""] * 400})  # fmt: skip
    parts.append({"op": ["form"] * 400, "g_target_S": [""] * 400, "g_S": [""] * 400, "cycle": [0] * 400,
                  "device_id": range(400), "ok": np.where(state == 4, 0, 1)})  # fmt: skip
    columns = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    return columns, {"faults": shares}, Sidecar(g_min_S=1e-6, g_max_S=40e-6)


def cycled(seed: int) -> Experiment:
    """Windows that close by a fifth of a decade for each decade of cycles, and cells that die after Weibull cycles."""
    draw = np.random.default_rng(seed)
    cycle = np.round(10.0 ** np.arange(0, 7.5, 0.5))
    life = 1e5 * draw.weibull(1.3, 80)
    window = 1.9 - 0.05 * np.log10(cycle) + 0.05 * draw.normal(size=(80, len(cycle)))
    window = np.where(cycle > life[:, None], 0.1, window)
    window_truth = {"window": 1.9, "window_slope": -0.05, "window_sigma": 0.05}
    high = np.full(window.shape, 40e-6)
    columns = {
        "device_id": np.repeat(np.arange(80), 2 * len(cycle)), "cycle": np.tile(np.repeat(cycle, 2), 80),
        "op": np.tile(["set", "reset"], 80 * len(cycle)), "g_S": np.stack([high, high / 10**window], axis=2).ravel(),
    }  # fmt: skip
    return columns, {"endurance": {"life": 1e5, "shape": 1.3}, "window": window_truth}, Sidecar()


EXPERIMENTS: dict[str, tuple[Callable[[int], Experiment], str]] = {
    "write": (written, "write"),
    "write, heavy tails": (partial(written, nu=3.5), "write"),
    "pulses to success": (verified, "write"),
    "relaxation": (relaxed, "relaxation"),
    "drift": (drifted, "drift"),
    "spectra": (noisy, "read_noise"),
    "read noise": (repeated, "read_noise"),
    "temperature": (baked, "temperature"),
    "sinh": (swept, "conduction"),
    "cubic": (partial(swept, law="cubic"), "conduction"),
    "pulses": (pulsed, "pulses"),
    "faults": (faulty, "faults"),
    "endurance": (cycled, "endurance"),
}


def covered(name: str, seeds: range) -> Counter[tuple[str, str]]:
    """How many of the seeds' bands hold each true parameter; a law that was not found holds none."""
    make, what = EXPERIMENTS[name]
    held: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        columns, truth, sidecar = make(seed)
        found = fit_cells(simulate(columns, sidecar), what, seed=seed)
        for law, parameters in truth.items():
            for parameter, value in parameters.items():
                low, high = found[law].band(parameter) if parameter in found[law] else (np.nan, np.nan)
                held[law, parameter] += low <= value <= high
    return held


# The truth is found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_truth_is_found_and_the_law_chosen(name: str):
    make, what = EXPERIMENTS[name]
    columns, truth, sidecar = make(1)
    found = fit_cells(simulate(columns, sidecar), what)
    for law, parameters in truth.items():
        fit = found[law]
        for parameter, value in parameters.items():
            low, high = fit.band(parameter)
            assert abs(fit[parameter] - value) < 2 * (high - low), f"{law}: {parameter}"
        assert fit.held_out is not None and np.isfinite(fit.held_out)
        np.testing.assert_allclose(fit.covariance, fit.covariance.T)
        assert (np.linalg.eigvalsh(fit.covariance) >= -1e-9 * np.trace(fit.covariance)).all()
        assert (fit.low <= fit.values).all() and (fit.values <= fit.high).all()


@pytest.mark.parametrize("name", ["read noise", "sinh"])
def test_bands_of_quick_fits_hold_as_often_as_they_say(name: str):
    held = covered(name, range(SEEDS))
    assert 0.90 <= sum(held.values()) / (SEEDS * len(held)) <= 1
    assert min(held.values()) >= 42, held


@pytest.mark.slow
def test_all_bands_hold_as_often_as_they_say():
    held = Counter({(name, *key): count for name in EXPERIMENTS for key, count in covered(name, range(SEEDS)).items()})
    print(f"pooled coverage {sum(held.values()) / (SEEDS * len(held)):.4f} of {len(held)} parameters")
    assert 0.92 <= sum(held.values()) / (SEEDS * len(held)) <= 0.98
    assert min(held.values()) >= 42, {key: count for key, count in held.items() if count < 42}


def test_the_same_seed_gives_the_same_bands_and_the_order_of_the_rows_does_not_matter():
    columns, _, sidecar = drifted(3)
    once = fit_cells(simulate(columns, sidecar), "drift", seed=5)["drift"]
    mixed = np.random.default_rng(0).permutation(len(columns["g_S"]))
    shuffled = {name: np.asarray(values)[mixed] for name, values in columns.items()}
    again = fit_cells(simulate(shuffled | {"seq": np.arange(len(mixed))[mixed]}, sidecar), "drift", seed=5)["drift"]
    np.testing.assert_allclose(once.values, again.values, rtol=1e-9)
    np.testing.assert_allclose(once.low, again.low, rtol=1e-9)


# The laws, one by one


@pytest.mark.parametrize("kind", ["normal", "student", "lognormal"])
def test_the_residuals_tell_the_distribution(kind: str):
    draw = np.random.default_rng(4)
    target = np.repeat(np.linspace(5e-6, 40e-6, 8), 200)
    z = draw.standard_t(3, len(target)) if kind == "student" else draw.normal(size=len(target))
    g = target * np.exp(0.3 * z) if kind == "lognormal" else target + 1e-6 * z
    columns = {"device_id": np.arange(len(g)), "op": ["prog"] * len(g), "g_S": g, "g_target_S": target}
    found = fit_cells(columns, "write")
    law = found["write_error"]
    assert law.kind == kind == min(law.criteria, key=lambda name: law.criteria[name])
    assert law.scores.std() == pytest.approx(1, abs=0.1)
    names = {"normal": "GaussianWriteError", "student": "StudentWriteError", "lognormal": "LognormalWriteError"}
    assert type(found.device().model.cell.write_error).__name__ == names[kind]


def test_cells_that_are_stuck_do_not_widen_the_write_error():
    columns, _, sidecar = faulty(0)
    found = fit_cells(simulate(columns, sidecar))
    assert found["write_error"]["sigma_0"] == pytest.approx(0.5e-6, rel=0.1)
    assert found["write_error"].cells < 400
    cell = found.device().model.cell
    shares = {name: found["faults"][name] for name in ("stuck_lrs", "stuck_hrs", "non_forming")}
    assert float(cell.faults.stuck_lrs) == pytest.approx(shares["stuck_lrs"])
    assert float(cell.faults.stuck_hrs) == pytest.approx(shares["stuck_hrs"] + shares["non_forming"])


def test_intervals_of_shares_are_the_exact_ones():
    assert proportion(0, 100)[1:] == pytest.approx((0, 1 - 0.025 ** (1 / 100)))
    assert proportion(100, 100)[1:] == pytest.approx((0.025 ** (1 / 100), 1))
    assert proportion(10, 100)[1:] == pytest.approx((0.0490, 0.1762), abs=1e-4)


@pytest.mark.parametrize("a", [0.1, 0.5, 1.0, 5.0, -0.5])
def test_the_label_is_the_largest_departure_from_a_line(a: float):
    p = np.linspace(0, 1, 100_001)
    f = np.expm1(-p / a) / np.expm1(-1 / a)
    assert float(neurosim_label(1 / a)) == pytest.approx(np.sign(a) * 10.10 * abs(f - p).max(), rel=1e-6)


def test_an_exponential_step_is_told_from_soft_bounds():
    draw = np.random.default_rng(0)
    u, rows = np.zeros(20), []
    for cycle in range(3):
        u = np.zeros(20)
        rows.append((cycle, "read", u))
        for _ in range(60):
            u = u + 0.04 * (1 - 0.12 * np.exp(2.0 * u)) + 0.001 * draw.normal(size=20)
            rows.append((cycle, "set", u))
    cycle, op, u = zip(*rows, strict=True)
    columns = {
        "device_id": np.tile(np.arange(20), len(rows)), "cycle": np.repeat(cycle, 20), "op": np.repeat(op, 20),
        "g_S": 1e-6 + 2e-5 * np.concatenate(u),
    }  # fmt: skip
    law = fit_cells(columns, "pulses")["pulse_up"]
    window = np.mean(u[60])  # where the trains end
    assert law.kind == "exponential_step"
    assert law["bend"] == pytest.approx(2.0 * window, rel=0.15)
    assert law["first"] == pytest.approx(0.04 * 0.88 / window, rel=0.05)
    assert law["nonlinearity"] > 0


def test_the_bend_of_a_curve_is_told_at_the_read_voltage_and_at_half_of_it():
    columns, _, _ = swept(0)
    law = fit_cells(simulate(columns, Sidecar(read_voltage_V=0.2)), "conduction")["conduction"]
    exact = lambda v: np.sinh(v / 0.4) / (v / 0.4) - 1
    assert law.constants["nonlinearity"] == pytest.approx(exact(0.2), rel=0.05)
    assert law.constants["nonlinearity_half"] == pytest.approx(exact(0.1), rel=0.05)


def test_a_write_is_what_one_cell_was_told_in_one_cycle():
    rows = [
        ("a", 1, 0.0, "prog", 1.0, 4.0), ("a", 1, 1.0, "prog", 2.0, 4.0), ("a", 1, 3.0, "read", 3.0, None),
        ("a", 2, 9.0, "prog", 5.0, 6.0), ("b", 1, 0.0, "prog", None, 4.0), ("b", 1, 0.5, "read", 3.5, 4.0),
    ]  # fmt: skip
    names = ("device_id", "cycle", "t_s", "op", "g_S", "g_target_S")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    for name in ("g_S", "g_target_S"):
        columns[name] = [None if value is None else value * 1e-6 for value in columns[name]]
    writes, readings = history(measurements(columns))
    np.testing.assert_allclose(writes.target, [4e-6, 6e-6, 4e-6])
    np.testing.assert_allclose(writes.written, [2e-6, 5e-6, 3.5e-6])
    np.testing.assert_array_equal(writes.pulses, [2, 1, 1])
    np.testing.assert_allclose(readings.age, [2.0, 0.5])
    np.testing.assert_allclose(readings.base, [2e-6, np.nan])


# The device


@pytest.fixture(scope="module")
def tech_c():
    """Shifts of technology C's own law at its own times: 16 levels, 400 cells each, correlated as measured."""
    law = preset("rram-techC").model.cell.relaxation
    draw = np.random.default_rng(2)
    times, levels = np.asarray(law.times, float), np.asarray(law.levels, float)
    root = np.linalg.cholesky(np.asarray(law.path.correlation(law.times), float))
    z = draw.normal(size=(len(levels), 400, len(times))) @ root.T
    shift = np.empty_like(z)
    for i, k in np.ndindex(len(levels), len(times)):
        shift[i, :, k] = np.interp(z[i, :, k], Z_GRID, law.quantiles[k, i])
    target = np.broadcast_to(levels[:, None, None], shift.shape)
    columns = {
        "device_id": np.repeat(np.arange(shift[..., 0].size), len(times)), "op": ["read"] * shift.size,
        "t_s": np.broadcast_to(times, shift.shape).ravel(), "g_target_S": target.ravel(),
        "g_S": (target + shift).ravel(),
    }  # fmt: skip
    sidecar = Sidecar(technology="HfOx RRAM", citation="made up", g_min_S=0.0, g_max_S=40e-6, area_m2=1e-13)
    return shift, fit_cells(simulate(columns, sidecar), "relaxation")


def test_technology_c_comes_back_as_a_device(tech_c):
    """Raw and robust spread of what the device draws, within 10 % of what was measured, over all times and levels."""
    shift, found = tech_c
    law = found.device().model.cell.relaxation
    z = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    robust = lambda values: np.subtract(*np.quantile(values, (0.75, 0.25))) / (2 * norm.ppf(0.75))
    ratios = []
    for k, i in np.ndindex(len(law.times), len(law.levels)):
        drawn = np.interp(z, Z_GRID, law.quantiles[k, i])
        ratios.append((drawn.std() / shift[i, :, k].std(), robust(drawn) / robust(shift[i, :, k])))
    raw, spread = np.array(ratios).T
    np.testing.assert_allclose(np.median(raw), 1, atol=0.1)
    np.testing.assert_allclose(spread, 1, atol=0.1)
    assert found["relaxation"].group("nu") == pytest.approx([1.6, 1.65, 2.0, 2.0, 3.0], rel=0.25)


def test_every_figure_of_a_fitted_device_says_where_it_comes_from(tech_c):
    _, found = tech_c
    device = found.device()
    assert (device.name, device.family) == ("simulated", "reram")
    assert device["cell.area"] == pytest.approx(1e-13)
    assert device.sources["measured"].citation == "made up"
    grades = {path: entry.grade for path, entry in device.provenance.items() if entry.source == "measured"}
    assert set(grades.values()) <= {"measured", "chosen"}
    assert grades["cell.relaxation.scale"] == "measured"
    assert device.provenance["adc.bits"].source == "house"


def test_a_device_misses_its_targets_as_the_cell_did():
    columns, truth, sidecar = written(0)
    part = fit_cells(simulate(columns, sidecar), "write").device().model.cell.write_error
    law = truth["write_error"]
    for x in (0.2, 0.5, 1.0):
        exact = law["sigma_0"] + law["sigma_1"] * x + law["sigma_2"] * x**2
        assert float(part.sigma(jnp.float32(x * 25e-6))) == pytest.approx(exact, rel=0.08)


def test_a_phase_change_cell_drifts_as_it_was_fitted():
    columns, _, sidecar = drifted(0)
    found = fit_cells(simulate(columns, sidecar))
    assert {"relaxation", "drift"} <= set(found.laws)
    cell = found.device().model.cell
    assert cell.relaxation is None
    u = jnp.array([0.1, 0.5], jnp.float32)
    np.testing.assert_allclose(cell.drift.mean(u), 0.045 - 0.0155 * np.log(u), rtol=0.1)
    assert float(cell.drift.t_0) == pytest.approx(20.0)


def test_spectra_make_slow_noise_and_the_white_rest_read_noise():
    columns, _, sidecar = noisy(0)
    cell = fit_cells(simulate(columns, sidecar), "read_noise").device().model.cell
    assert float(cell.slow_noise.amplitude(jnp.float32(1.0))) == pytest.approx(np.sqrt(4e-6 * np.exp(0.125)), rel=0.15)
    assert float(cell.slow_noise.t_read) == pytest.approx(0.5e-6)
    assert float(cell.read_noise.sigma_relative) == pytest.approx(np.sqrt(5e-7 / 5e-3), rel=0.05)


@pytest.mark.parametrize(
    ("make", "what", "path", "value"),
    [
        (swept, "conduction", "cell.conduction.v_0", 0.4),
        (partial(swept, law="cubic"), "conduction", "cell.conduction.g_lowest", None),
        (baked, "temperature", "cell.temperature.activation_energy", 1.1 * ELECTRONVOLT),
        (cycled, "endurance", "cell.facts.endurance", 1e5),
        (repeated, "read_noise", "cell.read_noise.sigma_relative", 0.01 * np.exp(0.09)),
    ],
)
def test_each_law_finds_its_place_in_the_device(make, what, path, value):
    columns, _, sidecar = make(0)
    device = fit_cells(simulate(columns, sidecar), what).device()
    assert device[path] == pytest.approx(value, rel=0.3) if value else device[path] > 0


# What cannot be fitted


def test_what_is_not_in_the_table_is_said():
    columns, _, sidecar = repeated(0)
    table = simulate(columns, sidecar)
    found = fit_cells(table)
    assert "write_error" in found.absent and "read_noise" in found
    with pytest.raises(DeviceError, match="write_error was not fitted: 0 writes have a target"):
        _ = found["write_error"]
    with pytest.raises(DeviceError, match="did you mean read_noise"):
        _ = found["read_nois"]
    with pytest.raises(DeviceError, match="nothing to fit for drift: 0 writes were read at 3 times"):
        fit_cells(table, "drift")
    with pytest.raises(DeviceError, match="unknown experiment 'drif'; did you mean drift"):
        fit_cells(table, ["drif"])
    with pytest.raises(DeviceError, match="nothing can be fitted to these rows"):
        fit_cells({"device_id": ["a"], "op": ["read"], "g_S": [1e-6]})


def over_time(g: np.ndarray, times: np.ndarray, **rest: Any) -> dict[str, Any]:
    """Readings [cells, times] of cells that were asked for 10 uS."""
    cells, count = g.shape
    columns = {"device_id": np.repeat(np.arange(cells), count), "t_s": np.tile(times, cells)}
    return columns | {"op": ["read"] * g.size, "g_S": g.ravel(), "g_target_S": np.full(g.size, 1e-5)} | rest


DECADES = np.geomspace(1, 1e5, 6)
STEP = np.arange(30)
SINH = 0.3 * np.sinh(np.linspace(-0.5, 0.5, 20) / 0.3)


@pytest.mark.parametrize(
    ("columns", "laws"),
    [
        (over_time(np.full((30, 6), 1e-5), DECADES), {"drift"}),
        (over_time(np.tile(1e-5 * DECADES**-0.05, (30, 1)), DECADES), {"drift"}),
        ({"device_id": np.repeat(np.arange(9), 30), "op": ["set"] * 270, "g_S": np.tile(1e-6 * (1 + STEP), 9)},
         {"pulse_up"}),
        ({"device_id": np.repeat(np.arange(9), 20), "op": ["read"] * 180, "v_read_V": np.tile(SINH / 0.3, 9),
          "i_A": np.repeat(1e-5 * np.arange(1, 10), 20) * np.tile(SINH, 9)}, {"conduction"}),
        ({"device_id": np.tile(np.arange(40), 2), "cycle": np.repeat([1, 2], 40), "op": ["prog"] * 80,
          "g_S": np.full(80, 4e-5), "g_target_S": np.repeat([1e-6, 4e-5], 40)}, {"faults"}),
        ({"device_id": np.arange(90), "op": ["prog"] * 90, "g_S": 1e-7 * np.sin(np.arange(90.0)),
          "g_target_S": np.zeros(90)}, {"write_error"}),
    ],
    ids=["still", "one drift for all", "equal steps", "exact curve", "all stuck", "asked for nothing"],
)  # fmt: skip
def test_measurements_without_any_scatter_are_fitted_in_numbers(columns: dict[str, Any], laws: set[str]):
    found = fit_cells(columns)
    assert laws <= set(found.laws)
    for law in found.laws.values():
        assert np.isfinite([law.values, law.low, law.high]).all()
        assert law.held_out is None or np.isfinite(law.held_out)


def test_cells_that_are_all_stuck_are_stuck_where_they_are():
    columns = {"device_id": np.tile(np.arange(40), 2), "cycle": np.repeat([1, 2], 40), "op": ["prog"] * 80}
    columns |= {"g_S": np.full(80, 4e-5), "g_target_S": np.repeat([1e-6, 4e-5], 40)}
    assert fit_cells(columns, "faults")["faults"]["stuck_lrs"] == 1


def test_pulses_that_go_the_other_way_are_no_such_pulses():
    columns = {"device_id": np.repeat(np.arange(9), 30), "op": ["set"] * 270, "g_S": np.tile(1e-6 * (40 - STEP), 9)}
    with pytest.raises(DeviceError, match="the set pulses move cells the other way, down"):
        fit_cells(columns, "pulses")


def test_bakes_that_tell_no_activation_energy_say_so():
    times, temperature = np.array([0.0, 10, 100, 1000]), np.repeat([400.0, 450.0], 20)
    g = np.where((temperature[:, None] > 420) & (times > 50), 1e-6, 1e-5)
    with pytest.raises(DeviceError, match="the likelihood has no peak"):
        fit_cells(over_time(g, times, temp_K=np.repeat(temperature, 4)), "temperature")


def test_one_cell_has_bands_of_its_own():
    """One cell written 400 times: not a band of no width, as if all cells were known to be as this one."""
    g = 1e-5 + 1e-7 * np.random.default_rng(0).normal(size=400)
    law = fit_cells({"op": ["prog"] * 400, "cycle": np.arange(400), "g_S": g, "g_target_S": np.full(400, 1e-5)})[
        "write_error"
    ]
    low, high = law.band("sigma_0")
    assert law.cells == 1 and 0.8e-7 < low < 1e-7 < high < 1.3e-7
    assert any("bands hold for these cells alone" in note for note in law.notes)


# Several experiments in one table


def test_a_bake_without_scatter_and_shifts_of_unknown_temperature_do_not_mix():
    columns, _, sidecar = relaxed(0)
    bake, _, _ = baked(0)
    rows, more = len(columns["g_S"]), len(bake["g_S"])
    both = {name: [*columns[name], *bake[name]] for name in ("op", "g_S", "t_s")}
    both["device_id"] = [*columns["device_id"], *(10_000 + bake["device_id"])]
    both["g_target_S"] = [*columns["g_target_S"], *[np.nan] * more]
    both["temp_K"] = [*[np.nan] * rows, *bake["temp_K"]]
    found = fit_cells(simulate(both, sidecar), ["relaxation", "temperature"])
    alone = fit_cells(simulate(columns, sidecar), "relaxation")["relaxation"]
    np.testing.assert_allclose(found["relaxation"].values, alone.values)
    cell = found.device().model.cell
    assert float(cell.temperature.reference_temperature) == 300.0
    assert float(cell.temperature.activation_energy) == pytest.approx(1.1 * ELECTRONVOLT, rel=0.1)


def test_a_sweep_of_the_voltage_is_no_ageing():
    columns, _, sidecar = relaxed(0)
    curve, _, _ = swept(0)
    rows, more = len(columns["g_S"]), len(curve["i_A"])
    both = {name: [*columns[name], *[np.nan] * more] for name in ("g_S", "g_target_S")}
    both["device_id"] = [*columns["device_id"], *curve["device_id"]]  # the same cells
    both["t_s"] = [*columns["t_s"], *np.tile(0.1 * np.arange(1.0, 21), 40)]
    both["op"] = [*columns["op"], *curve["op"]]
    both |= {name: [*[np.nan] * rows, *curve[name]] for name in ("v_read_V", "i_A")}
    found = fit_cells(simulate(both, sidecar), ["relaxation", "conduction"])
    alone = fit_cells(simulate(columns, sidecar), "relaxation")["relaxation"]
    np.testing.assert_allclose(found["relaxation"].values, alone.values)
    assert found["conduction"]["v_0"] == pytest.approx(0.4, rel=0.05)


def test_a_state_that_was_read_once_does_not_hide_the_relaxation_of_the_others():
    columns, _, sidecar = relaxed(0)
    once = {"device_id": np.arange(40) + 10_000, "op": ["read"] * 40, "g_S": np.full(40, 2e-6), "t_s": np.ones(40),
            "g_target_S": np.full(40, 2e-6)}  # fmt: skip
    both = {name: [*columns[name], *once[name]] for name in columns}
    law = fit_cells(simulate(both, sidecar), "relaxation")["relaxation"]
    assert [law.constants[f"level[{i}]"] for i in range(4)] == pytest.approx([10e-6, 18e-6, 26e-6, 34e-6])


def test_times_are_apart_and_a_dense_series_is_cut():
    assert list(times_of(np.array([0.0, 0.02, 1.0, 1.05, 3.0]))) == [0, 0, 1, 1, 2]
    dense = times_of(np.log10(np.arange(1.0, 1000)))
    assert dense.max() > 5
    ages = [np.log10(np.arange(1.0, 1000))[dense == k] for k in range(dense.max() + 1)]
    assert max(np.ptp(age) for age in ages) <= 0.31


def test_shifts_from_the_target_have_the_write_error_in_them():
    columns, _, sidecar = relaxed(0)
    pulses = {name: np.asarray(columns[name])[::5] for name in columns} | {"op": ["prog"] * 600, "t_s": np.zeros(600)}
    for fresh in (False, True):
        pulses["g_S"] = pulses["g_target_S"] + (1e-7 * np.sin(np.arange(600.0)) if fresh else np.nan)
        both = {name: [*pulses[name], *columns[name]] for name in columns}
        found = fit_cells(simulate(both, sidecar), ["write", "relaxation"])
        assert found["relaxation"].constants["from_target"] == (not fresh)
        assert (found.device().model.cell.write_error is None) == (not fresh)
