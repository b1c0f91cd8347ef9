"""Which files of a folder hold the weights of a model: one, or the shards that an index names."""

import re
from pathlib import Path

from pim.llm_workloads.config_file import read_json
from pim.llm_workloads.errors import WorkloadError

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"

_SHARD = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


def weight_map(folder: Path) -> dict[str, str] | None:
    """The shard of each tensor, by the folder's index; None if it has none.

    Raises:
        WorkloadError: an index that does not name a file beside it for each tensor.
    """
    index = folder / INDEX
    if not index.exists():
        return None
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(s, str) and _SHARD.fullmatch(s) for s in shards.values()):
        raise WorkloadError(f"{index}: weight_map must give the name of a file beside it for each tensor")
    return shards


def weight_files(folder: Path) -> list[str]:
    """The names of the files with weights that a folder should have; raises WorkloadError as `weight_map`."""
    shards = weight_map(folder)
    return [WEIGHTS] if shards is None else sorted(set(shards.values()))
