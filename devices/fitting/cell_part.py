"""The cell of a fit: for each fitted law the law of `pim.devices.cells` that has its place, with notes."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student

from pim.devices.fitting.chosen_laws import chosen_laws
from pim.devices.fitting.device_figure import Figure, Part
from pim.devices.fitting.estimate import LawFit
from pim.devices.fitting.history import ROOM
from pim.devices.fitting.noise_part import read_noise_part, slow_noise_part
from pim.devices.fitting.relaxation_part import relaxation_part
from pim.devices.fitting.weighted import QUARTILE

if TYPE_CHECKING:
    from pim.devices.fitting.cell_fit import CellFit


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
    laws = chosen_laws(fit)
    if laws["relaxation"]:
        first = laws["relaxation"].constants["time[0]"]
        cell["reference_time"] = Figure(first, "s", "the first time that was measured", "chosen")
    elif laws["drift"] or "flicker" in fit or "telegraph" in fit:
        cell["reference_time"] = Figure(0.0 if laws["drift"] else 1.0, "s", "read right after writing", "chosen")
    makers = {"write_error": _write_error, "drift": _drift, "conduction": _conduction, "faults": _faults}
    cell |= {name: make(laws[name]) for name, make in makers.items() if laws[name]}  # type: ignore[arg-type]
    if laws["relaxation"]:
        cell["relaxation"] = relaxation_part(laws["relaxation"], fit)
    others = {
        "slow_noise": slow_noise_part(fit), "read_noise": read_noise_part(fit), "temperature": _temperature(fit),
        "facts": _facts(fit),
    }  # fmt: skip
    return cell | {name: part for name, part in others.items() if part}


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
