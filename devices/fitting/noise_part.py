"""The noise of a fitted cell: what stands still during a product, and what changes from read to read."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pim.devices.fitting.chosen_laws import chosen_laws
from pim.devices.fitting.device_figure import Figure, Part

if TYPE_CHECKING:
    from pim.devices.fitting.cell_fit import CellFit

CLIPPED = 30.0
"""The 1/f amplitude rises no further below the reference over this."""


def slow_noise_part(fit: "CellFit") -> Part | None:
    """1/f noise where its spectrum was fitted, else telegraph noise; None where neither was found."""
    if "flicker" in fit:
        law = fit["flicker"]
        scale, exponent = _amplitude(fit)
        amplitude = {
            "type": "ClippedPower", "scale": Figure(scale, "1", "root of the mean A over cells"),
            "exponent": Figure(exponent),
            "highest": Figure(scale * CLIPPED ** abs(exponent), "1", "at a thirtieth of the reference", "chosen"),
        }  # fmt: skip
        band = fit.table.sidecar.read_bandwidth_Hz
        why = "half a period of the read bandwidth" if band else "interval of the readings: no read_bandwidth_Hz"
        return {
            "type": "RelativeFlicker", "g_reference": Figure(law.constants["g_reference"], "S"),
            "t_read": Figure(_t_read(fit), "s", why), "t_0": Figure(_t_0(fit), "s"), "amplitude": amplitude,
        }  # fmt: skip
    if "telegraph" in fit and "step" in fit["telegraph"]:
        law = fit["telegraph"]
        return {"type": "Telegraph"} | {name: Figure(law[name]) for name in ("share", "step", "filled")}
    return None


def read_noise_part(fit: "CellFit") -> Part | None:
    """Noise from read to read; None where it was not measured."""
    sigma = _white(fit)
    if sigma is None:
        return None
    note = "white part of the spectrum" if "flicker" in fit else "root mean square over cells"
    if _proportional(fit):
        return {"type": "ProportionalReadNoise", "sigma_relative": Figure(min(sigma, 1.0), "1", note)}
    return {"type": "AdditiveReadNoise", "sigma": Figure(sigma, "S", note)}


def reading_variance(
    fit: "CellFit", times: Float[np.ndarray, "times"], levels: Float[np.ndarray, "levels"]
) -> Float[np.ndarray, "times levels"]:
    """Variance (S^2) that the noise of such a device, slow and white, gives to one reading; 0 where it has none."""
    variance = np.zeros((len(times), len(levels)))
    white = _white(fit)
    if white is not None:
        variance += (white * levels) ** 2 if _proportional(fit) else white**2
    if "flicker" in fit:
        scale, exponent = _amplitude(fit)
        u = np.maximum(levels / fit["flicker"].constants["g_reference"], 1 / CLIPPED)
        band = np.log(np.maximum((times + _t_0(fit) + _t_read(fit)) / (2 * _t_read(fit)), 1.0))
        variance += (levels * scale * u**exponent) ** 2 * band[:, None]
    elif "telegraph" in fit and "step" in fit["telegraph"]:
        law = fit["telegraph"]
        filled = law["share"] * law["filled"]
        variance += filled * (1 - filled) * (law["step"] * levels) ** 2
    return variance


def _amplitude(fit: "CellFit") -> tuple[float, float]:
    """Root of the mean A over cells at the reference, and its power of G."""
    law = fit["flicker"]
    scale = np.sqrt(law["amplitude"]) * np.exp(law["amplitude_log"] ** 2 / 4)
    return float(scale), law["exponent"] / 2 if "exponent" in law else 0.0


def _t_read(fit: "CellFit") -> float:
    band = fit.table.sidecar.read_bandwidth_Hz
    return 1 / (2 * band) if band else fit["flicker"].constants["interval"]


def _t_0(fit: "CellFit") -> float:
    """Age of a cell at the time that its device calls zero: that of the first reading where the cell drifts."""
    drift = chosen_laws(fit)["drift"]
    return drift.constants["t_0"] if drift else 0.0


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
