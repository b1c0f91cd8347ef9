"""Where the weights of a model come from, a layer at a time: its checkpoint, or the parameters that are in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.model import Model


@runtime_checkable
class Source(Protocol):
    """What `llm_workloads.checkpoint.Checkpoint` has of a model."""

    @property
    def config(self) -> ModelConfig:
        """Shapes and constants."""
        ...

    def layer(self, index: int) -> Mapping[str, Any]:
        """The parameters of one layer in float32, as `transformer.layer_step` takes them."""
        ...

    def outer(self, *, without: Iterable[str] = ()) -> Mapping[str, Any]:
        """The parameters outside the layers, some left out by name."""
        ...

    def embed_rows(self, tokens: Int[np.ndarray, "batch time"]) -> Float[Any, "batch time hidden"]:
        """The embeddings of tokens."""
        ...


@dataclass(frozen=True)
class Resident:
    """Parameters that are in memory, handed out as a checkpoint does."""

    config: ModelConfig
    params: Mapping[str, Any]

    def layer(self, index: int) -> Mapping[str, Array]:
        """One layer of the only segment of an exact model."""
        (segment,) = self.params["segments"]
        return jax.tree.map(lambda leaf: leaf[index], segment)

    def outer(self, *, without: Iterable[str] = ()) -> Mapping[str, Array]:
        """All but the segments."""
        return {name: value for name, value in self.params.items() if name not in ("segments", *without)}

    def embed_rows(self, tokens: Int[np.ndarray, "batch time"]) -> Float[Array, "batch time hidden"]:
        """Rows of the table."""
        return self.params["embed"][tokens]


def source_of(model: Model) -> Source:
    """The checkpoint of a model that was loaded with `resident=False`, else its parameters.

    >>> source_of(model).layer(0)["attention.q"].shape
    (64, 64)
    """
    return Resident(model.config, model.params) if model.checkpoint is None else model.checkpoint


def outer_parameters(source: Source) -> Mapping[str, Any]:
    """What stands behind the layers: without the table of embeddings, unless the head is made of it."""
    tied = source.config.tie_word_embeddings and source.config.head != "none"
    return source.outer(without=() if tied else ("embed",))
