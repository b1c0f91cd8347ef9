"""The device file of a fit: what the laws of `pim.devices` have a place for, with unit, source and grade."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import root
from scipy.stats import t as student

from pim.devices.fitting.estimate import LawFit
from pim.devices.fitting.history import ROOM
from pim.devices.fitting.weighted import QUARTILE

if TYPE_CHECKING:
    from pim.devices.device import Device
    from pim.devices.fitting.cell_fit import CellFit

SOURCE = "measured"
BASE = "macro-28nm"


@dataclass(frozen=True)
class Figure:
    """One value of a device file."""

    value: Any
    unit: str = "1"
    note: str = ""
    grade: str = "measured"

    def __str__(self) -> str:
        note = f", note = {_quoted(self.note)}" if self.note else ""
        head = f'value = {_number(self.value)}, unit = "{self.unit}"'
        return f'{{{head}, source = "{SOURCE}", grade = "{self.grade}"{note}}}'


Part = dict[str, Any]
"""A part of a device: its type, figures, and parts of its own."""


def device_text(fit: "CellFit") -> str:
    """The device file of a fit, TOML."""
    table, sidecar = fit.table, fit.table.sidecar
    technology = sidecar.technology or "a cell"
    citation = sidecar.citation or f"own measurements, {table.name}"
    licence = f" (licence: {sidecar.licence})" if sidecar.licence else ""
    lines = [
        f"name = {_quoted(fit.name)}",
        f"family = {_quoted(_family(technology))}",
        f"summary = {_quoted(f'{technology}, fitted to {len(table)} rows of {table.name}: ' + ', '.join(fit.laws))}",
        'grade = "measured"',
        f"source = {_quoted(citation)}",
        f'base = "{BASE}"',
        "",
        f"[sources.{SOURCE}]",
        f"citation = {_quoted(citation + licence)}",
        *([f"url = {_quoted(sidecar.url)}"] if sidecar.url else []),
        "",
    ]
    return "\n".join([*lines, *_section("device.cell", cell_part(fit))])


def device_of(fit: "CellFit") -> "Device":
    """The device of a fit, read back from its file's text."""
    from pim.devices.loader import load_device

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{fit.name}.toml"
        file.write_text(device_text(fit), encoding="utf-8")
        return load_device(file)


def cell_part(fit: "CellFit") -> Part:
    """The cell with every fitted law that it has a place for."""
    low, high = fit.window
    given = lambda value: "" if value is not None else "not in the sidecar: taken from the table"
    sidecar = fit.table.sidecar
    cell: Part = {
        "type": "Cell",
        "g_min": Figure(low, "S", given(sidecar.g_min_S)),
        "g_max": Figure(high, "S", given(sidecar.g_max_S)),
    }
    if sidecar.area_m2 is not None:
        cell["area"] = Figure(sidecar.area_m2, "m^2")
    laws = {name: fit.laws.get(name) for name in ("write_error", "relaxation", "drift", "conduction", "faults")}
    laws |= dict.fromkeys(_left_out(fit))
    if laws["relaxation"]:
        times = _listed(laws["relaxation"], "time")
        cell["reference_time"] = Figure(times[0], "s", "the first time that was measured", "chosen")
    elif laws["drift"] or "flicker" in fit or "telegraph" in fit:
        cell["reference_time"] = Figure(0.0 if laws["drift"] else 1.0, "s", "read right after writing", "chosen")
    makers = {"write_error": _write_error, "drift": _drift, "conduction": _conduction, "faults": _faults}
    cell |= {name: make(laws[name]) for name, make in makers.items() if laws[name]}  # type: ignore[arg-type]
    if laws["relaxation"]:
        cell["relaxation"] = _relaxation(laws["relaxation"], fit)
    others = {
        "slow_noise": _slow_noise(fit), "read_noise": _read_noise(fit), "temperature": _temperature(fit),
        "facts": _facts(fit),
    }  # fmt: skip
    return cell | {name: part for name, part in others.items() if part}


