"""The architect's first question: what do arrays gain over a GPU at the same bits, and digital arrays over analog ones
at the same loss, on the same area, for the same energy?

Prints two tables: of Llama-2-7B from its shapes alone, and of the shipped model with its losses.

    python benchmarks/equal_terms.py
"""

from dataclasses import replace

import pim
from pim.llm_workloads.stories import story_text

LIMIT = 0.01
"""Nats a token that a setting may lose."""


def named(system: pim.System, name: str, **changes: float) -> pim.System:
    """A system under a name of its own, with values of its arrays changed."""
    return replace(system.replace({f"arrays.{field}": value for field, value in changes.items()}), name=name)


def gpu(name: str) -> pim.System:
    """A GPU alone."""
    return pim.System({"gpu": pim.preset(f"gpu-{name}")}, name=name)


def analog(name: str, adc_bits: int | None = None) -> pim.System:
    """Matrices in analog arrays, attention in digital SRAM arrays, the head on a digital unit."""
    rules = [("head", "digital"), ("*.attention.qk", "attention"), ("*.attention.pv", "attention")]
    presets = {"arrays": name, "attention": "sram-digital28", "digital": "digital-28nm"}
    system = pim.System({k: pim.preset(v) for k, v in presets.items()}, rules)
    return (
        named(system, name) if adc_bits is None else named(system, f"{name}, {adc_bits} bits", **{"adc.bits": adc_bits})
    )


def digital(weights: int, inputs: int) -> pim.System:
    """Matrices and attention in digital SRAM arrays."""
    changes = {"weight_bits": weights, "input_bits": inputs}
    return named(
        pim.load_system("sram-digital"), f"INT{weights}" if weights == inputs else f"W{weights}A{inputs}", **changes
    )


def main() -> None:
    """Print both tables."""
    gpus = [gpu("a100-w8a8"), gpu("h100-w8a8"), gpu("a100-w4a16"), gpu("h100-w4a16")]
    arrays = [digital(8, 8), digital(4, 8), digital(4, 4)]
    designs = {"GPU": gpus, "NPU": [pim.System({"npu": pim.preset("npu-int8")}, name="npu-int8")]}
    designs |= {"digital SRAM": arrays, "ReRAM": [analog("rram-wan2022")], "analog SRAM": [analog("sram-qs28")]}
    print(pim.equal_terms("llama-2-7b", designs, prompt=2048, generate=256, longest=0.05), "\n")

    four = pim.System({"gpu": pim.formatted(weights="int4:group128")}, name="int4:group128")
    emulated = [gpus[0], pim.Setting(gpus[2], emulated=four)]
    small = {
        "digital SRAM": arrays,
        "GPU": emulated,
        "ReRAM": [analog("rram-wan2022", bits) for bits in (8, 7, 6)],
        "analog SRAM": [analog("sram-qs28", bits) for bits in (8, 7, 6)],
    }
    asked = {"text": story_text(2, 20), "calibration": story_text(3, 5), "tokens": 2048, "chips": 2, "progress": False}
    print(pim.equal_terms("tiny-stories", small, batch=32, limit=LIMIT, **asked))


if __name__ == "__main__":
    main()
