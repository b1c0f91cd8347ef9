"""The page docs/validation.md and its figures: `python tests/validation_page.py` writes them anew."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from pim.silicon.uncalibrated import FACTOR, UncalibratedRow
from pim.silicon.validation import Validation, ValidationRow, validate
from pim.silicon.validation_plot import Row, efficiency_rows, scatter
from pim.silicon.validation_table import figure_cells, verdict

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "validation.md"
FIGURE = PATH.with_suffix(".svg")
UNCALIBRATED_FIGURE = PATH.with_name("validation-uncalibrated.svg")


def page(found: Validation, generic: Sequence[UncalibratedRow]) -> str:
    """The page. Figures have three digits, so that float noise between machines does not show."""
    chips = "\n\n".join(
        chip_section(chip, list(rows)) for chip, rows in groupby(by_chip(found), key=lambda row: row.chip)
    )
    trusted = [row for row in generic if row.macro.confidence == "high"]
    chips_near: dict[str, bool] = {}
    for row in trusted:  # of a chip all figures must be within; HERMES is one in two papers
        chip = {"hermes21": "legallo23"}.get(row.macro.id, row.macro.id.split("_")[0])
        chips_near[chip] = chips_near.get(chip, True) and row.within
    return PAGE.format(
        chips=chips,
        closing=found.closing,
        generic="\n".join(f"| {' | '.join(generic_cells(row))} |" for row in generic),
        factor=f"{FACTOR:g}",
        within=sum(row.within for row in trusted),
        trusted=len(trusted),
        edge=sum(row.within and not 1.1 / FACTOR <= row.energy_ratio <= FACTOR / 1.1 for row in trusted),
        chips_within=sum(chips_near.values()),
        chips_trusted=len(chips_near),
    )


def generic_cells(row: UncalibratedRow) -> list[str]:
    macro = row.macro
    array = f"{macro.rows} x {macro.columns}"
    bits = f"{macro.input_bits}/{macro.weight_bits}" + ("" if macro.adc_bits is None else f"/{macro.adc_bits}")
    efficiencies = [f"{1e-12 * value:#.3g}".rstrip(".") for value in (macro.efficiency, row.efficiency)]
    told = "; ".join(filter(None, [macro.note, "" if row.within or not macro.why else f"**why:** {macro.why}"]))
    verdict = "within" if row.within else "MISSED"
    return [macro.chip, macro.kind, f"{macro.node * 1e9:g}", array, bits, f"{macro.vdd:g}", *efficiencies,
            f"{row.energy_ratio:.2f}", verdict, macro.confidence, told]  # fmt: skip


def generic_points(rows: Sequence[UncalibratedRow]) -> list[Row]:
    """The uncalibrated rows as points of a scatter plot, in TOPS/W; phases of one chip share its name."""
    points = []
    for row in rows:
        name = row.macro.chip.removesuffix(", one phase").removesuffix(", four phases")
        efficiencies = 1e-12 * row.macro.efficiency, 1e-12 * row.efficiency
        points.append((name, *efficiencies, f"{row.macro.confidence} confidence"))
    return points


def by_chip(found: Validation) -> list[ValidationRow]:
    chips = list(dict.fromkeys(row.chip for row in found.rows))
    return sorted(found.rows, key=lambda row: chips.index(row.chip))


def chip_section(chip: str, rows: list[ValidationRow]) -> str:
    lines = [f"### {chip}", "", HEAD]
    lines += [f"| {' | '.join(row_cells(row))} |" for row in rows]
    sources = dict.fromkeys((row.source, row.url) for row in rows)
    told = [f"- {citation}{f' <{url}>' if url else ''}" for citation, url in sources]
    return "\n".join([*lines, "", *told])


def row_cells(row: ValidationRow) -> list[str]:
    published, ours, unit, ratio, tolerance = figure_cells(row, digits=3)
    why = row.why if not row.within else ""
    told = "; ".join(filter(None, [row.note, f"**why:** {why}" if why else ""]))
    return [f"`{row.device}`", row.name, published, ours, unit, ratio, tolerance, verdict(row), row.grade, told]


HEAD = """\
| device | figure | published | ours | unit | ratio | tolerance | | grade | conditions |
|---|---|---:|---:|---|---:|---:|---|---|---|"""

PAGE = """\
# Costs of published chips

What the cost model says of chips that were made, or studies that were published, against what they say themselves.
`pim validate` prints the same; this page is written by `python tests/validation_page.py`, and
`tests/test_validate.py` finds the same figures.

- **predicted** rows (`within` or `MISSED`): no value of the device was set from the figure.
- **calibrated** rows: a value was set from this very figure. They show that the device file is what it says, and count
  for nothing.
- **recalled** rows: the published figure is from memory. They are shown and count for nothing.
- **free constants**: values of a device file that were set from published figures; their grade is `fitted`, and
  `pim presets NAME` lists them.

An operation is a multiplication or an addition of numbers of the stated precision: a multiply-accumulate is two,
whatever its bits. Where a source counts by the bit, its figures were divided by the bits of input and weight. A ratio
is ours over published; of shares the difference is given, in points.

{closing}.

![Operations a joule, ours against measured](validation.svg)

Operations a joule of all rows that tell them, at the precision of each: the diagonal is agreement, the band a factor of
two.

## From node, cell, array, bits and supply alone

No constant is fitted to these efficiencies: `pim.devices.generic` and `pim.devices.generic_digital` make a macro of its
kind from what every publication says first. A kind brings what such macros have: windows of HfOx and phase-change
cells, lines that pass a cell, a biased stage. Bits are those of input, weight and output converter; the energy is that
of an operation, ours over measured. Of the {trusted} figures whose supply, bits and data are known to belong together
(high confidence), {within} lie within a factor of {factor}, {edge} of them within a tenth of that bound; chip by chip
it is {chips_within} of {chips_trusted}.

![Operations a joule of uncalibrated macros, ours against measured](validation-uncalibrated.svg)

| chip | kind | nm | array | bits | V | measured TOPS/W | ours | energy | | confidence | conditions |
|---|---|---:|---|---|---:|---:|---:|---:|---|---|---|
{generic}

## Chip by chip

{chips}
"""


if __name__ == "__main__":
    everything = validate()
    generic = everything.uncalibrated
    PATH.write_text(page(everything, generic))
    scatter(efficiency_rows(everything), FIGURE)
    scatter(generic_points(generic), UNCALIBRATED_FIGURE)
