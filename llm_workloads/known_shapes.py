"""Shapes of published models, by name: enough for what they cost, without their weights."""

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.config_file import ConfigFile, read_json
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.known import family_of

_SHAPES = Path(__file__).parent / "data" / "shapes"


def known_shapes() -> list[str]:
    """Names of the models whose shapes ship with the package.

    >>> known_shapes()[-2:]
    ['opt-66b', 'opt-6.7b']
    """
    return sorted(file.name.removesuffix(".json") for file in _SHAPES.glob("*.json"))


@cache
def known_shape(name: str) -> ModelConfig:
    """The config of a published model.

    The file of each, `data/shapes/NAME.json`, has the keys of the model's config.json, and its source.

    Raises:
        WorkloadError: an unknown name, with the nearest ones.

    Example:
        >>> known_shape("llama-2-7b").parameters
        6738415616
    """
    if name not in known_shapes():
        near = get_close_matches(name, known_shapes(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise WorkloadError(f"no shapes of a model {name!r}: {hint}there are {', '.join(known_shapes())}")
    path = _SHAPES / f"{name}.json"
    file = ConfigFile(path, read_json(path))
    return family_of(file).config(file)
