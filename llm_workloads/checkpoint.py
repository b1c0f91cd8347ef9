"""Checkpoints in Hugging Face's layout: a folder with config.json and safetensors, read whole or layer by layer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.config_file import ConfigFile, read_json
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.family import Family, Parameters, Stored
from pim.llm_workloads.families.known import family_of
from pim.llm_workloads.safetensors_file import SafetensorsFile, open_safetensors
from pim.llm_workloads.shards import INDEX, WEIGHTS, weight_map

NO_WINDOW = int(np.iinfo(np.int32).max)
"""Stands for no window where another layer of the model has one."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder whose headers have been read and checked; tensors are read from disk when they are asked for.

    Attributes:
        directory: the folder.
        config: shapes and constants.
        family: how parameters are stored.
        tensors: the file that holds each tensor.

    Example:
        >>> checkpoint = open_checkpoint("stories260K")
        >>> checkpoint.layer(0)["attention.q"].shape
        (64, 64)
    """

    directory: Path
    config: ModelConfig
    family: Family
    tensors: Mapping[str, SafetensorsFile]

    def layer(self, index: int) -> dict[str, np.ndarray]:
        """The parameters of one layer in float32, as `transformer.layer_step` takes them."""
        found = self._read_all(self.family.layer(self.config, index))
        if self.config.attention.windows is not None:
            window = self.config.window(index)
            found["attention.window"] = np.asarray(NO_WINDOW if window is None else window, np.int32)
        return found

    def outer(self, *, without: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """The parameters outside the layers in float32, some left out by name."""
        places = self.family.outer(self.config)
        return self._read_all({name: place for name, place in places.items() if name not in without})

    def embed_rows(self, tokens: Int[np.ndarray, "batch time"]) -> Float[np.ndarray, "batch time hidden"]:
        """The embeddings of tokens, without the whole table."""
        name = self._name(self.family.outer(self.config)["embed"])
        return self.tensors[name].rows(name, tokens)

    def _read_all(self, places: Parameters) -> dict[str, np.ndarray]:
        names = {ours: self._name(place) for ours, place in places.items()}
        left = Counter(names.values())
        raw: dict[str, np.ndarray] = {}
        found = {}
        for ours, place in places.items():
            name = names[ours]
            stored = raw.pop(name) if name in raw else self.tensors[name].read(name)
            left[name] -= 1
            if left[name]:
                raw[name] = stored  # others lie side by side in it
            found[ours] = stored if place.take is None else np.ascontiguousarray(place.take(stored))
        return found

    def _name(self, place: Stored) -> str:
        """The name under which a tensor is stored: checkpoints of the bare model leave the prefix away."""
        ends = [end for end in self.family.renamed if place.name.endswith(end[0])]
        spelt = [place.name, *(place.name.removesuffix(new) + old for new, old in ends)]
        spelt += [name.removeprefix(self.family.prefix) for name in spelt]
        return next((name for name in spelt if name in self.tensors), place.name)

    def check(self) -> None:
        """Raise WorkloadError unless every tensor is there, of the right shape, and no other."""
        known = {self.family.head}
        for place in self._places():
            name = self._name(place)
            known.add(name)
            if name not in self.tensors:
                raise WorkloadError(
                    f"{self.directory}: the checkpoint lacks tensor {name!r}, of shape {place.shape} by config.json"
                )
            file = self.tensors[name]
            if file.shape(name) != place.shape:
                raise WorkloadError(
                    f"{file.path}: tensor {name!r} has shape {file.shape(name)}, but config.json asks for {place.shape}"
                )
        self._check_tied_head()
        unknown = sorted(n for n in self.tensors if n not in known and not n.endswith(self.family.ignored))
        if unknown:
            raise WorkloadError(
                f"{self.tensors[unknown[0]].path}: unknown tensor {unknown[0]!r} ({len(unknown)} in all), not of a "
                f"{self.family.name} of {self.config.num_hidden_layers} layers as config.json describes it"
            )

    def _places(self) -> Iterator[Stored]:
        yield from self.family.outer(self.config).values()
        for index in range(self.config.num_hidden_layers):
            yield from self.family.layer(self.config, index).values()

    def _check_tied_head(self) -> None:
        head = self.family.head
        if not self.config.tie_word_embeddings or head not in self.tensors:
            return
        embed = self._name(self.family.outer(self.config)["embed"])
        if not self.tensors[head].same(head, self.tensors[embed], embed):
            raise WorkloadError(
                f"{self.tensors[head].path}: {head!r} differs from the embedding, but config.json says that they are "
                "tied: set tie_word_embeddings to false"
            )


def open_checkpoint(directory: Path | str) -> Checkpoint:
    """Open a folder in Hugging Face's layout: config.json and headers are read and checked, tensors are not read.

    Args:
        directory: holds config.json and model.safetensors (float32, float16 or bfloat16), or the shards that
            model.safetensors.index.json names.

    Raises:
        WorkloadError: an architecture or a feature that is not modelled, or a damaged folder: a file or tensor that is
            missing, truncated, of the wrong shape or unknown.
    """
    directory = Path(directory)
    file = _config_file(directory)
    family = family_of(file)
    checkpoint = Checkpoint(directory, _config(file, family), family, _open_tensors(directory))
    checkpoint.check()
    return checkpoint


def load_checkpoint(directory: Path | str) -> tuple[ModelConfig, dict[str, Any]]:
    """Read a model from a folder in Hugging Face's layout.

    Returns:
        The config, and the parameters in float32 as `pim.llm_workloads.transformer` takes them.

    Raises:
        WorkloadError: as `open_checkpoint`, or values that are not finite.

    Example:
        >>> config, params = load_checkpoint("stories260K")
        >>> config.num_hidden_layers, params["segments"][0]["attention.q"].shape
        (5, (5, 64, 64))
    """
    checkpoint = open_checkpoint(directory)
    return checkpoint.config, read_all(checkpoint)


def read_all(checkpoint: Checkpoint) -> dict[str, Any]:
    """All parameters of a checkpoint, its layers stacked."""
    depth = checkpoint.config.num_hidden_layers
    stacked: dict[str, np.ndarray] = {}
    for index in range(depth):
        for name, values in checkpoint.layer(index).items():
            if index == 0:
                stacked[name] = np.empty((depth, *values.shape), values.dtype)
            stacked[name][index] = values
    segment = {name: jnp.asarray(stacked.pop(name)) for name in list(stacked)}  # one after another: memory is short
    return {**jax.tree.map(jnp.asarray, checkpoint.outer()), "segments": [segment]}


def load_config(directory: Path | str) -> ModelConfig:
    """Read config.json of a folder alone: enough for shapes and cost. Raises WorkloadError as `open_checkpoint`."""
    file = _config_file(Path(directory))
    return _config(file, family_of(file))


def _config_file(directory: Path) -> ConfigFile:
    path = directory / "config.json"
    return ConfigFile(path, read_json(path))


def _config(file: ConfigFile, family: Family) -> ModelConfig:
    try:
        return family.config(file)
    except WorkloadError as error:
        message = str(error)
        raise (error if message.startswith(str(file.path)) else file.error(message)) from None


def _open_tensors(directory: Path) -> dict[str, SafetensorsFile]:
    """The file that holds each tensor."""
    shards = weight_map(directory)
    if shards is None:
        file = open_safetensors(directory / WEIGHTS)
        return dict.fromkeys(file.entries, file)
    files = {shard: open_safetensors(directory / shard) for shard in sorted(set(shards.values()))}
    for tensor, shard in shards.items():
        if tensor not in files[shard].entries:
            raise WorkloadError(f"{directory / INDEX}: tensor {tensor!r} is not in {shard}, where weight_map has it")
    # What the index leaves out is known too, if only to be told as missing from the config.
    return {tensor: file for file in files.values() for tensor in file.entries} | {
        t: files[s] for t, s in shards.items()
    }