def _left_out(fit: "CellFit") -> list[str]:
    """Relaxation and drift are two accounts of the same readings, of which a cell may have one: of drift PCM's."""
    if _family(fit.table.sidecar.technology) == "pcm":
        return ["relaxation"] if "drift" in fit else []
    still = "drift" in fit and np.prod(fit["drift"].band("nu_mean")) <= 0
    return ["drift"] if "relaxation" in fit or still else []


def _write_error(law: LawFit) -> Part:
    sigma = np.array([law[u.name] for u in law.unknowns if u.name.startswith("sigma_")])
    kinds = {"normal": "GaussianWriteError", "student": "StudentWriteError", "lognormal": "LognormalWriteError"}
    part: Part = {"type": kinds[law.kind], "g_reference": Figure(law.constants["g_reference"], "S")}
    if law.kind != "lognormal":
        part["spread_unit"] = Figure(1e-6, "S", "the coefficients are in µS")
        sigma = 1e6 * sigma
    if law.kind == "student":
        part["nu"] = Figure(max(law["nu"], 0.5))
        sigma = sigma * QUARTILE / student.ppf(0.75, law["nu"])
    return part | {"spread": {"type": "Polynomial", "coefficients": Figure(sigma)}}


def _relaxation(law: LawFit, fit: "CellFit") -> Part:
    times, levels = _listed(law, "time"), _listed(law, "level")
    shape = len(times), len(levels)
    location, scale = (law.group(stem).reshape(shape) for stem in ("location", "scale"))
    nu = np.maximum(np.broadcast_to(law.group("nu")[:, None], shape), 0.5)
    note = "by the quartiles at each time and level, which are those within the window"
    noise = _white(fit)
    if noise is not None:  # the shifts hold the noise of one reading, which a device adds by itself
        sigma = noise * levels if _proportional(fit) else np.full(len(levels), noise)
        scale = np.sqrt(np.maximum(scale**2 - sigma**2, (0.1 * scale) ** 2))
        note += ", the variance of a reading taken off"
    limit = max(fit.window[1], float(np.nanmax(fit.table["g_S"])))
    location, scale = _within(location, scale, nu, levels, limit)
    if len(levels) == 1:
        levels = np.array([levels[0], 1.001 * levels[0]])
        location, scale, nu = (np.repeat(values, 2, axis=1) for values in (location, scale, nu))
    share = law["slow_share"] if "slow_share" in law else 1.0
    known = "" if "slow_share" in law else "not measured: no cell was read at two times"
    decades = law["slow_decades"] if "slow_decades" in law else 1000.0
    path: Part = {
        "type": "LatentPath",
        "slow_share": Figure(share, "1", known, "chosen" if known else "measured"),
        "slow_decades": Figure(decades) if "slow_decades" in law
        else Figure(decades, "1", "not measured: the slow part is taken as lasting", "chosen"),
    }  # fmt: skip
    return {
        "type": "StudentRelaxation",
        "times": Figure(times, "s"),
        "levels": Figure(levels, "S"),
        "location": Figure(location, "S", note),
        "scale": Figure(scale, "S", note),
        "nu": Figure(nu, "1", "by maximum likelihood, one for all levels of a time"),
        "g_limit": Figure(limit, "S", "largest conductance measured"),
        "path": path,
    }


