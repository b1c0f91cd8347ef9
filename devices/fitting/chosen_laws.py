"""Which of the fitted laws a device takes: none that says again what another one says."""

from typing import TYPE_CHECKING

import numpy as np

from pim.devices.fitting.estimate import LawFit

if TYPE_CHECKING:
    from pim.devices.fitting.cell_fit import CellFit

NAMES = ("write_error", "relaxation", "drift", "conduction", "faults")


def chosen_laws(fit: "CellFit") -> dict[str, LawFit | None]:
    """The laws of a cell by name, None where there is none to take.

    Relaxation and drift are two accounts of the same readings, of which PCM takes the drift and others the relaxation.
    Shifts against the target have the write error in them. A drift whose exponent may be zero is none.
    """
    laws = {name: fit.laws.get(name) for name in NAMES}
    if family_of(fit.table.sidecar.technology) == "pcm" and laws["drift"]:
        return laws | {"relaxation": None}
    if laws["relaxation"]:
        twice = ["drift", "write_error"] if laws["relaxation"].constants["from_target"] else ["drift"]
        return laws | dict.fromkeys(twice)
    still = laws["drift"] and np.prod(laws["drift"].band("nu_mean")) <= 0
    return laws | {"drift": None} if still else laws


def family_of(technology: str) -> str:
    """The family of a technology named in words: reram where nothing else is said."""
    words = {
        "pcm": ("pcm", "phase", "gst"),
        "fefet": ("fefet", "ferro"),
        "flash": ("flash", "sonos"),
        "ecram": ("ecram",),
    }
    name = technology.lower()
    return next((family for family, marks in words.items() if any(mark in name for mark in marks)), "reram")
