"""The page docs/validation.md and its figure: `python tests/validation_page.py` writes them anew."""

from itertools import groupby
from pathlib import Path

from pim.validation import Validation, ValidationRow, validate
from pim.validation_plot import efficiency_rows, scatter
from pim.validation_table import figure_cells, verdict

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "validation.md"
FIGURE = PATH.with_suffix(".svg")


def page(found: Validation) -> str:
    """The page. Figures have three digits, so that float noise between machines does not show."""
    chips = "\n\n".join(
        chip_section(chip, list(rows)) for chip, rows in groupby(by_chip(found), key=lambda row: row.chip)
    )
    return PAGE.format(chips=chips, closing=found.closing)


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

## Chip by chip

{chips}
"""


if __name__ == "__main__":
    everything = validate()
    PATH.write_text(page(everything))
    scatter(efficiency_rows(everything), FIGURE)
