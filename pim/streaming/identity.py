"""What makes two runs the same: everything that their numbers depend on, as plain values."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from pim._version import __version__
from pim.llm_workloads.model import Model
from pim.llm_workloads.text import ScoredText
from pim.mapping.plan import Plan


def run_identity(
    plans: Sequence[Plan], text: ScoredText, *, chips: int, seed: int, time: float | None
) -> dict[str, Any]:
    """The plans, the text, the weights and all else that a run's streams follow from, by name.

    Contents go in as SHA-256, but for a checkpoint's tensors: of those the headers, and size and time of the files.
    """
    model = plans[0].model
    assert model is not None
    return {
        "seed": seed,
        "chips": chips,
        "time": time,
        "text": digest([text.tokens, text.lengths, text.first, text.source]),
        "model": _model(model),
        "devices": [digest(_devices(plan)) for plan in plans],
        "placement": digest(dict(plans[0].assignment)),
        "ranges": digest(dict(plans[0].ranges)),
        "versions": {"pim": __version__, **{name: version(name) for name in ("jax", "jaxlib", "numpy")}},
        "machine": platform.machine(),
        "processor": jax.devices()[0].device_kind,
    }


def digest(tree: Any) -> str:
    """SHA-256 of a tree: its structure, static fields among it, and the bytes of its leaves.

    >>> digest({"a": np.zeros(2)}) == digest({"a": np.zeros(2)})
    True
    """
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        array = leaf if isinstance(leaf, str) else np.ascontiguousarray(leaf)
        described = array if isinstance(array, str) else f"{array.dtype}{array.shape}"
        found.update(described.encode())
        found.update(b"" if isinstance(array, str) else array.view(np.uint8).data if array.ndim else array.tobytes())
    return found.hexdigest()


def _devices(plan: Plan) -> dict[str, Any]:
    return {name: device.model for name, device in plan.system.devices.items()}


def _model(model: Model) -> str:
    if model.checkpoint is None:
        return digest([repr(model.config), dict(model.params)])
    files = {file.path.name: file for file in model.checkpoint.tensors.values()}
    told = []
    for name in sorted(files):
        stat = files[name].path.stat()
        told.append([name, str(stat.st_size), str(stat.st_mtime_ns), repr(sorted(files[name].entries.items()))])
    return digest([repr(model.config), told])
