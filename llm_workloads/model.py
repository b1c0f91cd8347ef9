"""A model ready to run: its shapes, its weights, its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.hub import hub_model, is_hub_name

if TYPE_CHECKING:
    from pim.llm_workloads.checkpoint import Checkpoint
    from pim.llm_workloads.tokenizers import Tokenizer

_SHIPPED = Path(__file__).parent / "data"


@dataclass(frozen=True, eq=False)
class Model:
    """A language model.

    Attributes:
        name: of a shipped model, or of its folder.
        config: shapes and constants.
        params: weights, as `pim.llm_workloads.transformer` takes them.
        tokenizer: text to token ids and back.
        checkpoint: of a model whose weights stay on disk (`load_model(..., resident=False)`), where they are.
    """

    name: str
    config: ModelConfig
    params: Mapping[str, Any]
    tokenizer: "Tokenizer"
    checkpoint: "Checkpoint | None" = None

    @property
    def in_memory(self) -> dict[str, Any]:
        """The weights as a plain tree; raises WorkloadError if they are on disk."""
        return dict(self.params)

    def logits(self, tokens: Any) -> Any:
        """The exact digital logits [batch, time, vocab] behind every token.

        Args:
            tokens: array or lists [batch, time] of ids, each row from its beginning (with BOS).

        Raises:
            WorkloadError: tokens of another rank or type, an id that is not in the vocabulary, weights that are not in
                memory, or logits that are not finite.

        Example:
            >>> model = load_model("tiny-stories")
            >>> model.logits([[model.tokenizer.bos_id, *model.tokenizer.encode("Once")]]).shape
        """
        ids = np.asarray(tokens)
        if ids.ndim != 2 or not ids.size or ids.dtype.kind not in "iu":
            raise WorkloadError(f"tokens must be whole numbers [batch, time], not {ids.dtype} of shape {ids.shape}")
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise WorkloadError(
                f"token ids run from {ids.min()} to {ids.max()}, but the vocabulary is {self.config.vocab_size}"
            )
        found = _logits(self.config, self.in_memory, ids.astype(np.int32))
        if not np.isfinite(found).all():
            raise WorkloadError(f"the logits of {self.name} are not finite: its weights or a constant overflow float32")
        return found

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.config.parameters:,} parameters)"


class OnDisk(Mapping[str, Any]):
    """Stands for the weights of a model that are not in memory: any use is an error that says what to do."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __getitem__(self, name: str) -> Any:
        raise WorkloadError(
            f"{self._folder}: the weights of this model are not in memory (resident=False): calibrate and evaluate "
            "read them layer by layer; for anything else, load the model without resident=False"
        )

    def __iter__(self) -> Any:
        return self[""]

    def __len__(self) -> int:
        return self[""]


def _logits(config: ModelConfig, params: Mapping[str, Any], ids: np.ndarray) -> Any:
    import jax

    from pim.llm_workloads.transformer import forward

    return jax.jit(forward, static_argnums=0)(config, params, ids)


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(_public_name(path.parent) for path in _SHIPPED.glob("*/config.json"))


def load_model(model: str | Path, revision: str | None = None, *, resident: bool = True) -> Model:
    """Load a shipped model by name, one from a folder, or one of the Hugging Face hub.

    Args:
        model: a name out of `shipped_models()`; a folder with config.json, model.safetensors and a tokenizer
            (tokenizer.json, vocab.json, or tok*.bin of llama2.c); or `org/name`, taken from the hub's local cache and
            fetched with the extra `hf` if it is not there.
        revision: branch, tag or commit of a model of the hub.
        resident: whether the weights are read into memory; if not, `pim.calibrate` and `pim.evaluate` read them layer
            by layer, so that the model may be larger than memory.

    Raises:
        WorkloadError: an unknown name, or a folder that cannot be used; the message says why.

    Example:
        >>> load_model("tiny-stories")
        Model('tiny-stories', 1,220,224 parameters)
    """
    from pim.llm_workloads.checkpoint import open_checkpoint, read_all
    from pim.llm_workloads.tokenizers import load_tokenizer

    folder, name = find_model(model, revision)
    checkpoint = open_checkpoint(folder)
    params = read_all(checkpoint) if resident else OnDisk(folder)
    tokenizer = load_tokenizer(folder, checkpoint.config.vocab_size)
    return Model(name, checkpoint.config, params, tokenizer, None if resident else checkpoint)


def find_model(model: str | Path, revision: str | None = None, *, weights: bool = True) -> tuple[Path, str]:
    """The folder of a model and what to call it, see `load_model`; `weights`: whether shapes are not enough."""
    if Path(model).is_dir() and model not in shipped_models() and revision is None:
        return Path(model), _public_name(Path(model))
    if model not in shipped_models() and is_hub_name(str(model)):
        return hub_model(str(model), revision, weights=weights), str(model)
    if revision is not None:
        raise WorkloadError(f"{str(model)!r} has no revision {revision!r}: only models of the hub (org/name) have any")
    folder = _shipped(str(model))
    return folder, _public_name(folder)


def _public_name(folder: Path) -> str:
    """A model is called as its folder; a shipped one lies in a package, whose name can have no hyphen."""
    folder = folder.resolve()
    return folder.name.replace("_", "-") if folder.parent == _SHIPPED.resolve() else folder.name


def _shipped(model: str) -> Path:
    shipped = shipped_models()
    if model in shipped:
        return _SHIPPED / model.replace("-", "_")
    near = get_close_matches(model, shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise WorkloadError(
        f"no model {model!r}: {hint}shipped are {', '.join(shipped) or 'none'}; otherwise give a folder with "
        "config.json, model.safetensors and tokenizer.json, or org/name of the Hugging Face hub"
    )
