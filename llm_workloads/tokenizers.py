"""Tokenizers: text to token ids and back.

Read are, in this order: `tokenizer.json` of Hugging Face's library; `vocab.json` with `merges.txt`, the byte-level BPE
of GPT-2 and OPT (https://github.com/openai/gpt-2, encoder.py); `vocab.json` with the characters of a character-level
model; and the small binary file of llama2.c (https://github.com/karpathy/llama2.c, MIT), a SentencePiece BPE with byte
fallback.
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
from tokenizers import decoders, models, pre_tokenizers

from pim.llm_workloads.char_tokenizer import char_tokenizer
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
    """A tokenizer of Hugging Face's library, with the special tokens that its model's configuration names.

    Attributes:
        tokenizer: the library's own.
        bos_id: token that begins a text, None if there is none.
        eos_id: token that ends a text, likewise.
        vocab_size: ids lie below it.
        cls_id: token in front of an encoder's sentence, likewise.
        sep_id: token behind an encoder's sentence, likewise.
    """

    tokenizer: tokenizers.Tokenizer
    bos_id: int | None
    eos_id: int | None
    vocab_size: int
    cls_id: int | None = None
    sep_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        return self._encoding(text).ids

    def encode_sentence(self, text: str, limit: int | None = None) -> list[int]:
        """The ids of a text as an encoder reads it: with what stands around it, such as [CLS] and [SEP].

        What stands there is what the file says, or where it says nothing `cls_id` and `sep_id`. Of a text that has more
        than `limit` ids with these the end is cut off.

        >>> load_tokenizer("minilm").encode_sentence("A girl is styling her hair.")
        [101, 1037, 2611, 2003, 20724, 2014, 2606, 1012, 102]
        """
        if self.tokenizer.post_processor is None:
            front, back = ([] if i is None else [i] for i in (self.cls_id, self.sep_id))
            ids = self.encode(text)
            return [*front, *(ids if limit is None else ids[: max(0, limit - len(front) - len(back))]), *back]
        encoding = self._encoding(text)
        if limit is not None:
            encoding.truncate(max(0, limit - self.tokenizer.num_special_tokens_to_add(False)))
        return self.tokenizer.post_process(encoding).ids

    def _encoding(self, text: str) -> tokenizers.Encoding:
        try:
            return self.tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises bare Exceptions: there is no token for the unknown
            raise WorkloadError(f"the model's tokenizer cannot encode the text ({_one_line(error)})") from error

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
    """The tokenizer of a model's folder, in whichever of the forms that this module's head lists.

    Args:
        directory: the folder.
        vocab_size: ids that the model knows, which may be fewer than the tokenizer's (a padding token added later).

    Raises:
        WorkloadError: there is none, or the file is damaged.

    Example:
        >>> load_tokenizer("stories260K").encode("Once upon a time")
        [403, 407, 261, 378]
    """
    directory = Path(directory)
    if (directory / "tokenizer.json").exists():
        return _with_specials(directory, _read_hf(directory / "tokenizer.json"), vocab_size)
    if (vocabulary := directory / "vocab.json").exists():
        content = read_json(vocabulary)
        if "chars" in content:
            return char_tokenizer(vocabulary, content, vocab_size)
        return _with_specials(directory, _read_gpt2(vocabulary, directory / "merges.txt"), vocab_size)
    binaries = sorted(directory.glob("tok*.bin"))
    if len(binaries) == 1:
        return load_llama2c(binaries[0], vocab_size)
    if (directory / "tokenizer.model").exists():
        raise WorkloadError(
            f"{directory / 'tokenizer.model'}: SentencePiece's own format is not read: save the tokenizer as a "
            "tokenizer.json (transformers does: AutoTokenizer.from_pretrained(folder).save_pretrained(folder))"
        )
    found = ", ".join(file.name for file in binaries) or "none"
    raise WorkloadError(
        f'{directory}: expected a tokenizer.json, a vocab.json (with merges.txt or "chars") or one tok*.bin of '
        f"llama2.c, found {found}"
    )


def _read_hf(path: Path) -> tokenizers.Tokenizer:
    read_json(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise WorkloadError(f"{path}: not a tokenizer of Hugging Face's library ({_one_line(error)})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_gpt2(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    """The byte-level BPE of GPT-2 and OPT from its two files, and the special tokens from those beside them."""
    if not merges.exists():
        raise WorkloadError(f"{merges}: no such file; beside {vocabulary.name} it says how pieces are merged")
    try:
        tokenizer = tokenizers.Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the library raises bare Exceptions
        raise WorkloadError(f"{vocabulary}: not GPT-2's vocabulary with its merges.txt ({_one_line(error)})") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = [_text(found, name) for found in _settings(vocabulary.parent) for name in ("bos", "eos", "pad", "unk")]
    tokenizer.add_special_tokens([t for t in ["<|endoftext|>", *named] if t and tokenizer.token_to_id(t) is not None])
    return tokenizer


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _with_specials(directory: Path, tokenizer: tokenizers.Tokenizer, vocab_size: int | None) -> HFTokenizer:
    settings = _settings(directory)
    bos, eos, cls, sep = (_special(tokenizer, name, settings) for name in ("bos", "eos", "cls", "sep"))
    begins = all(found.get("add_bos_token", True) for found in settings)  # Qwen's and Pythia's texts begin with none
    own = tokenizer.get_vocab_size(with_added_tokens=True)
    size = own if vocab_size is None else min(own, vocab_size)
    return HFTokenizer(tokenizer, bos if begins else None, eos, size, cls, sep)


def _settings(directory: Path) -> list[dict[str, Any]]:
    """What the files beside a tokenizer say of its special tokens, the one to be believed first."""
    names = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    return [read_json(file) for name in names if (file := directory / name).exists()]


def _text(found: Mapping[str, Any], name: str) -> str | None:
    """`bos_token` and its like: text, or an object with its content."""
    token = found.get(f"{name}_token")
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _special(tokenizer: tokenizers.Tokenizer, name: str, settings: Sequence[Mapping[str, Any]]) -> int | None:
    """The id of a special token: by its text, else by `bos_token_id` and its like (a number, or the first of some)."""
    for found in settings:
        text, number = _text(found, name), found.get(f"{name}_token_id")
        if text is not None and tokenizer.token_to_id(text) is not None:
            return tokenizer.token_to_id(text)
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and not isinstance(number, bool):
            return number
    return None


def load_llama2c(path: Path | str, vocab_size: int | None = None) -> Llama2cTokenizer:
    """Read llama2.c's file: int32 longest piece, then for each piece float32 score, int32 length, bytes.

    Raises:
        WorkloadError: a file that ends within a piece, has no byte pieces, pieces with an inner space, or more pieces
            than the `vocab_size` that the model knows.
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
    if vocab_size is not None and len(pieces) > vocab_size:
        raise WorkloadError(f"{path}: has {len(pieces)} pieces, but the model knows {vocab_size}")
    inner = next((piece for piece in pieces if re.search(rb"[^ ] ", piece)), None)
    if inner is not None:
        raise WorkloadError(
            f"{path}: the piece {inner!r} has an inner space; only SentencePiece vocabularies are supported"
        )
    return Llama2cTokenizer(tuple(pieces), tuple(scores))
