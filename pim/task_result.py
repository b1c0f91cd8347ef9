"""What a task found, with the protocol under which it was found."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from jaxtyping import Float

from pim.devices.device import Source
from pim.mapping.plan import Plan
from pim.summary import deviation
from pim.table import WIDTH
from pim.units import significant

FORMATS = {"perplexity": significant, "spearman": "{:.4f}".format}
"""How figures are printed; those that are not here are shares."""


@dataclass(frozen=True, repr=False)
class TaskResult:
    """What a task found.

    Attributes:
        plan: what was asked.
        digital: each figure of the exact model.
        chips: each figure of every chip.
        protocol: task, file and its SHA-256, items, how they were asked, context, chips, seed, versions.

    >>> result = pim.run_task(plan, pim.load_task("last-word", "lambada_dev.jsonl"))
    >>> result.digital["accuracy"], result.chips["accuracy"]
    """

    plan: Plan
    digital: Mapping[str, float]
    chips: Mapping[str, Float[np.ndarray, " chips"]]
    protocol: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON; `std` is None for a single chip."""
        return {
            "protocol": dict(self.protocol),
            "figures": {
                name: {
                    "digital": self.digital[name],
                    "mean": float(values.mean()),
                    "std": deviation(values),
                    "chips": values.tolist(),
                }
                for name, values in self.chips.items()
            },
            "sources": {
                name: {"citation": source.citation, "url": source.url} for name, source in self.citations().items()
            },
        }

    def citations(self) -> dict[str, Source]:
        """The sources behind every figure of the devices."""
        return self.plan.system.citations()

    def __str__(self) -> str:
        p = self.protocol
        time = f", {p['time_s']:g} s after programming" if isinstance(p["time_s"], (int, float)) else ""
        versions = ", ".join(f"{name} {version}" for name, version in p["versions"].items())
        chips = f"{p['chips']} chip{'s' if p['chips'] != 1 else ''}"
        rows = [("", "digital", "mean ± std" if p["chips"] > 1 else "chip", "worst")]
        rows += [self._row(name) for name in self.digital]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([
            f"{p['task']} with {p['model']} on {p['system']}: {p['items']:,} items, {p['tokens']:,} tokens, "
            f"context {p['context']}, {chips}, seed {p['seed']}{time}",
            f"{p['file']}, SHA-256 {p['text_sha256']}",
            *wrap(p["text_protocol"], WIDTH),
            versions,
            *p.get("notes", ()),
            "",
            lines[0],
            "-" * len(lines[0]),
            *lines[1:],
        ])  # fmt: skip

    __repr__ = __str__

    def _row(self, name: str) -> tuple[str, str, str, str]:
        values = self.chips[name]
        worst, std = values.max() if name == "perplexity" else values.min(), deviation(values)
        show = FORMATS.get(name, "{:.2%}".format)
        spread = "" if std is None else f" ± {show(std)}"
        return name.replace("_", " "), show(self.digital[name]), f"{show(values.mean())}{spread}", show(worst)
