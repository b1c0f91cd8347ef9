"""Models on systems side by side: rates, energies and times in a table, each system at its best batch if asked."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pim.costs.capacity import fits
from pim.costs.ledger import quantity
from pim.costs.plan_cost import GENERATE, PROMPT
from pim.costs.step_cost import StepCost, step_cost
from pim.counts import check_count
from pim.devices.errors import nearest
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.mapping.system_file import load_system
from pim.units import plain, significant

MOST = 4096
"""The largest batch that is tried."""
AIMS: dict[str, Callable[[StepCost], Any]] = {
    "tokens_per_second": lambda steps: steps.tokens_per_second,
    "tokens_per_joule": lambda steps: 1 / steps.energy_per_token,
    "tokens_per_second_mm2": lambda steps: steps.tokens_per_second / steps.area * 1e-6,
}
"""What the best batch may have the most of."""


@dataclass(frozen=True)
class Compared:
    """A model on a system; figures are those of a token half-way through what is written.

    Attributes:
        model, system: their names.
        batch: sequences.
        tokens_per_second: written, over all sequences.
        latency: s between two tokens of a sequence.
        energy_per_token: J of a written token.
        power: W.
        area: m^2.
        bottleneck: what the step spends most of its time on.
        fits: whether weights, keys and values have room.
        notes: what was assumed or left out.
    """

    model: str
    system: str
    batch: int
    tokens_per_second: float
    latency: float
    energy_per_token: float
    power: float
    area: float
    bottleneck: str
    fits: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Comparison:
    """The rows of a comparison.

    Example:
        >>> print(pim.compare(["llama-2-70b"], ["dgx-a100", "cent-70b"], batch="best"))
    """

    rows: tuple[Compared, ...]
    context: int

    def to_dict(self) -> dict[str, Any]:
        """The rows as plain values, ready for JSON; what is unknown is None."""
        rows = [
            {name: plain(value) if isinstance(value, float) else value for name, value in asdict(row).items()}
            for row in self.rows
        ]
        return {"context": self.context, "rows": rows}

    def to_columns(self) -> dict[str, list[Any]]:
        """The rows as columns, for a data frame."""
        return {f.name: [getattr(row, f.name) for row in self.rows] for f in fields(Compared)}

    def __str__(self) -> str:
        head = ("model", "system", "batch", "tokens/s", "time/token", "energy/token", "power", "area", "most time")
        cells = [
            (
                row.model,
                row.system,
                f"{row.batch}{'' if row.fits else ' (no room)'}",
                significant(row.tokens_per_second),
                quantity(row.latency, "s"),
                quantity(row.energy_per_token, "J"),
                quantity(row.power, "W"),
                "unknown" if np.isnan(row.area) else f"{row.area * 1e6:,.0f} mm²",
                row.bottleneck,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
        form = "  ".join(f"{{:{'<' if i in (0, 1, 8) else '>'}{width}}}" for i, width in enumerate(widths))
        return "\n".join(
            [f"decoding, {self.context} tokens behind", *(form.format(*line).rstrip() for line in (head, *cells))]
        )

    __repr__ = __str__


def compare(
    models: str | ModelConfig | Iterable[str | ModelConfig],
    systems: str | System | Iterable[str | System],
    *,
    batch: int | str = 1,
    prompt: int = PROMPT,
    generate: int = GENERATE,
    longest: float | None = None,
    maximise: str = "tokens_per_second",
) -> Comparison:
    """Models on systems: what a written token takes, half-way through those that are written.

    Args:
        models: configs, or names of models whose shapes are known.
        systems: systems, or names of those that ship, or system files.
        batch: sequences; "best": of each system that with the most of what `maximise` names of those for which there is
            room. A pipeline takes at least one sequence in each of its micro-batches: a smaller one is raised to that.
        prompt: tokens read before.
        generate: tokens written.
        longest: s between two tokens of a sequence that the best batch may take.
        maximise: "tokens_per_second"; "tokens_per_joule", which arrays have at a small batch and processors at a large
            one; or "tokens_per_second_mm2".

    Raises:
        StudyError: a batch that is none; no batch that has room or is quick enough; energy or area that is not known
            of a system whose best batch is asked for by it.

    Example:
        >>> print(pim.compare("llama-2-7b", ["a100", "dgx-a100"], batch="best", longest=0.05))
    """
    if isinstance(batch, str) and batch != "best":
        raise StudyError(f"batch = {batch!r}: give a number, or 'best'")
    for name, value in (("batch", 1 if isinstance(batch, str) else batch), ("prompt", prompt), ("generate", generate)):
        check_count(name, value)
    context = prompt + (generate + 1) // 2
    chosen = [models] if isinstance(models, str | ModelConfig) else list(models)
    on = [
        load_system(s) if isinstance(s, str) else s
        for s in ([systems] if isinstance(systems, str | System) else systems)
    ]
    rows = [
        compared(name if isinstance(name, str) else name.family, place(name, system), batch, context, longest, maximise)
        for name in chosen
        for system in on
    ]
    return Comparison(tuple(rows), context)


def compared(
    model: str, plan: Plan, batch: int | str, context: int, longest: float | None, maximise: str = "tokens_per_second"
) -> Compared:
    """One row: a plan at a context, at a batch or at its best; see `compare`."""
    groups = plan.system.groups
    tried = groups * 2 ** np.arange(int(np.log2(max(MOST // groups, 1))) + 1) if batch == "best" else None
    sizes = np.array([max(int(batch), groups) // groups * groups]) if tried is None else tried
    steps, roomy = step_cost(plan, batch=sizes, context=context), fits(plan, sizes, context)
    best = 0 if tried is None else best_index(steps, roomy, longest, maximise, f"{model} on {plan.system.name}")
    figures = {
        name: float(np.asarray(getattr(steps, name))[best])
        for name in ("tokens_per_second", "latency", "energy_per_token", "power", "area")
    }
    return Compared(
        model, plan.system.name, int(sizes[best]), **figures, bottleneck=str(steps.bottleneck[best]),
        fits=bool(roomy[best]), notes=steps.notes,
    )  # fmt: skip


def best_index(steps: StepCost, roomy: np.ndarray, longest: float | None, maximise: str, what: str) -> int:
    """The smallest batch with the most of an aim, but for 0.1 %, of those that have room and are quick enough.

    Devices that take vectors one after another are as quick at any batch: the least delay is the best of those.
    """
    allowed = roomy if longest is None else roomy & (np.asarray(steps.latency) <= longest)
    if not allowed.any():
        least = (
            "there is no room even for the smallest batch" if not roomy.any() else f"none takes at most {longest:g} s"
        )
        raise StudyError(f"{what}: no batch is the best, {least}")
    if maximise not in AIMS:
        raise StudyError(f"maximise = {maximise!r}; {nearest(maximise, AIMS)}")
    found = np.where(allowed, np.asarray(AIMS[maximise](steps)), -1.0)
    if np.isnan(found).any():
        raise StudyError(f"{what}: its {maximise} are not known, so that no batch is the best by them")
    return int(np.argmax(found >= 0.999 * found.max()))
