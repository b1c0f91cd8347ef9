"""What a store of keys and values loses and spends: perplexity and joules by window, format and age.

    python benchmarks/kv_store.py [--tokens 8192] [--only window format age]

stories260K on stories of $PIM_SHARED where they are, else the shipped tiny-stories. All products are exact, on a
digital unit of 28 nm; keys and values are in DRAM at 3.7 pJ a bit. The table is that of docs/systems.md.
"""

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import pim
from pim.devices.device import Device
from pim.devices.retention_errors import RetentionErrors
from pim.llm_workloads.model import Model
from pim.llm_workloads.stories import story_text

CONTEXT, TOKENS = 256, 8192
MEDIAN, SPREAD = 10.0, 1.0
"""Seconds that half of the charged cells keep their bit, and the spread of the logarithm: a choice."""


def work() -> tuple[Model, str]:
    shared = Path(os.environ.get("PIM_SHARED", "shared")) / "data"
    if not (shared / "stories260K").is_dir():
        return pim.load_model("tiny-stories"), story_text(101, 110)
    return pim.load_model(shared / "stories260K"), (shared / "text" / "tinystories_dev.txt").read_text()


def store(**fields: Any) -> Device:
    return pim.key_value_store(interface=pim.component("dram-ddr4-interface"), area=0.0, **fields)


def leaky(refresh: float, **fields: Any) -> Device:
    law = RetentionErrors(*map(jnp.float32, (refresh, MEDIAN, SPREAD, 0.0, MEDIAN, SPREAD)))
    return store(format="int8", retention=law, **fields)


def cases() -> dict[str, dict[str, Device]]:
    return {
        "window": {
            "all of 256 tokens": store(format="fp16"),
            **{f"last {w}": store(format="fp16", window=w) for w in (128, 60, 28)},
            **{f"first 4 and last {w}": store(format="fp16", window=w, sinks=4) for w in (124, 60, 28)},
        },
        "format": {name: store(format=name) for name in ("fp32", "fp16", "bf16", "int8", "int4")},
        "age": {
            **{f"{1000 * t:g} ms a token": leaky(1e6, token_time=t) for t in (1e-3, 3e-3, 1e-2)},
            "10 ms a token, refreshed every 0.5 s": leaky(0.5, token_time=1e-2),
        },
    }


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--tokens", type=int, default=TOKENS)
    given.add_argument("--only", nargs="*", default=list(cases()))
    args = given.parse_args()
    model, text = work()
    print(f"{model.name}, {args.tokens:,} tokens")
    print("| store | perplexity | exact | KL (nats) | energy a token | of it the store | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in args.only:
        for told, held in cases()[name].items():
            print("|", told, "|", " | ".join(row(model, text, args.tokens, held).values()), "|", flush=True)


def row(model: Model, text: str, tokens: int, held: Device) -> Mapping[str, str]:
    system = pim.System({"unit": pim.preset("digital-28nm"), "kv": held}, stores={"unit": "kv"})
    began = time.perf_counter()
    found = pim.evaluate(pim.place(model, system), text, context=CONTEXT, tokens=tokens, chips=1, progress=False)
    spent = time.perf_counter() - began
    ledger = found.points[0].cost.decode.ledger
    kinds = {name: sum(float(e) for e, c in zip(ledger.energy, ledger.components, strict=True) if c == name)
             for name in ("read", "write", "refresh")}  # fmt: skip
    generated = found.points[0].cost.generate
    return {
        "perplexity": f"{found.perplexity:.3f}",
        "exact": f"{found.digital_perplexity:.3f}",
        "kl": f"{float(found.points[0].kl):.2e}",
        "energy": f"{1e9 * found.points[0].cost.energy_per_token:.0f} nJ",
        "store": f"{1e9 * sum(kinds.values()) / generated:.0f} nJ",
        "seconds": f"{spent:.0f}",
    }


if __name__ == "__main__":
    main()
