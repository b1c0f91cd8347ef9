"""CrossSim's golden products on our devices: its configuration as one of ours, its data, and the table of both.

`python -m tests.crosssim` writes the table docs/crosssim.md anew (a minute). The conventions that differ are told where
they are met: `device_of` takes a configuration over, `gain_of` says what is left as a factor.
"""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise, RectifiedReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.device import Device
from pim.devices.macro import AnalogMacro
from pim.devices.random import root_key
from pim.devices.record import cast, check, prepare
from pim.programming import program

NONE = 1.0  # S: above every conductance
PRESETS = {"PCMJoshi": "pcm-joshi2020", "RRAMWan": "rram-wan2022-crosssim"}


def data(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Weights [in, out] and inputs [n, in] of a record, whose checksums are those of CrossSim's arrays."""
    rng = np.random.RandomState(record["seed"])
    n_out, n_in = record["shape"]
    w = np.clip(rng.standard_normal((n_out, n_in)) / 3, -1, 1).astype(np.float32)
    x = rng.uniform(-1 if record["config"]["signed_input"] else 0, 1, (n_in, record["batch"])).astype(np.float32)
    for array, wanted in ((w, record["sha_W"]), (x, record["sha_X"])):
        assert hashlib.sha256(array.tobytes()).hexdigest().startswith(wanted)
    return w.T, x.T


def device_of(config: dict, n_in: int) -> Device:
    """The device of a configuration."""
    macro = AnalogMacro(
        rows=n_in,
        columns=4 * n_in * config["num_slices"],
        slices=config["num_slices"],
        encoding=_encoding(config),
        weight_scale="matrix",
        input_range="calibrated",
        v_read=0.1,
        t_read=1e-8,
        vdd=1.0,
        cell=_cell(config),
        dac=_dac(config),
        weight_bits=config["weight_bits"] if config["cell_bits"] else None,
    )
    check(macro, config["core"])
    return Device("crosssim", "test", "a configuration of CrossSim", prepare(cast(macro)), {}, {})


def _encoding(config: dict) -> str:
    if config["core"] == "OFFSET" or (config["core"] == "BITSLICED" and config["slice_style"] == "OFFSET"):
        return "offset_digital"
    return "differential_two_sided" if config["balanced_style"] == "TWO_SIDED" else "differential"


def _cell(config: dict) -> Cell:
    g_max = 1.0 / config["Rmin"]
    g_min = 0.0 if config["infinite_on_off_ratio"] else 1.0 / config["Rmax"]
    clipped = config["clip_conductance"]
    return Cell(
        g_min,
        g_max,
        levels=2.0 ** config["cell_bits"] if config["cell_bits"] else None,
        g_floor=g_min if clipped else 0.0,
        g_ceiling=g_max if clipped else NONE,
        relaxation=_sonos(g_max) if config["drift_error"]["model"] == "SONOS" else None,
        write_error=_write_error(config["programming_error"], g_max),
        read_noise=_read_noise(config["read_noise"], g_max),
    )


def _write_error(error: dict, g_max: float) -> GaussianWriteError | None:
    size = error["magnitude"]
    if error["model"] == "none":
        return None
    if error["model"] in PRESETS:
        return preset(PRESETS[error["model"]]).model.cell.write_error
    relative = {"NormalIndependentDevice": [size, 0.0], "NormalProportionalDevice": [0.0, size]}[error["model"]]
    return GaussianWriteError(Polynomial(np.array([*relative, 0.0, 0.0])), g_max, g_max)


def _read_noise(noise: dict, g_max: float) -> Any:
    match noise["model"]:
        case "none":
            return None
        case "NormalProportionalDevice":
            return ProportionalReadNoise(noise["magnitude"])
        case "NormalIndependentDevice":  # its conductances are clipped at zero, read for read
            return RectifiedReadNoise(AdditiveReadNoise(noise["magnitude"] * g_max))


DAYS = [3600.0, *(86400.0 * day for day in range(1, 6))]  # s: our preset has day 0 at an hour


def _sonos(g_max: float) -> Any:
    """The preset's relaxation where g_max is 1,600 nA, as it is there; its laws are in nA against nA."""
    return replace(preset("flash-sonos40").model.cell.relaxation, spread_unit=g_max / 1600, g_reference=g_max / 1600)


def time_of(config: dict) -> float | None:
    """The time (s) at which the chip is read."""
    return DAYS[config["time"]] if config["drift_error"]["model"] == "SONOS" else None


def _dac(config: dict) -> Any:
    if not config["dac_bits"]:
        return ExactDAC()
    return MultibitDAC(config["dac_bits"], 100.0, 0.0, 0.0)


def gain_of(config: dict) -> float:
    """What CrossSim's outputs have as a factor over ours.

    Its offset core leaves the lowest of 2^b levels unused, as ours does, but scales as if the window had no level less.
    """
    if config["core"] != "OFFSET" or not config["cell_bits"]:
        return 1.0
    return (2 ** config["cell_bits"] - 2) / (2 ** config["cell_bits"] - 1)


KEY, READ = root_key(0), root_key(1)


def product(record: dict) -> np.ndarray:
    """Our outputs [n, out] of an exact record."""
    w, x = data(record)
    config = record["config"]
    chip = program(w, device_of(config, len(w)), key=KEY, calibration=np.ones((1, len(w)), np.float32))
    return gain_of(config) * np.asarray(chip.matmul(x, key=None))


TRIALS = 128


def statistics(record: dict) -> dict[str, tuple[float, float]]:
    """Mean and its standard error of the three figures of a statistical record, over our own draws."""
    w, x = data(record)
    config = record["config"]
    device, full = device_of(config, len(w)), np.ones((1, len(w)), np.float32)
    time = time_of(config)
    if device.model.cell.read_noise is None:
        chips = program(w, device, key=KEY, calibration=full, chips=TRIALS, time=time)
        y = np.asarray(chips.matmul(x, key=None))
    else:  # one chip, which each vector of each trial reads anew
        chip = program(w, device, key=KEY, calibration=full)
        y = np.asarray(chip.matmul(np.tile(x, (TRIALS, 1)), key=READ)).reshape(TRIALS, *x.shape[:1], -1)
    y = gain_of(config) * y
    exact, clean = x.astype(float) @ w, product({**record, "config": {**config, **QUIET}})
    norm = lambda a: np.linalg.norm(a, axis=(-2, -1))
    figures = {
        "rel_err": norm(y - exact) / norm(exact),
        "rel_err0": norm(y - clean) / norm(clean),
        "g_slope": (y * exact).sum(axis=(1, 2)) / (exact**2).sum(),
    }
    return {name: (values.mean(), values.std(ddof=1) / len(values) ** 0.5) for name, values in figures.items()}


QUIET = {name: {"model": "none", "magnitude": 0.0} for name in ("programming_error", "read_noise", "drift_error")}
