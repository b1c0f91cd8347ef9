"""A model ready to run: its shapes, its weights, its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.errors import WorkloadError

if TYPE_CHECKING:
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
    """

    name: str
    config: ModelConfig
    params: Mapping[str, Any]
    tokenizer: "Tokenizer"

    def logits(self, tokens: Any) -> Any:
        """The exact digital logits [batch, time, vocab] behind every token.

        Args:
            tokens: array or lists [batch, time] of ids, each row from its beginning (with BOS).

        Raises:
            WorkloadError: tokens of another rank or type, or an id that is not in the vocabulary.

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
        return _logits(self.config, self.params, ids.astype(np.int32))

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.config.parameters:,} parameters)"


def _logits(config: ModelConfig, params: Mapping[str, Any], ids: np.ndarray) -> Any:
    import jax

    from pim.llm_workloads.transformer import forward

    return jax.jit(forward, static_argnums=0)(config, params, ids)


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(_public_name(path.parent) for path in _SHIPPED.glob("*/config.json"))


def load_model(model: str | Path) -> Model:
    """Load a shipped model by name, or one from a folder.

    Args:
        model: a name out of `shipped_models()`, or a folder with config.json, model.safetensors and a tokenizer
            (tokenizer.json, or tok*.bin of llama2.c).

    Raises:
        WorkloadError: an unknown name, or a folder that cannot be used; the message says why.

    Example:
        >>> load_model("tiny-stories")
        Model('tiny-stories', 1,220,224 parameters)
    """
    from pim.llm_workloads.checkpoint import load_checkpoint
    from pim.llm_workloads.tokenizers import load_tokenizer

    folder = _find(model)
    config, params = load_checkpoint(folder)
    return Model(_public_name(folder), config, params, load_tokenizer(folder, config.vocab_size))


def _public_name(folder: Path) -> str:
    """A model is called as its folder; a shipped one lies in a package, whose name can have no hyphen."""
    folder = folder.resolve()
    return folder.name.replace("_", "-") if folder.parent == _SHIPPED.resolve() else folder.name


def _find(model: str | Path) -> Path:
    shipped = shipped_models()
    if model in shipped:
        return _SHIPPED / str(model).replace("-", "_")
    if Path(model).is_dir():
        return Path(model)
    near = get_close_matches(str(model), shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise WorkloadError(
        f"no model {str(model)!r}: {hint}shipped are {', '.join(shipped) or 'none'}; otherwise give a folder with "
        "config.json, model.safetensors and tokenizer.json"
    )
