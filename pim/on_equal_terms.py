"""Designs on equal terms: the same bits, each at its own best batch, at equal area, equal energy and equal loss.

A design may have several settings (formats, bits of converters), and a multiple over another design means nothing if
that one computes in other formats, waits at a batch of one, is of another size or has not lost the same. So each
setting is priced at its own best batch and held against the reference's setting with the same bits (analog weights have
none, and agree with any), and of each design the most frugal setting within a limit of the loss is marked. Copies of a
whole system fill an area (or a budget of power), each with sequences of its own; they need not be whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from pim.calibration import calibrate
from pim.costs.comparison import Compared, compared
from pim.costs.ledger import quantity
from pim.costs.plan_cost import GENERATE, PROMPT
from pim.counts import check_count
from pim.devices.errors import nearest
from pim.errors import StudyError
from pim.evaluation import evaluate
from pim.llm_workloads.model import Model
from pim.mapping.plan import Plan, place
from pim.mapping.system import System
from pim.mapping.system_file import load_system
from pim.mapping.widths import Widths, widths
from pim.plan_checks import needs_ranges
from pim.units import plain, significant


class Setting(NamedTuple):
    """One way to run a design.

    Attributes:
        system: what is priced, or the name of one that ships.
        emulated: what its losses are found on, where the priced system computes in formats that it is not emulated in:
            a `pim.formatted` device for a GPU's 4-bit weights. None: the system itself.
    """

    system: System | str
    emulated: System | None = None


@dataclass(frozen=True)
class Terms:
    """A setting of a design, and how it stands to the reference.

    Attributes:
        design, setting: their names.
        bits: of weights, activations, keys and values; "~" for what has none.
        figures: batch, tokens a second, energy and so on at its best batch (see `pim.costs.comparison.Compared`).
        loss: nats a token beyond the exact model; None where it was not asked for.
        within: whether that is within the limit; True without one.
        best: whether it is the most frugal setting of its design that is within.
        against: the reference's setting that it is held against.
        same_bits: whether that one has the same bits.
        equal_area: its tokens a second over the reference's, on the same area; NaN where one is unknown.
        equal_power: the same at the same power: the ratio of tokens a joule.
    """

    design: str
    setting: str
    bits: Widths
    figures: Compared
    loss: float | None
    within: bool
    best: bool
    against: str
    same_bits: bool
    equal_area: float
    equal_power: float


@dataclass(frozen=True, repr=False)
class EqualTerms:
    """The table of `equal_terms`.

    Example:
        >>> table = pim.equal_terms("llama-2-7b", {"GPU": ["a100"], "SRAM": ["sram-digital"]}, longest=0.05)
        >>> table.best()["SRAM"].equal_power
    """

    rows: tuple[Terms, ...]
    reference: str
    model: str
    context: int
    batch: str
    limit: float | None

    def best(self) -> dict[str, Terms]:
        """Of each design the most frugal setting within the limit of the loss; a design without one is left out."""
        return {row.design: row for row in self.rows if row.best}

    def to_dict(self) -> dict[str, Any]:
        """The rows as plain values, ready for JSON; what is unknown is None."""
        rows = [_plain({**asdict(row), "bits": str(row.bits)}) for row in self.rows]
        asked = {"model": self.model, "context": self.context, "batch": self.batch, "limit": self.limit}
        return {**asked, "reference": self.reference, "rows": rows}

    def __str__(self) -> str:
        head = ("", "design", "setting", "bits", "batch", "tokens/s", "energy/token", "area", "loss", "=area", "=power",
                "against")  # fmt: skip
        cells = [_cells(row) for row in self.rows]
        sides = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
        form = "  ".join(f"{{:{'<' if i in (0, 1, 2, 3, 11) else '>'}{width}}}" for i, width in enumerate(sides))
        limit = "" if self.limit is None else f", within {self.limit:g} nat a token of the exact model"
        legend = [
            f"{self.model}, decoding, {self.context} tokens behind, each at {self.batch}",
            f"*: the most frugal setting of its design{limit}",
            f"=area, =power: tokens a second over {self.reference}'s on the same area, at the same power",
        ]
        return "\n".join([*legend, "", *(form.format(*line).rstrip() for line in (head, *cells))])

    __repr__ = __str__


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, those of a table in a table."""
    each = lambda v: _plain(v) if isinstance(v, dict) else plain(v) if isinstance(v, float) else v
    return {name: each(value) for name, value in values.items()}


def _cells(row: Terms) -> tuple[str, ...]:
    figures = row.figures
    return (
        "*" if row.best else "",
        row.design,
        row.setting,
        str(row.bits),
        f"{figures.batch}{'' if figures.fits else ' (no room)'}",
        significant(figures.tokens_per_second),
        quantity(figures.energy_per_token, "J"),
        "unknown" if np.isnan(figures.area) else f"{figures.area * 1e6:,.4g} mm²",
        "" if row.loss is None else f"{row.loss:.4f}",
        *("unknown" if np.isnan(ratio) else significant(ratio) for ratio in (row.equal_area, row.equal_power)),
        row.against if row.same_bits else f"{row.against} (other bits)",
    )


