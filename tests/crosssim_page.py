"""The page docs/crosssim.md: `python tests/crosssim_page.py` writes it anew."""

import math
import os
from pathlib import Path

from crosssim import TRIALS, Exact, Statistical, compared, golden

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "crosssim.md"


def table(results: dict[str, Exact | Statistical]) -> str:
    """The page docs/crosssim.md. Figures are rounded so that float noise between machines does not show."""
    exact = [
        f"| {name} | {_error(r.theirs)} | {_error(r.ours)} | {_below(r.apart)} | {_below(r.tolerance)[2:]} |"
        for name, r in results.items()
        if isinstance(r, Exact)
    ]
    random = [
        f"| {name} | {_error(r.theirs)} | {_error(r.ours)} | "
        + " | ".join(f"{apart:+z.1f}" for apart in r.apart)
        + f" | {r.tolerance:g} |"
        for name, r in results.items()
        if isinstance(r, Statistical)
    ]
    return PAGE.format(exact="\n".join(exact), random="\n".join(random), trials=TRIALS)


def _error(value: float) -> str:
    return "< 1e-6" if value < 1e-6 else f"{value:#.3g}"


def _below(value: float) -> str:
    """The power of ten that a difference stays below: what is left is float noise, which differs by machine."""
    return f"< 1e{math.ceil(math.log10(max(value, 1e-6)))}"


PAGE = """\
# Agreement with CrossSim

Products of CrossSim 3.2.0 (Sandia) and ours, for the same weights, inputs and configuration, each taken over into one
of our devices by `tests/crosssim.py`. The error is that of the whole product, ||y - xW|| / ||xW||. This page is written
by `python tests/crosssim_page.py`, and `tests/test_crosssim.py` finds the same figures.

## Without randomness

The difference is that of the outputs, over the norm of CrossSim's. Where wires resist, the tolerance is the residual at
which CrossSim's own solver stopped, or 1e-6 if that is less than float32 can tell.

| record | error, CrossSim | error, ours | difference | tolerance |
|---|---|---|---|---|
{exact}

## With random errors

Means over 40 programmings or reads there and {trials} here. The differences are in standard errors of both sides
together: of the error, of the error against the same device without randomness, and of the gain <y, xW> / <xW, xW>.

| record | error, CrossSim | error, ours | error: difference | without randomness | gain | tolerance |
|---|---|---|---|---|---|---|
{random}

## Where the conventions differ

- Inputs and ADC ranges: CrossSim's unit is a cell of g_max at full input, ours is a cell of the window g_max - g_min.
- Offset core: one level of the window is left unused there as here, so that zero has a level, but CrossSim scales its
  outputs as if it were not: they have the gain (2^b - 2) / (2^b - 1), which is taken over as a factor.
- ADC with one level a cell step ("GRANULAR"): with CrossSim's 2^b codes zero lies between two of them; with our rule
  `granular` it is one. The range is given here, as are "CALIBRATED" and "MAX" (the number of rows).
- Read noise: CrossSim draws every cell anew and clips it at zero conductance; `RectifiedReadNoise` has the mean and
  variance of that in each cell, and the noise is drawn once a column.
- Inputs at gates: CrossSim's row resistance is then that of the lines along the columns which carry the current, our
  `wires.source_line`.
- SONOS: a spread for each day since programming, whose first, day 0, our preset has at one hour.
"""


if __name__ == "__main__":
    records = golden(Path(os.environ.get("PIM_SHARED", ROOT.parent / "shared")))
    PATH.write_text(table({name: compared(record) for name, record in records.items()}))
