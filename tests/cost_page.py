"""The page docs/cost.md: `python tests/cost_page.py` writes it anew."""

from pathlib import Path

from operand_statistics import DEVICES, LAYER, OPERATORS, Compared, compared

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "cost.md"


def page(rows: dict[tuple[str, str], Compared]) -> str:
    """The page. Figures are rounded so that float noise between machines does not show."""
    table = "\n".join(
        f"| {name} | {operator} | {float(r.operands.u2):.2g} | {float(r.operands.g) * 1e6:.2f} | "
        f"{float(r.operands.active):.2f} | {float(r.operands.code):.2f} | {r.cells / r.total:.2g} | "
        f"{r.fixed_cells / r.cells:.2g} | {r.fixed_total / r.total:.2f} |"
        for (name, operator), r in rows.items()
    )
    worst = max(r.fixed_total / r.total for r in rows.values())
    mean = sum(r.fixed_total / r.total for r in rows.values()) / len(rows)
    (tokens,) = {r.vectors for r in rows.values()}
    return PAGE.format(table=table, layer=LAYER, tokens=tokens, worst=worst - 1, mean=mean - 1)


def every() -> dict[tuple[str, str], Compared]:
    """All rows of the table."""
    return {(name, operator): compared(name, operator) for name in DEVICES for operator in OPERATORS}


PAGE = """\
# What a cost is made of

`pim.cost(device, (n_in, n_out))` and `pim.cost(plan)` say what a product, or a run of a model, takes in energy, time
and area. This page holds the conventions. It is written by `python tests/cost_page.py`, and
`tests/test_operand_statistics.py` finds the same figures.

## The ledger

A cost is a ledger with a row for each operator and component; totals are sums of its rows, of energy, of latency and
of area alike. Nothing is added that is not a row. A component that works behind another's back has no latency of its
own, and one that others share has its area once. `cost.ledger.by_component()` and `.by_operator()` are sums over it.

Components of an analog macro: `cells` (V^2 G t), `lines` (C V^2 a pulse of word, select and bit lines), `dac`,
`amplifiers`, `sample_hold`, `adc`, `shift_add`, `buffer`, `bus`, what stands around arrays in a tile and on a chip
(`hierarchy`), and `leakage`. Of a digital macro: `cells`, `multipliers`, the adders, `pipeline`, `accumulators`,
`registers`, `wires`, `drivers`, `clock`, `control`, `leakage`. Every law is a record of its own, which `pim explain`
names with its equation: `pim explain rram-techC.adc.cost.capacitance_per_bit`. `pim.components()` lists converters,
buffers, links and others that may take the place of a part: `pim.replace(device, {{"adc.cost": pim.component(...)}})`.

## Latency

Reads, conversions and shift-and-add follow one another, and vectors too, unless a macro says `pipeline = "stages"`:
then each stage is on the next sum while the others are still on, and the slowest sets the pace. All arrays of a matrix
work at once. Columns that share a converter take turns.

## Supply

Laws that count capacitances go with C V^2 by themselves. Figures that are given in joules and seconds belong to one
supply; a part `supply` scales them: polynomials by node, a table of what was measured, or an alpha-power law. A supply
outside the range of the law is an error.

## Factors

`cost_factors` multiply every row, latency and area too, or no row: there is no factor for one output alone. The notes
of each cost name them. A value that was set so that a published figure comes out has the grade `fitted` and a note that
names the figure; docs/validation.md counts them.

## Operand statistics

Energy depends on what is multiplied: on the mean square of the word-line levels (`u2`), on the conductance that they
meet (`g`), on the share of lines that are driven (`active`), and with some converters on the output codes (`code`);
in a digital macro on bits that toggle and weight bits that are one. `chip.operands(x)` and `pim.calibrate` measure them
on real inputs, codes at the ranges of the converters. Without them inputs and weights count as uniform over their
ranges and codes as half of the largest. The first note of a cost says which.

### Why operand statistics

A fixed energy an operation is what uniform operands give. Layer {layer} of tiny-stories on {tokens} tokens of its
stories, statistics measured against fixed energies; measured energies of cells agree with a sum of V^2 G t over every
cell, vector and step, and those of converters that count with a sum over every code. The last two columns are fixed
over measured energy. Fixed energies are {worst:.0%} too high at worst and {mean:.0%} on average, those of the cells
alone many times: activations have long tails, and most are far below the range of the converters.

| device | operator | u2 | g, µS | active | code | cells' share | cells, fixed / measured | all, fixed / measured |
|---|---|---|---|---|---|---|---|---|
{table}

## Macros that nobody published

`pim.devices.generic.generic` makes a macro from node, array, bits and supply alone, without any calibration;
docs/validation.md holds such macros against published ones.

## What is known, and how well

Each value has a source and a grade (`pim presets NAME`, `pim explain NAME.FIELD`). `pim.sensitivity(cost, "energy")`
sorts them by what they do to a figure, d ln(figure) / d ln(value), so that it shows where the one that matters most is
only a choice. Laws say for what they were made: outside it a note says "extrapolated", and where they mean nothing
there is an error. Statistics that are assumed from the device move with it in this, rounding left aside.

`pim.cost(device, shape, over={{"adc.bits": bits, "vdd": supplies}})` prices as many configurations as the arrays have
values, in one call; shapes may be arrays too.

## Resident and streamed weights

Weights lie in their arrays for good: a cost takes them to be resident, and their area counts. What writing them takes,
once, stands beside it as `cost.loading`; `cost.streamed`, or `weights = "streamed"`, puts it into the ledger, once for
all vectors, and of a plan once for every step. A roofline streams what it multiplies through its memory each time.
"""


if __name__ == "__main__":
    PATH.write_text(page(every()))
