"""CrossSim's golden products on our devices: its configuration as one of ours, its data, and the table of both.

`python -m tests.crosssim` writes the table docs/crosssim.md anew (a minute). The conventions that differ are told where
they are met: `device_of` takes a configuration over, `gain_of` says what is left as a factor.
"""

import hashlib
from typing import Any

import numpy as np

from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.dac import MultibitDAC
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.device import Device
from pim.devices.macro import AnalogMacro
from pim.devices.record import cast, check, prepare
from pim.programming import program
from pim.devices.random import root_key

NONE = 1.0  # S: above every conductance
FITS = {  # spread in uS against the state in uS, as CrossSim fitted it: devices/custom/*.py there
    "PCMJoshi": [0.28638599, 0.07585724, -0.00178767, 0.0],
    "RRAMWan": [1.053, 0.2374, -0.01167, 0.0001536],
}


def data(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Weights [in, out] and inputs [n, in] of a record, whose checksums are those of the arrays as CrossSim has them."""
    rng = np.random.RandomState(record["seed"])  # noqa: NPY002 - the generator of the golden run
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
        encoding="differential",
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
        write_error=_write_error(config["programming_error"], g_max),
        read_noise=_read_noise(config["read_noise"], g_max),
    )


def _write_error(error: dict, g_max: float) -> GaussianWriteError | None:
    size = error["magnitude"]
    if error["model"] == "none":
        return None
    if error["model"] in FITS:
        return GaussianWriteError(Polynomial(FITS[error["model"]]), 1e-6, 1e-6)
    relative = {"NormalIndependentDevice": [size, 0.0], "NormalProportionalDevice": [0.0, size]}[error["model"]]
    return GaussianWriteError(Polynomial([*relative, 0.0, 0.0]), g_max, g_max)


def _read_noise(noise: dict, g_max: float) -> Any:
    match noise["model"]:
        case "none":
            return None
        case "NormalProportionalDevice":
            return ProportionalReadNoise(noise["magnitude"])
        case "NormalIndependentDevice":
            return AdditiveReadNoise(noise["magnitude"] * g_max)


def _dac(config: dict) -> Any:
    if not config["dac_bits"]:
        return ExactDAC()
    return MultibitDAC(config["dac_bits"], 100.0, 0.0, 0.0)


def gain_of(config: dict) -> float:
    """What CrossSim's outputs have as a factor over ours."""
    return 1.0


KEY, READ = root_key(0), root_key(1)


def product(record: dict) -> np.ndarray:
    """Our outputs [n, out] of an exact record."""
    w, x = data(record)
    config = record["config"]
    chip = program(w, device_of(config, len(w)), key=KEY, calibration=np.ones((1, len(w)), np.float32))
    return gain_of(config) * np.asarray(chip.matmul(x, key=None))
