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
"""


if __name__ == "__main__":
    records = golden(Path(os.environ.get("PIM_SHARED", ROOT.parent / "shared")))
    PATH.write_text(table({name: compared(record) for name, record in records.items()}))
