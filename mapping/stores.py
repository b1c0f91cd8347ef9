"""Stores of keys and values beside the devices that multiply them: who has which, and what they keep of a context."""

from collections.abc import Mapping
from dataclasses import replace

from pim.devices.digital_macro import DigitalMacro
from pim.devices.gain_attention import GainAttention
from pim.devices.kv_store import KeyValueStore
from pim.devices.macro import AnalogMacro
from pim.devices.near_dram import NearDram
from pim.llm_workloads.config import Kept, ModelConfig
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.mapping.errors import MappingError
from pim.mapping.system import System

OWN_CELLS = (AnalogMacro, DigitalMacro, GainAttention, NearDram)
"""Devices that multiply keys and values in the cells in which these are."""


def store_beside(system: System, device: str) -> KeyValueStore | None:
    """The store of the keys and values that a device multiplies; None: it has none."""
    name = system.stores.get(device)
    return None if name is None else system.devices[name].model


def holding_store(system: System, device: str) -> str | None:
    """The name of the store that holds what a device multiplies; None: the device holds it itself."""
    store = store_beside(system, device)
    return system.stores[device] if store is not None and store.holds else None


def with_kept(config: ModelConfig, assignment: Mapping[str, str], system: System) -> ModelConfig:
    """The config with what the stores of a placement keep for each layer."""
    kept = None
    if system.stores:
        first = (assignment[layer_path(layer, DYNAMIC[0])] for layer in range(config.num_hidden_layers))
        each = tuple(_kept(store_beside(system, name)) for name in first)
        kept = each if any(each) else None
    if config.attention.kept == kept:
        return config
    return replace(config, attention=replace(config.attention, kept=kept))


def _kept(store: KeyValueStore | None) -> Kept | None:
    return None if store is None or store.window is None else Kept(store.window, store.sinks)


def check_stores(config: ModelConfig, assignment: Mapping[str, str], system: System) -> None:
    """Raise MappingError where a placement asks of a store, or of the device beside it, what it does not do."""
    stores = {name for name, device in system.devices.items() if isinstance(device.model, KeyValueStore)}
    for path, name in assignment.items():
        if name in stores:
            raise MappingError(
                f"{path} goes to {name!r}, which stores keys and values and multiplies nothing: list another device "
                "first, and send operators there"
            )
    for device, name in system.stores.items():
        if name not in stores:
            raise MappingError(f"stores.{device} = {name!r}, which is no store of keys and values (KeyValueStore)")
        store = system.devices[name].model
        if store.holds and isinstance(system.devices[device].model, OWN_CELLS):
            raise MappingError(
                f"{device} multiplies keys and values in the cells that hold them: its store {name!r} can say what is "
                "kept (window, sinks), but has no format and no memory of its own"
            )
    if not system.stores:
        return
    for layer in range(config.num_hidden_layers):
        beside = {system.stores.get(assignment[layer_path(layer, operator)]) for operator in DYNAMIC}
        if len(beside) != 1:
            raise MappingError(f"layer {layer} multiplies keys and values that are in different stores: give it one")
    if not config.attention.causal and (with_kept(config, assignment, system).attention.kept is not None):
        raise MappingError(f"a {config.family} model reads both ways: a window of the last tokens is none for it")
