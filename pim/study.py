"""A study: what one command runs. Its defaults are the default run of `pim run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pim.devices.catalogue import find
from pim.devices.device import Device
from pim.devices.loader import load_device
from pim.mapping.system import DIGITAL_RULES, System, inference_system
from pim.mapping.system_file import is_system_file, load_system, system_names

DIGITAL = "digital-28nm"
"""The digital unit beside a device that is given alone."""


@dataclass(frozen=True)
class Study:
    """What is run.

    Attributes:
        model: a shipped model or a Hugging Face folder.
        text: file to score; None: stories that the shipped model has not seen.
        calibration: file to find converter ranges on; None: the first part of the text, or other stories.
        system: a preset or device file, which holds the matrices of the layers beside a digital unit; a system by its
            name or file; or a table of `devices` (preset or file by name) and `rules` (pairs of pattern and name).
        set: values by path, such as {"weights.rows": 128}.
        sweep: values to try by path; None: the bits of the output converters.
        tokens: most tokens to score.
        chips: instances of the hardware.
        seed: of chips and reads.
        context: most tokens of a sequence.
        stride: tokens from one window to the next, where they are to overlap; see `as_scored`.
        time: s since programming; None: each device's reference time.
        out: folder for the files.
        resume: folder in which the run keeps what it has done, and from which it goes on if it was interrupted; the
            model is then read layer by layer, and may be larger than memory.

    >>> study = Study(system="rram-wan2022", tokens=512, sweep={"weights.adc.bits": [6, 8]})
    >>> result = run_study(study)
    """

    model: str = "tiny-stories"
    text: str | None = None
    calibration: str | None = None
    system: str | Mapping[str, Any] = "rram-techC"
    set: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Sequence[Any]] | None = None
    tokens: int = 2048
    chips: int = 4
    seed: int = 0
    context: int = 256
    stride: int | None = None
    time: float | None = None
    out: str = "out"
    resume: str | None = None


def find_device(name: str) -> Device:
    """A preset or a component by name, or the device of a TOML file."""
    return load_device(name) if name.endswith(".toml") else find(name)


def find_system(system: str | Mapping[str, Any]) -> System:
    """The system of a table, or of one device that holds the matrices of the layers: a digital unit does the rest."""
    if isinstance(system, str):
        if system in system_names() or is_system_file(system):
            return load_system(system)
        return inference_system(find_device(system), find_device(DIGITAL))
    devices = {name: find_device(device) for name, device in system["devices"].items()}
    rules = [tuple(rule) for rule in system.get("rules", [])]
    if "rules" not in system and "digital" in devices:
        rules = list(DIGITAL_RULES)
    return System(devices, rules, name=system.get("name", "system"))
