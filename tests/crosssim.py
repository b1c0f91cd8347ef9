"""CrossSim's golden products on our devices: its configurations as ours, its data, and both sides compared.

The conventions that differ are told where they are met: `device_of` takes a configuration over, `gain_of` says what is
left as a factor.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import pim
from pim.devices.array_wires import ArrayWires
from pim.devices.catalogue import preset
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import AdditiveReadNoise, ProportionalReadNoise, RectifiedReadNoise
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
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
    cell = _cell(config)
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
        cell=cell,
        dac=_dac(config),
        adc=_adc(config, n_in, 1.0 - cell.g_min / cell.g_max),
        wires=_wires(config),
        shift_add="digital" if config["adc_per_ibit"] else "steps",
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


def _wires(config: dict) -> ArrayWires | None:
    """Resistances (Ohm) of a segment; with inputs at gates the "row" is the line that feeds a column's cells."""
    row, column = config["Rp_row"], config["Rp_col"]
    if not row and not column:
        return None
    if not config["current_from_input"]:
        return ArrayWires(word_line=0.0, bit_line=column, source_line=row, input="gate")
    return ArrayWires(row, column, pairs="shared_bit_line" if config["interleaved_posneg"] else "separate")


def _adc(config: dict, n_in: int, window: float) -> ADC | None:
    """Codes from one end of the range to the other. CrossSim's range is in cells of g_max, ours in cells of the window.

    With one level a cell step ("GRANULAR") zero lies between two codes there; our rule of this name has it on one, so
    that the range is given.
    """
    bits = config["adc_bits"]
    if not bits:
        return None
    match config["adc_range_option"]:
        case "CALIBRATED":
            low, high = config["adc_calibrated_range"]
        case "MAX":
            low, high = -n_in, n_in
        case "GRANULAR":
            codes, digits = 2 ** (config["dac_bits"] - 1), 2 ** (config["weight_bits"] // config["num_slices"]) - 1
            high = (2 ** (bits - 1) - 1) * codes / (codes - 1) / digits
            low = -high
        case other:
            raise ValueError(f"adc_range_option = {other!r}")
    return ADC(bits, 100.0, 1.0, range_rule="given", code="offset", low=low / window, high=high / window)


def _dac(config: dict) -> Any:
    code = "sign_magnitude" if config["signed_input"] else "unsigned"
    if not config["dac_bits"]:
        return ExactDAC()
    if config["input_bitslicing"]:
        return BitSerialDAC(config["dac_bits"], 100.0, 0.0, 0.0, slice_bits=config["input_slice_size"], code=code)
    return MultibitDAC(config["dac_bits"], 100.0, 0.0, 0.0, code=code)


def gain_of(config: dict) -> float:
    """What CrossSim's outputs have as a factor over ours.

    Its offset core leaves the lowest of 2^b levels unused, as ours does, but scales as if the window had no level less.
    """
    if config["core"] != "OFFSET" or not config["cell_bits"]:
        return 1.0
    return (2 ** config["cell_bits"] - 2) / (2 ** config["cell_bits"] - 1)


KEY, READ = root_key(0), root_key(1)
TRIALS = 64
FIGURES = ("rel_err", "rel_err0", "g_slope")


@dataclass(frozen=True)
class Exact:
    """An exact record's errors against the float product, and our distance from CrossSim's outputs."""

    theirs: float
    ours: float
    apart: float
    tolerance: float


@dataclass(frozen=True)
class Statistical:
    """A statistical record's mean error, and how far our three figures are from CrossSim's, in standard errors."""

    theirs: float
    ours: float
    apart: tuple[float, ...]
    tolerance: float = 3.0


def compared(record: dict) -> Exact | Statistical:
    """Our side of a record beside CrossSim's."""
    return _exact(record) if record["kind"] == "exact" else _statistical(record)


def _exact(record: dict) -> Exact:
    y, theirs = product(record), np.array(record["Y"]).T
    w, x = data(record)
    wires = record["config"]["Rp_row"] > 0
    return Exact(
        theirs=record["rel_err"],
        ours=float(_norm(y - x.astype(float) @ w) / _norm(x.astype(float) @ w)),
        apart=float(_norm(y - theirs) / _norm(theirs)),
        tolerance=max(1e-6, record["config"]["Verr_th"]) if wires else 1e-5,
    )


def _statistical(record: dict) -> Statistical:
    ours = statistics(record)
    apart = []
    for name, values in ours.items():
        errors = values.std(ddof=1) / len(values) ** 0.5, record[f"{name}_std"] / record["trials"] ** 0.5
        apart.append(float((values.mean() - record[f"{name}_mean"]) / np.hypot(*errors)))
    return Statistical(record["rel_err_mean"], float(ours["rel_err"].mean()), tuple(apart))


def product(record: dict) -> np.ndarray:
    """Our outputs [n, out] of an exact record."""
    w, x = data(record)
    device = device_of(record["config"], len(w))
    chip = program(w, device, key=KEY, calibration=_full(device, w))
    return gain_of(record["config"]) * np.asarray(chip.matmul(x, key=None))


def statistics(record: dict) -> dict[str, np.ndarray]:
    """The three figures of a statistical record in each of our trials.

    Of read noise, which is another for each vector of each trial, one chip is enough.
    """
    w, x = data(record)
    config = record["config"]
    device = device_of(config, len(w))
    settings = {"key": KEY, "calibration": _full(device, w), "time": time_of(config)}
    if device.model.cell.read_noise is None:
        y = program(w, device, chips=TRIALS, **settings).matmul(x, key=None)
        clean = program(w, quiet(device), chips=TRIALS, **settings).matmul(x, key=None)[0]
    else:
        y = program(w, device, **settings).matmul(np.tile(x, (TRIALS, 1)), key=READ).reshape(TRIALS, len(x), -1)
        clean = program(w, quiet(device), **settings).matmul(np.tile(x, (TRIALS, 1)), key=READ)[: len(x)]
    gain, exact = gain_of(config), x.astype(float) @ w
    y, clean = gain * np.asarray(y), gain * np.asarray(clean)
    return {
        "rel_err": _norm(y - exact) / _norm(exact),
        "rel_err0": _norm(y - clean) / _norm(clean),
        "g_slope": (y * exact).sum(axis=(1, 2)) / (exact**2).sum(),
    }


def quiet(device: Device) -> Device:
    """The device with every random error of the size zero: of the same structure, so that nothing is compiled anew."""
    sizes = ("spread_unit", "sigma_relative", "sigma")
    changes = {path: 0.0 for path in device.paths() if path.rpartition(".")[2] in sizes}
    return pim.replace(device, changes)


def _full(device: Device, w: np.ndarray) -> np.ndarray | None:
    """Calibration inputs whose largest is 1, CrossSim's full scale; not needed where inputs are not rounded."""
    return None if isinstance(device.model.dac, ExactDAC) else np.ones((1, len(w)), np.float32)


def _norm(y: np.ndarray) -> np.ndarray:
    return np.linalg.norm(y, axis=(-2, -1))


def golden(shared: Path) -> dict[str, dict]:
    """The records by their names."""
    records = json.loads((shared / "golden" / "crosssim_mvm.json").read_text())["records"]
    return {record["name"]: record for record in records}
