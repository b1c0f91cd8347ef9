"""Published macros as node, cell, array, bits and supply, with the efficiency that was measured: `silicon.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pim.devices.device import Source

FILE = Path(__file__).parent / "silicon.toml"


@dataclass(frozen=True)
class SiliconMacro:
    """A published macro.

    Attributes:
        id: short name, as in the data base from which it comes.
        chip: the publication.
        kind: of `pim.devices.generic.KINDS`, or "digital".
        node: technology node (m).
        rows, columns: of an array: word lines, and outputs (digital, "ladder", "current") or columns of cells.
        input_bits, weight_bits: of the published figure.
        vdd: its supply (V).
        efficiency: op/J, two operations a multiply-accumulate.
        confidence: "high" or "medium": whether supply, bits and data of the figure are known to belong together.
        source: where the figure is from.
        adc_bits: codes of its output converters; None: digital.
        structure: further fields of its device that its publication states.
        note: under which conditions.
        why: where a generic macro misses, why.
    """

    id: str
    chip: str
    kind: str
    node: float
    rows: int
    columns: int
    input_bits: int
    weight_bits: int
    vdd: float
    efficiency: float
    confidence: str
    source: Source
    adc_bits: int | None = None
    structure: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    why: str = ""


def silicon() -> tuple[SiliconMacro, ...]:
    """All published macros that generic ones are held against.

    >>> [macro.chip for macro in silicon() if macro.confidence == "high"]
    """
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    sources = {key: Source(**entry) for key, entry in table["sources"].items()}
    return tuple(SiliconMacro(**{**entry, "source": sources[entry["source"]]}) for entry in table["macro"])