def equal_terms(
    model: Model | str,
    designs: Mapping[str, Iterable[Setting | System | str]],
    *,
    reference: str | None = None,
    batch: int | str = "best",
    prompt: int = PROMPT,
    generate: int = GENERATE,
    longest: float | None = None,
    maximise: str = "tokens_per_joule",
    text: str | None = None,
    calibration: str | None = None,
    limit: float | None = None,
    **asked: Any,
) -> EqualTerms:
    """Designs with the same model on equal terms.

    Args:
        model: a model; shapes alone do where no losses are asked for.
        designs: by name, the settings of each: systems, names of those that ship, or `Setting`.
        reference: the design that the others are held against; the first by default.
        batch: sequences of all, or "best", of each its own.
        prompt: tokens read before.
        generate: tokens written; figures are those half-way through.
        longest: s between two tokens of a sequence that the best batch may take.
        maximise: what the best batch has the most of; see `pim.compare`.
        text: text on which losses are found; without it there are none.
        calibration: other text, for the ranges of converters.
        limit: nats a token that a setting may lose.
        asked: as for `pim.evaluate`: chips, tokens, context, seed.

    Raises:
        StudyError: no designs or settings, an unknown reference, a limit without a text, no batch that is quick enough.

    Example:
        >>> digital = pim.load_system("sram-digital")
        >>> int4 = digital.replace({"arrays.weight_bits": 4})
        >>> gpu = ["a100", pim.System({"gpu": pim.preset("gpu-a100-w8a8")}, name="a100-w8a8")]
        >>> print(pim.equal_terms("llama-2-7b", {"GPU": gpu, "digital SRAM": [digital, int4]}, longest=0.05))
    """
    settings = {name: [_setting(one) for one in each] for name, each in designs.items()}
    for name, each in settings.items():
        if not each:
            raise StudyError(f"the design {name!r} has no setting: give at least one system")
    if not settings:
        raise StudyError("there are no designs to compare: give {name: [systems]}")
    reference = next(iter(settings)) if reference is None else reference
    if reference not in settings:
        raise StudyError(f"reference = {reference!r} is none of the designs; {nearest(reference, settings)}")
    if limit is not None and text is None:
        raise StudyError("limit says what may be lost, but there is no text to find losses on: give text=")
    for name, value in (("batch", 1 if batch == "best" else batch), ("prompt", prompt), ("generate", generate)):
        check_count(name, value)
    context, shown = prompt + (generate + 1) // 2, model if isinstance(model, str) else model.config.family
    found: list[_Found] = []
    for design, each in settings.items():
        for one in each:
            plan = place(model, load_system(one.system) if isinstance(one.system, str) else one.system)
            loss = None if text is None else _loss(plan, one.emulated, text, calibration, asked)
            found.append(_Found(design, widths(plan), compared(shown, plan, batch, context, longest, maximise), loss))
    at = f"the batch of its most {maximise.replace('_', ' ')}" if batch == "best" else f"batch {batch}"
    return EqualTerms(_terms(found, reference, limit), reference, shown, context, at, limit)


def _setting(one: Setting | System | str) -> Setting:
    return one if isinstance(one, Setting) else Setting(one)


class _Found(NamedTuple):
    """What was found of a setting by itself."""

    design: str
    bits: Widths
    figures: Compared
    loss: float | None


def _terms(found: list[_Found], reference: str, limit: float | None) -> tuple[Terms, ...]:
    """Each setting, held against one of the reference."""
    theirs = [row for row in found if row.design == reference]
    within = lambda row: limit is None or (row.loss is not None and row.loss <= limit)
    rows = []
    for row in found:
        same = [other for other in theirs if row.bits.agrees(other.bits)]
        other = _most_frugal(same or theirs)
        rivals = [one for one in found if one.design == row.design and within(one)]
        rows.append(
            Terms(
                design=row.design,
                setting=row.figures.system,
                bits=row.bits,
                figures=row.figures,
                loss=row.loss,
                within=within(row),
                best=bool(rivals) and row is _most_frugal(rivals),
                against=other.figures.system,
                same_bits=bool(same),
                equal_area=_rate(row) / _rate(other) * other.figures.area / row.figures.area,
                equal_power=_rate(row) / _rate(other) * other.figures.power / row.figures.power,
            )
        )
    return tuple(rows)


def _most_frugal(rows: list[_Found]) -> _Found:
    """That with the least energy a token; one whose energy is unknown only if there is no other."""
    return min(rows, key=lambda row: (np.isnan(row.figures.energy_per_token), row.figures.energy_per_token))


def _rate(row: _Found) -> float:
    return row.figures.tokens_per_second


def _loss(plan: Plan, emulated: System | None, text: str, calibration: str | None, asked: Mapping[str, Any]) -> float:
    """Loss of a setting, in nats a token beyond the exact model."""
    if plan.model is None:
        raise StudyError("losses need the model's weights, which were not given: leave text away, or load a model")
    on = plan if emulated is None else place(plan.model, emulated)
    if needs_ranges(on):
        if calibration is None:
            raise StudyError(f"{on.system.name} has converters whose ranges come from a text: give calibration=")
        on = calibrate(on, calibration)
    return evaluate(on, text, **asked).points[0].difference.mean
