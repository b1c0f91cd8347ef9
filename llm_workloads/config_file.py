"""A config.json, read distrustfully: every value is checked as it is asked for, and an error names file and field."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pim.llm_workloads.config import MOST, check_count, check_positive
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.positions import LinearScaling, Llama3Scaling, Rotary, YarnScaling

_REQUIRED: Any = object()
_LONGEST_JSON = 100_000_000
"""Bytes; tokenizers of large vocabularies have some 30 million."""

ACTIVATION_NAMES = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Ours for those of Hugging Face; all with tanh are one formula."""


@dataclass(frozen=True)
class ConfigFile:
    """The values of a config.json.

    Example:
        >>> file = ConfigFile(path, read_json(path))
        >>> file.count("num_hidden_layers", "n_layer")
        32
    """

    path: Path
    values: Mapping[str, Any]

    def error(self, message: str) -> WorkloadError:
        """What is wrong with the file, to be raised."""
        return WorkloadError(f"{self.path}: {message}")

    def get(self, *names: str, default: Any = _REQUIRED) -> Any:
        """The value of the first of several names that is there and not null."""
        value = self.values.get(self._named(names))
        if value is None and default is _REQUIRED:
            raise self.error(f"{names[0]!r} is missing")
        return default if value is None else value

    def _named(self, names: Sequence[str]) -> str:
        """Which of several names the file has, else the first."""
        return next((name for name in names if self.values.get(name) is not None), names[0])

    def count(self, *names: str, default: Any = _REQUIRED, most: int = MOST) -> Any:
        """A whole number of at least 1; a default may be None."""
        value = self.get(*names, default=default)
        if value is not default:
            self._checked(check_count, self._named(names), value, most)
        return value

    def positive(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A positive number."""
        value = self.get(*names, default=default)
        if value is not default:
            self._checked(check_positive, self._named(names), value)
        return value if value is None else float(value)

    def _checked(self, check: Any, name: str, value: Any, *limits: Any) -> None:
        try:
            check(name, value, *limits)
        except WorkloadError as error:
            raise self.error(str(error)) from None

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default=default)
        if not isinstance(value, bool):
            raise self.error(f"{name} must be true or false, not {value!r}")
        return value

    def table(self, name: str) -> "ConfigFile":
        """An object in the file; an empty one where it is missing."""
        value = self.get(name, default={})
        if not isinstance(value, dict):
            raise self.error(f"{name} must be an object, not {value!r}")
        return ConfigFile(self.path, value)

    def activation(self, *names: str, default: Any = _REQUIRED) -> str:
        """The name of an activation function, as ours."""
        value = self.get(*names, default=default)
        if not isinstance(value, str) or value not in ACTIVATION_NAMES:
            known = ", ".join(ACTIVATION_NAMES)
            raise self.error(f"{self._named(names)} {value!r} is not supported; {known} are")
        return ACTIVATION_NAMES[value]

    def refuse(self, **unsupported: Any) -> None:
        """Raise WorkloadError where a field has a value, other than the one given, that would change the numbers."""
        for name, value in unsupported.items():
            found = self.get(name, default=value)
            if found != value:
                raise self.error(f"{name} = {found!r} is not supported; {value!r} is")

    def architectures(self) -> list[str]:
        """The classes that the file names."""
        named = self.get("architectures", default=[])
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise self.error(f"architectures must be a list of names, not {named!r}")
        return named

    def head_dim(self, hidden: int, heads: int) -> int:
        """`head_dim`, else the hidden size split over the heads."""
        if self.get("head_dim", default=None) is not None:
            return self.count("head_dim")
        if hidden % heads:
            raise self.error(f"hidden_size {hidden} is no multiple of num_attention_heads {heads}: give head_dim")
        return hidden // heads

    def rotary(self, head_dim: int, default_share: float = 1.0) -> Rotary:
        """Rotary positions: `rope_theta` and `rope_scaling` of older files, or `rope_parameters` of newer ones."""
        name = "rope_parameters" if self.table("rope_parameters").values else "rope_scaling"
        rope = self.table(name)
        both = ConfigFile(self.path, {**self.values, **rope.values})
        theta = both.positive("rope_theta", "rotary_emb_base", default=10000.0)
        share = both.positive("partial_rotary_factor", "rotary_pct", default=default_share)
        if share > 1:
            raise self.error(f"the share of a head that is turned by position must be at most 1, not {share}")
        dims = int(head_dim * share)
        return Rotary(theta, None if dims == head_dim else dims, self._scaling(name, rope, theta))

    def _scaling(self, name: str, rope: "ConfigFile", theta: float) -> Any:
        kind = rope.get("rope_type", "type", default="default")
        longest = self.count("max_position_embeddings", default=2048)
        match kind:
            case "default":
                return None
            case "linear":
                return LinearScaling(rope._factor(name))
            case "llama3":
                low, high = rope.positive("low_freq_factor"), rope.positive("high_freq_factor")
                if not low < high:
                    raise self.error(f"{name}: low_freq_factor {low} must be below high_freq_factor {high}")
                original = rope.count("original_max_position_embeddings", default=longest)
                return Llama3Scaling(rope._factor(name), low, high, original)
            case "yarn":
                return self._yarn(name, rope, theta, longest)
        raise self.error(f"{name} of type {kind!r} is not supported; default, linear, llama3 and yarn are")

    def _factor(self, name: str) -> float:
        """By how much a context is longer."""
        factor = self.positive("factor")
        if factor < 1:
            raise self.error(f"{name}: factor must be at least 1, not {factor}")
        return factor

    def _yarn(self, name: str, rope: "ConfigFile", theta: float, longest: int) -> YarnScaling:
        factor = rope._factor(name)
        rope.refuse(mscale=None, mscale_all_dim=None)
        if theta <= 1:
            raise self.error(f"{name}: rope_theta must be above 1 for yarn, not {theta}")
        return YarnScaling(
            factor,
            rope.count("original_max_position_embeddings", default=longest),
            rope.positive("beta_fast", default=32.0),
            rope.positive("beta_slow", default=1.0),
            rope.positive("attention_factor", default=yarn_gain(factor)),
            rope.flag("truncate", True),
        )

    def windows(self, layers: int, default: Sequence[bool]) -> tuple[int | None, ...] | None:
        """The sliding window of each layer: of those that `layer_types` names, else of those that `default` marks."""
        window = self.count("sliding_window", default=None)
        if window is None:
            return None
        types = self.get("layer_types", default=None)
        known = {"sliding_attention": True, "full_attention": False}
        if types is None:
            slides = list(default)
        elif (
            isinstance(types, list)
            and len(types) == layers
            and all(isinstance(kind, str) and kind in known for kind in types)
        ):
            slides = [known[kind] for kind in types]
        else:
            raise self.error(f"layer_types must name {' or '.join(known)} for each of {layers} layers")
        return tuple(window if slide else None for slide in slides) if any(slides) else None


def yarn_gain(factor: float) -> float:
    """What YaRN multiplies rotated values by where a file does not say (arXiv 2309.00071, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; raises WorkloadError if there is no such file or it holds anything else."""
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise WorkloadError(f"{path}: {path.stat().st_size} bytes are too many for a file of JSON")
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WorkloadError(
            f"{path}: no such file; a model's folder holds config.json and model.safetensors"
        ) from error
    except WorkloadError:
        raise
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: invalid JSON ({str(error) or 'nested too deep'})") from error
    if not isinstance(found, dict):
        raise WorkloadError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found
