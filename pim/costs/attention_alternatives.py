"""Three ways to score in non-volatile arrays: write keys there, multiply them elsewhere, or score inputs instead.

The matrices of the model stay in the same arrays all the while; what changes is where queries meet tokens, and what is
written for it (X-Former, arXiv 2303.07470; ReTransformer, ICCAD 2020). Values go where keys go, and are written where
inputs are scored.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pim.costs.ledger import quantity
from pim.costs.lifetime import printed_time
from pim.costs.matrix_writing import Shape, written
from pim.costs.plan_cost import plan_cost
from pim.devices.device import Device
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.decomposition import why_not
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, products
from pim.mapping.plan import place
from pim.mapping.system import System


@dataclass(frozen=True)
class Alternative:
    """One way to compute attention, over a whole prompt and then token by token.

    Attributes:
        name: "keys in arrays", "keys elsewhere", "inputs in arrays" or "inputs by head".
        multiplications: multiply-accumulates of a written token, for scores and what leads to them: q, k and qk.
        cells: non-volatile cells that a token writes, over all layers.
        prefill_energy: J of a read token.
        prefill_latency: s of the prompt.
        decode_energy: J of a written token.
        decode_latency: s between tokens.
        life: s until the first cells are worn out, if decoding never ends; infinite: none are written, NaN: unknown.
    """

    name: str
    multiplications: float
    cells: float
    prefill_energy: float
    prefill_latency: float
    decode_energy: float
    decode_latency: float
    life: float


@dataclass(frozen=True, repr=False)
class Alternatives:
    """The alternatives side by side.

    Example:
        >>> print(attention_alternatives("bert-base", pim.preset("rram-puma"), pim.preset("sram-digital28"), unit))
    """

    rows: tuple[Alternative, ...]

    def named(self, name: str) -> Alternative:
        """One of them."""
        return next(row for row in self.rows if row.name == name)

    def to_columns(self) -> dict[str, list[Any]]:
        """The rows as columns, for a data frame."""
        return {f.name: [getattr(row, f.name) for row in self.rows] for f in fields(Alternative)}

    def __str__(self) -> str:
        head = ("", "MACs", "cells", "J/token read", "prompt", "J/token written", "time/token", "life of cells")
        lines = [
            (
                row.name,
                f"{row.multiplications:.4g}",
                f"{row.cells:,.0f}",
                quantity(row.prefill_energy, "J"),
                quantity(row.prefill_latency, "s"),
                quantity(row.decode_energy, "J"),
                quantity(row.decode_latency, "s"),
                printed_time(row.life),
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
        form = "  ".join(f"{{:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
        return "\n".join(form.format(*line) for line in (head, *lines))

    __repr__ = __str__


def attention_alternatives(
    model: ModelConfig | str,
    arrays: Device,
    engine: Device,
    digital: Device,
    *,
    batch: int = 1,
    prompt: int = 128,
    generate: int = 128,
) -> Alternatives:
    """Attention of one model in each of the ways that it allows.

    Args:
        model: whose inputs can be scored if its keys are not rotated by position; else those two rows are missing.
        arrays: analog macro for the matrices of weights, and for what is written to be scored.
        engine: device for keys and values elsewhere: a digital macro, say.
        digital: unit for vector work and the head.
        batch: sequences.
        prompt: tokens read.
        generate: tokens written.

    Example:
        >>> found = attention_alternatives("gpt2", pim.preset("rram-wan2022"), pim.preset("sram-digital28"), unit)
        >>> found.named("inputs by head").cells / found.named("keys in arrays").cells
    """
    config = known_shape(model) if isinstance(model, str) else model
    devices, head = {"weights": arrays, "digital": digital}, [("head", "digital")]
    elsewhere = [*head, *((f"layers.*.{operator}", "engine") for operator in DYNAMIC)]
    systems = {
        "keys in arrays": System(devices, head),
        "keys elsewhere": System({**devices, "engine": engine}, elsewhere),
        "inputs in arrays": System(devices, head, scored="inputs"),
        "inputs by head": System(devices, head, scored="inputs_by_head"),
    }
    return Alternatives(
        tuple(
            _row(name, config, system, batch, prompt, generate)
            for name, system in systems.items()
            if system.scored == "keys" or why_not(config) is None
        )
    )


def _row(name: str, config: ModelConfig, system: System, batch: int, prompt: int, generate: int) -> Alternative:
    plan = place(config, system)
    run = plan_cost(plan, batch=batch, prompt=prompt, generate=generate)
    step = products(plan.config, Phase(context=prompt + generate // 2 + 1))
    mine = [product for product in step if product.path.endswith(("attention.q", "attention.k", DYNAMIC[0]))]
    there = [product for product in step if product.dynamic and plan.assignment[product.path] == "weights"]
    lives = [np.nan if life.seconds is None else life.seconds for life in run.lifetimes().values()]
    return Alternative(
        name,
        float(sum(product.macs for product in mine)),
        float(sum(_cells(system.devices["weights"], product) for product in there)),
        run.prefill_energy_per_token,
        run.prefill_latency,
        run.energy_per_token,
        run.decode_latency,
        min(lives, default=np.inf),
    )


def _cells(device: Device, product: Product) -> float:
    """Cells that a product of activations writes."""
    dim, other = product.written / product.copies, 1.0
    sides = (dim, other) if product.path.endswith(DYNAMIC[0]) else (other, dim)
    n_in, n_out = (np.asarray(side, np.float64) for side in sides)
    return float(written(device, Shape(n_in, n_out, np.float64(product.copies), activations=True)).cells)
