"""What an order of rows and columns around stuck cells buys: the SNR of a product, and perplexity.

    python benchmarks/remapping.py [--tokens 8192] [--chips 4] [--only snr perplexity]

Cells are ideal but for those that are stuck, half of them in each state; arrays of 128 x 128 with pairs of columns, a
weight of 8 bits in one pair or in four of 2 bits. Spares are 2 % of the outputs of an array: 1 of 64, or (of 16) 1,
which is 6 %. The model is stories260K where $PIM_SHARED has it, else the shipped tiny-stories. The tables are those of
docs/crossbar.md.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import pim
from pim.devices.cells.faults import StuckFaults
from pim.devices.device import Device
from pim.devices.macro import Ideal
from pim.devices.random import root_key
from pim.devices.remapping import Remapping
from pim.llm_workloads.model import Model
from pim.llm_workloads.stories import story_text
from pim.mapping.system import inference_system

SHARES = (0.001, 0.01, 0.03)
ORDERS = {
    "as they come": None,
    "rows": Remapping("rows"),
    "columns": Remapping("columns"),
    "rows, then columns": Remapping("both"),
    "columns, 1 spare output": Remapping("columns", spare_outputs=1),
    "both, 1 spare output": Remapping("both", spare_outputs=1),
}
LAWS = ("write_error", "relaxation", "drift", "read_noise", "slow_noise", "variation", "levels")
IDEAL = {
    "rows": 128, "columns": 128, "encoding": "differential", "adc": None, "dac.bits": 16, "input_range": "token",
    **{f"cell.{law}": None for law in LAWS},
}  # fmt: skip


def device(share: float, remapping: Remapping | None, slices: int) -> Device:
    law = StuckFaults(*map(jnp.float32, (share / 2, share / 2)))
    parts = {"weight_bits": 8, "slices": slices, "cell.faults": law, "remapping": remapping}
    return pim.replace(pim.preset("rram-techC"), {**IDEAL, **parts})


def work() -> tuple[Model, str]:
    shared = Path(os.environ.get("PIM_SHARED", "shared")) / "data"
    if not (shared / "stories260K").is_dir():
        return pim.load_model("tiny-stories"), story_text(101, 110)
    return pim.load_model(shared / "stories260K"), (shared / "text" / "tinystories_dev.txt").read_text()


def snr(share: float, remapping: Remapping | None, slices: int, chips: int = 16) -> str:
    """In dB, over chips, of a matrix of normal weights, 128 x 64, and normal inputs."""
    rng = np.random.default_rng(0)
    w, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((128, 64), (256, 128)))
    made = pim.program(w, device(share, remapping, slices), key=root_key(0), chips=chips)
    exact = np.asarray(x) @ np.asarray(w)
    noise = ((np.asarray(made.matmul(x, key=None)) - exact[None]) ** 2).mean()
    return f"{10 * np.log10((exact**2).mean() / noise):.1f} dB"


def loss(model: Model, text: str, tokens: int, chips: int) -> Callable[..., str]:
    exact = Device("exact", "digital", "exact", Ideal(), {}, {})

    def of(share: float, remapping: Remapping | None, slices: int) -> str:
        plan = pim.place(model, inference_system(device(share, remapping, slices), exact))
        found = pim.evaluate(plan, text, context=256, tokens=tokens, chips=chips, progress=False)
        return f"{found.perplexity:.3f}"

    return of


def table(title: str, cell: Callable[..., str], slices: int) -> None:
    print(f"\n{title}, {slices} slice{'s' * (slices > 1)} a weight", flush=True)
    print("| order | " + " | ".join(f"{100 * share:g} % stuck" for share in SHARES) + " |")
    print("|---|" + "---|" * len(SHARES))
    for name, remapping in ORDERS.items():
        print(f"| {name} | " + " | ".join(cell(share, remapping, slices) for share in SHARES) + " |", flush=True)


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--tokens", type=int, default=8192)
    given.add_argument("--chips", type=int, default=4)
    given.add_argument("--only", nargs="*", default=["snr", "perplexity"])
    args = given.parse_args()
    if "snr" in args.only:
        for slices in (1, 4):
            table("SNR of a product", snr, slices)
    if "perplexity" in args.only:
        model, text = work()
        of = loss(model, text, args.tokens, args.chips)
        table(f"perplexity of {model.name}, {args.tokens:,} tokens, {args.chips} chips", of, 1)


if __name__ == "__main__":
    main()
