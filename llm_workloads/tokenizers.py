"""Tokenizers: text to token ids and back.

Two kinds are read: `tokenizer.json` of Hugging Face's library, and the small binary file of llama2.c
(https://github.com/karpathy/llama2.c, MIT), a SentencePiece BPE with byte fallback.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tokenizers

from pim.llm_workloads.config_file import read_json
from pim.llm_workloads.errors import WorkloadError


@runtime_checkable
class Tokenizer(Protocol):
    """What a model's text goes through.

    Attributes:
        bos_id: token that begins a text, None if there is none.
        eos_id: token that ends a text, likewise.
        vocab_size: ids lie below it.
    """

    @property
    def bos_id(self) -> int | None: ...  # noqa: D102
    @property
    def eos_id(self) -> int | None: ...  # noqa: D102
    @property
    def vocab_size(self) -> int: ...  # noqa: D102

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS and EOS are left out."""
        ...


@dataclass(frozen=True)
class HFTokenizer:
    """A `tokenizer.json`, with the special tokens that its model's configuration names."""

    tokenizer: tokenizers.Tokenizer
    bos_id: int | None
    eos_id: int | None
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def enclosed(self, text: str) -> list[int]:
        """The ids of a text between the special tokens that the file puts around one, such as [CLS] and [SEP]."""
        return self.tokenizer.encode(text, add_special_tokens=True).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS and EOS are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


@dataclass(frozen=True)
class Llama2cTokenizer:
    """The tokenizer of llama2.c: characters, else their bytes, merged by the best score until no pair is a piece.

    Pieces with an inner space do not occur, so each word with the spaces before it is merged apart from the others.

    Attributes:
        pieces: the bytes of each id; 0 is unknown, 1 BOS, 2 EOS, 3 to 258 stand for single bytes.
        scores: a pair whose joined piece scores higher is merged earlier.
    """

    pieces: tuple[bytes, ...]
    scores: tuple[float, ...]
    bos_id: int = 1
    eos_id: int = 2

    def __post_init__(self):
        ids: dict[bytes, int] = {}
        for i, piece in enumerate(self.pieces):
            ids.setdefault(piece, i)
        merge = lru_cache(maxsize=65536)(lambda word: _merge(word, self.pieces, self.scores, ids))
        object.__setattr__(self, "_merged", merge)

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS; a space is put in front of the text."""
        words = re.findall(r" *[^ ]+| +", " " + text) if text else []
        return [i for word in words for i in self._merged(word)]  # type: ignore[attr-defined]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS, EOS and the space in front are left out."""
        content = b"".join(self._bytes(i) for i in ids if i not in (self.bos_id, self.eos_id))
        return content.removeprefix(b" ").decode(errors="replace")

    def _bytes(self, i: int) -> bytes:
        return bytes([i - _FIRST_BYTE]) if _FIRST_BYTE <= i < _FIRST_BYTE + 256 else self.pieces[i]


_FIRST_BYTE = 3


def _merge(word: str, pieces: Sequence[bytes], scores: Sequence[float], ids: Mapping[bytes, int]) -> tuple[int, ...]:
    """The ids of a word: the adjacent pair of the highest score is merged, the first of equals, until none is left."""
    found: list[int] = []
    for character in word:
        encoded = character.encode(errors="surrogatepass")
        found += [ids[encoded]] if encoded in ids else [byte + _FIRST_BYTE for byte in encoded]
    while True:
        joined = [ids.get(pieces[a] + pieces[b]) for a, b in pairwise(found)]
        pairs = [(scores[i], -at) for at, i in enumerate(joined) if i is not None]
        if not pairs:
            return tuple(found)
        at = -max(pairs)[1]
        found[at : at + 2] = [joined[at]]  # type: ignore[list-item]


def load_tokenizer(directory: Path | str, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a model's folder: its tokenizer.json, else the one tok*.bin of llama2.c in it.

    Args:
        directory: the folder.
        vocab_size: ids that the model knows, which may be fewer than the tokenizer's (a padding token added later).

    Raises:
        WorkloadError: neither is there, or the file is damaged.

    Example:
        >>> load_tokenizer("stories260K").encode("Once upon a time")
        [403, 407, 261, 378]
    """
    directory = Path(directory)
    if (directory / "tokenizer.json").exists():
        return _load_hf(directory, vocab_size)
    binaries = sorted(directory.glob("tok*.bin"))
    if len(binaries) != 1:
        found = ", ".join(file.name for file in binaries) or "neither"
        raise WorkloadError(f"{directory}: expected a tokenizer.json or one tok*.bin of llama2.c, found {found}")
    tokenizer = load_llama2c(binaries[0])
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise WorkloadError(f"{binaries[0]}: has {tokenizer.vocab_size} pieces, but the model knows {vocab_size}")
    return tokenizer


def _load_hf(directory: Path, vocab_size: int | None) -> HFTokenizer:
    path = directory / "tokenizer.json"
    read_json(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise WorkloadError(f"{path}: not a tokenizer of Hugging Face's library ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = [read_json(f) for f in _settings_files(directory)]
    own = tokenizer.get_vocab_size(with_added_tokens=True)
    return HFTokenizer(
        tokenizer,
        bos_id=_special(tokenizer, "bos", settings),
        eos_id=_special(tokenizer, "eos", settings),
        vocab_size=own if vocab_size is None else min(own, vocab_size),
    )


def _settings_files(directory: Path) -> list[Path]:
    return [file for name in ("tokenizer_config.json", "config.json") if (file := directory / name).exists()]


def _special(tokenizer: tokenizers.Tokenizer, name: str, settings: Sequence[Mapping[str, Any]]) -> int | None:
    """The id of BOS or EOS: `bos_token` (text, or an object with its content) or `bos_token_id` (one, or the first)."""
    for found in settings:
        token, number = found.get(f"{name}_token"), found.get(f"{name}_token_id")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and tokenizer.token_to_id(text) is not None:
            return tokenizer.token_to_id(text)
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and not isinstance(number, bool):
            return number
    return None


def load_llama2c(path: Path | str) -> Llama2cTokenizer:
    """Read llama2.c's file: int32 longest piece, then for each piece float32 score, int32 length, bytes.

    Raises:
        WorkloadError: a file that ends within a piece, has no byte pieces, or pieces with an inner space.
    """
    path = Path(path)
    content = path.read_bytes()
    pieces, scores, at = [], [], 4
    while at < len(content):
        score, length = struct.unpack_from("<fi", content, at) if at + 8 <= len(content) else (0.0, -1)
        at += 8 + length
        if length < 0 or at > len(content):
            raise WorkloadError(f"{path}: damaged or truncated at piece {len(pieces)}: fetch the file again")
        pieces.append(content[at - length : at])
        scores.append(score)
    if len(pieces) < _FIRST_BYTE + 256:
        raise WorkloadError(
            f"{path}: {len(pieces)} pieces, but llama2.c's file has 3 special ones and 256 for single bytes"
        )
    inner = next((piece for piece in pieces if re.search(rb"[^ ] ", piece)), None)
    if inner is not None:
        raise WorkloadError(
            f"{path}: the piece {inner!r} has an inner space; only SentencePiece vocabularies are supported"
        )
    return Llama2cTokenizer(tuple(pieces), tuple(scores))
