"""The page docs/quantisation.md: `python tests/quantisation_page.py` writes it anew."""

from pathlib import Path

from quantised import (
    CHANNELS,
    FACTOR,
    INPUTS,
    KEY_FACTOR,
    KEYS,
    WEIGHTS,
    Stories,
    inputs_of,
    keys_of,
    shipped,
    weights_of,
)

from pim.llm_workloads.text import as_scored

PATH = Path(__file__).resolve().parents[1] / "docs" / "quantisation.md"


def page(stories: Stories) -> str:
    """The page."""
    scored = as_scored(stories.scored, stories.model.tokenizer, context=256)
    return PAGE.format(
        tokens=int(scored.scored_tokens().sum()),
        base=stories.of(),
        channels=" and ".join(map(str, CHANNELS)),
        factor=FACTOR,
        key_factor=KEY_FACTOR,
        weights=rows(WEIGHTS, lambda name: weights_of(stories, name)),
        inputs=rows(INPUTS, lambda name: inputs_of(stories, name)),
        keys=rows(KEYS, lambda name: keys_of(stories, name)),
    )


def rows(names, figures_of) -> str:
    """A line of a table for each format."""
    return "\n".join(row(name, figures_of(name)) for name in names)


def row(name: str, figures: dict[str, float]) -> str:
    """A line of a table."""
    return (
        f"| `{name}` | " + " | ".join(f"{value:.4g}" if value < 100 else "> 100" for value in figures.values()) + " |"
    )


PAGE = """\
# Number formats and quantisers

What number formats, quantisers and transforms do to the shipped model `tiny-stories`: perplexity of {tokens} tokens of
stories that it has not seen, each scored from its beginning; exact, it is {base:.4g}. This page is written by
`python tests/quantisation_page.py`, and `tests/test_quantisation_page.py` finds the same figures.

A format is a number and what shares its scale: `int4:channel`, `int4_asym:group128`, `int8:token`, `fp8_e4m3:channel`,
`mxfp4`. Asymmetric integers end in `_asym` (zero is a code) or `_min` (from the least value, which is kept). Of keys,
`int2_min:channel32` is a scale for each channel over 32 tokens; a group is rounded once it is complete.

```python
from pim.llm_workloads.quantisation.quantise import quantise
from pim.llm_workloads.quantisation.outliers import with_outliers
from pim.llm_workloads.quantisation.smoothquant import smooth

model = quantise(pim.load_model("tiny-stories"), "int3:group32", "gptq", calibration_text)
large = smooth(with_outliers(pim.load_model("tiny-stories"), channels=[5, 40], factor=100.0), calibration_text)
baseline = pim.inference_system(
    pim.formatted(weights="int4:group128", inputs="int8:token"), pim.formatted(keys="int4:token", values="int4:token")
)
result = pim.evaluate(pim.place(model, baseline), text)
```

## Weights

All matrices of the layers; embedding and head stay exact. GPTQ (arXiv 2210.17323) and AWQ (arXiv 2306.00978) see
1,024 tokens of other stories.

| weights | to the nearest | GPTQ | AWQ |
|---|---|---|---|
{weights}

## Inputs

The inputs of all matrices of the layers, with a scale for each token. Outliers: channels {channels} of what norms give
are {factor:g} times as large, and their weights as small, so that the exact model stays the same. They are undone by
SmoothQuant (arXiv 2211.10438, alpha 0.5), by the scaling of AWQ for 4-bit weights, by rotation of the residual stream
(QuaRot, arXiv 2404.00456), and by multiplying inputs of 6 and more exactly (LLM.int8(), arXiv 2208.07339).

| inputs | no outliers | outliers | smoothed | rescaled (AWQ) | rotated | large ones split off |
|---|---|---|---|---|---|---|
{inputs}

## Keys

Keys after rotation by position. Outliers: a pair of channels of every head is {key_factor:g} times as large in the
keys, and as small in the queries. A scale for each channel does not see them (KIVI, arXiv 2402.02750).

| keys | no outliers | outliers |
|---|---|---|
{keys}
"""


if __name__ == "__main__":
    PATH.write_text(page(shipped()))
