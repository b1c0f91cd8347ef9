"""Emulate processing-in-memory hardware running language models.

`import pim` is quick: each public name loads its module (and JAX) when it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pim._version import __version__

if TYPE_CHECKING:
    from pim.calibration import calibrate as calibrate
    from pim.citing import citations as citations
    from pim.costs.array_peak import peak as peak
    from pim.costs.comparison import compare as compare
    from pim.costs.costing import cost as cost
    from pim.costs.elasticities import sensitivity as sensitivity
    from pim.costs.lifetime import kv_lifetime as kv_lifetime
    from pim.costs.loading_cost import loading as loading
    from pim.devices.catalogue import component as component
    from pim.devices.catalogue import components as components
    from pim.devices.catalogue import preset as preset
    from pim.devices.catalogue import presets as presets
    from pim.devices.corner import at_corner as at_corner
    from pim.devices.generic import generic as generic
    from pim.devices.kv_store import key_value_store as key_value_store
    from pim.devices.loader import load_device as load_device
    from pim.devices.random import root_key as root_key
    from pim.evaluation import evaluate as evaluate
    from pim.evaluation import sweep as sweep
    from pim.fitted import fit as fit
    from pim.generation import generate as generate
    from pim.harness import harness_model as harness_model
    from pim.health import doctor as doctor
    from pim.layer_noise import layer_snr as layer_snr
    from pim.llm_workloads.model import load_model as load_model
    from pim.llm_workloads.tasks.known import load_task as load_task
    from pim.mapping.formatted import formatted as formatted
    from pim.mapping.plan import place as place
    from pim.mapping.system import System as System
    from pim.mapping.system import inference_system as inference_system
    from pim.mapping.system_file import load_system as load_system
    from pim.on_equal_terms import Setting as Setting
    from pim.on_equal_terms import equal_terms as equal_terms
    from pim.placement.choosing import choose as choose
    from pim.placement.duplicating import duplicate as duplicate
    from pim.programming import program as program
    from pim.replacing import replace as replace
    from pim.silicon.validation import validate as validate
    from pim.task_run import run_task as run_task

_HOME = {
    "presets": "pim.devices.catalogue",
    "preset": "pim.devices.catalogue",
    "components": "pim.devices.catalogue",
    "component": "pim.devices.catalogue",
    "load_device": "pim.devices.loader",
    "generic": "pim.devices.generic",
    "key_value_store": "pim.devices.kv_store",
    "replace": "pim.replacing",
    "at_corner": "pim.devices.corner",
    "root_key": "pim.devices.random",
    "program": "pim.programming",
    "cost": "pim.costs.costing",
    "loading": "pim.costs.loading_cost",
    "kv_lifetime": "pim.costs.lifetime",
    "sensitivity": "pim.costs.elasticities",
    "load_model": "pim.llm_workloads.model",
    "load_task": "pim.llm_workloads.tasks.known",
    "System": "pim.mapping.system",
    "inference_system": "pim.mapping.system",
    "load_system": "pim.mapping.system_file",
    "formatted": "pim.mapping.formatted",
    "place": "pim.mapping.plan",
    "choose": "pim.placement.choosing",
    "duplicate": "pim.placement.duplicating",
    "calibrate": "pim.calibration",
    "evaluate": "pim.evaluation",
    "sweep": "pim.evaluation",
    "run_task": "pim.task_run",
    "harness_model": "pim.harness",
    "generate": "pim.generation",
    "citations": "pim.citing",
    "doctor": "pim.health",
    "layer_snr": "pim.layer_noise",
    "fit": "pim.fitted",
    "peak": "pim.costs.array_peak",
    "compare": "pim.costs.comparison",
    "Setting": "pim.on_equal_terms",
    "equal_terms": "pim.on_equal_terms",
    "validate": "pim.silicon.validation",
}
"""Where each public name lives. No module may have the name of one: importing it would put it in the name's place."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
