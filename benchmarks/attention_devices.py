"""Attention on gain cells, in digital SRAM, in ReRAM and at the banks of a DRAM: perplexity beside joules.

    python benchmarks/attention_devices.py [--model FOLDER --text FILE --calibration FILE] [--tokens 8192]

Everything but attention is exact (a digital unit of 28 nm), so that all that is lost is lost in attention, and the
same plan is priced. What is written with every token wears cells out: the last column says for how long they last.
"""

import argparse
from pathlib import Path

import pim
from pim.costs.ledger import quantity
from pim.costs.lifetime import printed_time
from pim.llm_workloads.model import Model
from pim.llm_workloads.stories import story_text

DEVICES = {
    "exact": "digital-28nm",
    "digital SRAM": "sram-digital28",
    "DRAM banks": "dram-attacc",
    "ReRAM": "rram-wan2022",
    "analog SRAM": "sram-qs28",
    "gain cells": "gaincell-leroux2025",
}


def row(name: str, model: Model, text: str, other: str, tokens: int) -> tuple[str, ...]:
    """What a model loses with its attention on a device, and what that costs."""
    system = pim.System({"digital": pim.preset("digital-28nm"), "attention": pim.preset(DEVICES[name])}, [
        ("layers.*.attention.qk", "attention"), ("layers.*.attention.pv", "attention"),
    ], name=name)  # fmt: skip
    plan = pim.calibrate(pim.place(model, system), other, tokens=1000)
    result = pim.evaluate(plan, text, tokens=tokens, chips=1, seed=0, progress=False)
    run = pim.cost(plan, prompt=128, generate=128)
    ledger = run.decode.ledger
    attention = sum(
        float(energy)
        for operator, energy in zip(ledger.operators, ledger.energy, strict=True)
        if operator.endswith(("attention.qk", "attention.pv"))
    )
    lives = ", ".join(printed_time(life.seconds) for life in run.lifetimes().values())
    joules = (run.energy_per_token, attention / run.decode_tokens)
    return (name, f"{result.perplexity:.4f}", *(quantity(value, "J") for value in joules), lives)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Attention on devices: perplexity beside joules.")
    parser.add_argument("--model", default="tiny-stories", help="a model's folder, or the name of one that ships")
    parser.add_argument("--text", type=Path, help="a text to score; stories that ship by default")
    parser.add_argument("--calibration", type=Path, help="another text, for the ranges of converters")
    parser.add_argument("--tokens", type=int, default=8192)
    asked = parser.parse_args()
    text, other = (
        story_text(seed, stories) if file is None else file.read_text()
        for file, seed, stories in ((asked.text, 2, 60), (asked.calibration, 3, 5))
    )
    model = pim.load_model(asked.model)
    head = ("attention on", "perplexity", "energy/token", "of attention", "life of a cell")
    print("{:14}{:>11}{:>14}{:>14}  {}".format(*head))
    for name in DEVICES:
        print("{:14}{:>11}{:>14}{:>14}  {}".format(*row(name, model, text, other, asked.tokens)), flush=True)


if __name__ == "__main__":
    main()