def _within(
    location: np.ndarray, scale: np.ndarray, nu: np.ndarray, levels: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of the distributions that, cut off at 0 and `limit`, have the uncut ones' median and spread.

    Where no such distribution is found the uncut one stays.
    """
    location, scale = location.copy(), scale.copy()
    for k, i in np.ndindex(location.shape):
        edges = np.array([-levels[i], limit - levels[i]])
        at, width = location[k, i], scale[k, i]
        if np.ptp(student.cdf((edges - at) / width, nu[k, i])) > 0.999:
            continue
        range_ = 2 * width * student.ppf(0.75, nu[k, i])
        found = root(partial(_missed, start=(at, width), tail=nu[k, i], edges=edges, range_=range_), (0.0, 0.0))
        if found.success:
            location[k, i], scale[k, i] = at + found.x[0] * width, width * np.exp(found.x[1])
    return location, scale


def _missed(x: np.ndarray, start: tuple[float, float], tail: float, edges: np.ndarray, range_: float) -> np.ndarray:
    """By how much the cut distribution misses the median and the range between the quartiles."""
    at, width = start[0] + x[0] * start[1], start[1] * np.exp(np.clip(x[1], -5, 5))
    low, high = student.cdf((edges - at) / width, tail)
    first, middle, last = at + width * student.ppf(low + (high - low) * np.array([0.25, 0.5, 0.75]), tail)
    return np.array([middle - start[0], last - first - range_]) / range_


def _drift(law: LawFit) -> Part:
    reference = law.constants["g_reference"]
    ends = np.log(np.array([law.constants["g_lowest"], law.constants["g_highest"]]) / reference)
    note = "held constant beyond the states that were measured"

    def line(stem: str) -> Part:
        slope = law[f"{stem}_slope"] if f"{stem}_slope" in law else 0.0
        values = np.maximum(law[stem] + slope * ends, 0.0)
        return {
            "type": "ClippedLog", "slope": Figure(slope), "offset": Figure(law[stem]),
            "lowest": Figure(values.min(), "1", note), "highest": Figure(values.max(), "1", note),
        }  # fmt: skip

    t_0 = Figure(law.constants["t_0"], "s", "time of the first reading")
    head = {"type": "PowerLawDrift", "t_0": t_0, "g_reference": Figure(reference, "S")}
    return head | {"mean": line("nu_mean"), "spread": line("nu_sigma")}


def _conduction(law: LawFit) -> Part:
    if law.kind == "sinh":
        return {"type": "Sinh", "v_0": Figure(law["v_0"], "V")}
    take = lambda stem: np.array([law[u.name] for u in law.unknowns if u.name.startswith(f"{stem}_")])
    return {
        "type": "Cubic",
        "quadratic": Figure(take("quadratic"), "A/V^2"),
        "cubic": Figure(take("cubic"), "A/V^3"),
        "g_lowest": Figure(law.constants["g_lowest"], "S"),
    }


def _faults(law: LawFit) -> Part:
    return {
        "type": "StuckFaults",
        "stuck_lrs": Figure(law["stuck_lrs"]),
        "stuck_hrs": Figure(law["stuck_hrs"] + law["non_forming"], "1", "with the cells that did not form"),
    }


def _slow_noise(fit: "CellFit") -> Part | None:
    t_0 = fit["drift"].constants["t_0"] if "drift" in fit and _family(fit.table.sidecar.technology) == "pcm" else 0.0
    if "flicker" in fit:
        law = fit["flicker"]
        band = fit.table.sidecar.read_bandwidth_Hz
        t_read = 1 / (2 * band) if band else law.constants["interval"]
        exponent = law["exponent"] / 2 if "exponent" in law else 0.0
        scale = np.sqrt(law["amplitude"]) * np.exp(law["amplitude_log"] ** 2 / 4)
        note = "root of the mean A over cells"
        amplitude = {
            "type": "ClippedPower", "scale": Figure(scale, "1", note), "exponent": Figure(exponent),
            "highest": Figure(scale * 30.0 ** abs(exponent), "1", "at a thirtieth of the reference", "chosen"),
        }  # fmt: skip
        why = (
            "half a period of the read bandwidth"
            if band
            else "interval of the readings: no read bandwidth in the sidecar"
        )
        return {
            "type": "RelativeFlicker", "g_reference": Figure(law.constants["g_reference"], "S"),
            "t_read": Figure(t_read, "s", why), "t_0": Figure(t_0, "s"), "amplitude": amplitude,
        }  # fmt: skip
    if "telegraph" in fit and "step" in fit["telegraph"]:
        law = fit["telegraph"]
        return {"type": "Telegraph"} | {name: Figure(law[name]) for name in ("share", "step", "filled")}
    return None


def _white(fit: "CellFit") -> float | None:
    """Standard deviation of what changes from read to read: relative, or in S (see `_proportional`)."""
    if "flicker" in fit:
        law = fit["flicker"]
        return float(np.sqrt(law["white"] / (2 * law.constants["interval"])))
    if "read_noise" in fit:
        law = fit["read_noise"]
        return float(law.values[0] * np.exp(law["sigma_log"] ** 2))
    return None


def _proportional(fit: "CellFit") -> bool:
    return "flicker" in fit or fit["read_noise"].kind == "proportional"


def _read_noise(fit: "CellFit") -> Part | None:
    sigma = _white(fit)
    if sigma is None:
        return None
    note = "white part of the spectrum" if "flicker" in fit else "root mean square over cells"
    if _proportional(fit):
        return {"type": "ProportionalReadNoise", "sigma_relative": Figure(min(sigma, 1.0), "1", note)}
    return {"type": "AdditiveReadNoise", "sigma": Figure(sigma, "S", note)}


def _temperature(fit: "CellFit") -> Part | None:
    if "retention" not in fit and "tcr" not in fit:
        return None
    aged = next((fit[name] for name in ("relaxation", "drift") if name in fit), None)
    reference = aged.constants["temperature"] if aged else ROOM
    energy = (
        Figure(max(fit["retention"]["activation_energy"], 0.0), "J", "of the time to the loss of a state")
        if "retention" in fit
        else Figure(0.0, "J", "not measured: ageing is taken as the same at all temperatures", "chosen")
    )
    part = {
        "type": "Arrhenius", "activation_energy": energy,
        "reference_temperature": Figure(reference, "K", "that of the other laws")
        if aged else Figure(reference, "K", "no other law says its temperature", "chosen"),
    }  # fmt: skip
    if "tcr" not in fit:
        return part
    law = fit["tcr"]
    tcr = law["tcr"] / (1 + law["tcr"] * (reference - law.constants["reference_temperature"]))
    return part | {"tcr": Figure(tcr, "1/K", "for the conductance at the reference temperature")}


def _facts(fit: "CellFit") -> Part | None:
    """What survey tables list, as far as it was measured."""
    found: Part = {}
    width = fit.table["pw_s"]
    if "pulse_count" in fit and np.isfinite(width).any():
        mean = fit["pulse_count"].constants["mean_measured"]
        found["write_latency"] = Figure(
            mean * float(np.nanmedian(width)), "s", "mean number of pulses times their width"
        )
    if "endurance" in fit:
        found["endurance"] = Figure(max(fit["endurance"]["life"], 1.0), "1", "63 % of the cells have failed")
    if "retention" in fit:
        law = fit["retention"]
        at = f"median time at {law.constants['reference_temperature']:.4g} K until {law.constants['loss']:.0%} are lost"
        found["retention"] = Figure(law["time"], "s", at)
    return {"type": "CellFacts", **found} if found else None


def _listed(law: LawFit, stem: str) -> np.ndarray:
    """The constants `stem[0]`, `stem[1]`, ... of a law."""
    return np.array([value for name, value in law.constants.items() if name.startswith(f"{stem}[")])


def _family(technology: str) -> str:
    words = {
        "pcm": ("pcm", "phase", "gst"),
        "fefet": ("fefet", "ferro"),
        "flash": ("flash", "sonos"),
        "ecram": ("ecram",),
    }
    name = technology.lower()
    return next((family for family, marks in words.items() if any(mark in name for mark in marks)), "reram")


def _section(path: str, part: Mapping[str, Any]) -> list[str]:
    lines = [f"[{path}]"]
    for name, value in part.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {_quoted(value) if isinstance(value, str) else value}")
    lines.append("")
    for name, value in part.items():
        if isinstance(value, dict):
            lines += _section(f"{path}.{name}", value)
    return lines


def _number(value: Any) -> str:
    """A number or nested lists of them, with the digits of float32."""
    if np.ndim(value):
        return "[" + ", ".join(_number(item) for item in value) + "]"
    return f"{float(value):.7g}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
