"""The tokenizer of a character-level model: one id a character, as nanoGPT trains them.

Its file, vocab.json, holds `{"chars": "..."}`: the character of each id, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pim.llm_workloads.errors import WorkloadError


@dataclass(frozen=True)
class CharTokenizer:
    """Characters as they stand; there is no BOS and no EOS.

    Attributes:
        characters: that of each id.

    Example:
        >>> CharTokenizer("abc").encode("cab")
        [2, 0, 1]
    """

    characters: str
    bos_id: None = None
    eos_id: None = None

    def __post_init__(self):
        object.__setattr__(self, "_ids", {character: i for i, character in enumerate(self.characters)})

    @property
    def vocab_size(self) -> int:
        """Number of characters."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; raises WorkloadError for a character that the model does not know."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        unknown = next((at for at, character in enumerate(text) if character not in ids), None)
        if unknown is not None:
            raise WorkloadError(
                f"the character {text[unknown]!r} (number {unknown} of the text) is none of the {len(ids)} that the "
                f"model knows: {self.characters!r}"
            )
        return [ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(self.characters[i] for i in ids)


def char_tokenizer(path: Path, content: dict[str, Any], vocab_size: int | None) -> CharTokenizer:
    """The tokenizer of a vocab.json, which `content` is; raises WorkloadError if it is not as it should be."""
    characters = content["chars"]
    if isinstance(characters, list) and all(isinstance(c, str) and len(c) == 1 for c in characters):
        characters = "".join(characters)
    if not isinstance(characters, str) or not characters or len(set(characters)) < len(characters):
        raise WorkloadError(f"{path}: 'chars' must be a string of the model's characters, each once")
    if vocab_size is not None and len(characters) > vocab_size:
        raise WorkloadError(f"{path}: has {len(characters)} characters, but the model knows {vocab_size}")
    return CharTokenizer(characters)
