"""What a plan keeps in the memories of its devices, and the batches for which they have room."""

from typing import Any

import numpy as np

from pim.costs.traffic import number_bytes
from pim.devices.digital_unit import DigitalUnit
from pim.devices.kv_store import KeyValueStore
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.llm_workloads.operators import Phase, products
from pim.mapping.plan import Plan
from pim.mapping.stores import holding_store


def held_bytes(plan: Plan, batch: Any, context: Any) -> dict[str, Any]:
    """Bytes of weights, keys and values that each device holds while tokens are written; arrays for arrays.

    Cells of arrays are no memory of so many bytes: whether matrices fit them, `pim.mapping.fit` says. A device that
    holds weights for reading and another for writing holds them for either.
    """
    placed = {phase: plan.in_phase(phase).assignment for phase in ("prefill", "decode")}
    found: dict[str, Any] = {name: 0.0 for name in plan.system.devices if room(plan, name) is not None}
    sizes = {(name, kind): value_bytes(plan, name, kind) for name in found for kind in ("weight", "key")}
    for product in products(plan.in_phase("decode").config, Phase(batch=batch, context=context)):
        phases = ("decode",) if product.dynamic else ("prefill", "decode")
        names = {placed[phase][product.path] for phase in phases}
        if product.dynamic:
            names = {holding_store(plan.system, name) or name for name in names}
        for name in names & set(found):
            found[name] = found[name] + product.held * sizes[name, "key" if product.dynamic else "weight"]
    return found


def value_bytes(plan: Plan, name: str, kind: str) -> float:
    """Bytes of a "weight", a "key" (or value) or an "activation" in a device's memory."""
    model = plan.system.devices[name].model
    if isinstance(model, Roofline):
        return float(model.bytes_of(kind))
    if isinstance(model, KeyValueStore):
        return model.value_bytes(plan.config.head_dim) if model.holds else 0.0
    return float(model.memory.bits) / 8 if isinstance(model, NearDram) else float(number_bytes(plan, name))


def room(plan: Plan, name: str) -> float | None:
    """Bytes that all copies of a device have room for; None where that is not known, or no memory is meant."""
    model = plan.system.devices[name].model
    if isinstance(model, NearDram):
        each = model.banks.capacity
    elif isinstance(model, NearFlash | Roofline):
        each = model.memory_bytes
    elif isinstance(model, KeyValueStore):
        each = model.capacity
    else:
        each = model.buffer.bytes if isinstance(model, DigitalUnit) else None
    return None if each is None else float(each) * plan.system.count(name)


def fits(plan: Plan, batch: Any, context: Any) -> np.ndarray:
    """Whether what the devices with main memories hold has room there; buffers of digital units spill to a memory."""
    enough = np.ones(np.broadcast_shapes(np.shape(batch), np.shape(context)), bool)
    for name, held in held_bytes(plan, batch, context).items():
        if not isinstance(plan.system.devices[name].model, DigitalUnit):
            enough &= held <= room(plan, name)
    return enough
