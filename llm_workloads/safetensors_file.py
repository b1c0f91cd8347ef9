"""Reading a safetensors file, distrustfully: whatever its bytes are, the outcome is tensors or one clear line.

The format: 8 bytes (little-endian length n), n bytes of JSON `{name: {dtype, shape, data_offsets}}`, then the data.
https://github.com/huggingface/safetensors
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pim.llm_workloads.errors import WorkloadError

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LONGEST_HEADER = 100_000_000
"""Bytes: the limit of the format's own reader."""
_MOST_AXES = 32
_AT_ONCE = 1 << 22
"""Values that are turned into float32 at a time: what is in memory beside the tensor itself."""


@dataclass(frozen=True)
class SafetensorsFile:
    """The tensors of a file by name; each is read from disk when it is asked for.

    Example:
        >>> file = open_safetensors(Path("model.safetensors"))
        >>> file.read("model.norm.weight").shape
        (64,)
    """

    path: Path
    entries: Mapping[str, tuple[str, tuple[int, ...], int]]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.entries[name][1]

    def read(self, name: str) -> Float[np.ndarray, "..."]:
        """A tensor in float32; little more memory than it takes itself is ever taken.

        Raises:
            WorkloadError: a type other than float32, float16 and bfloat16, or a value that is not finite.
        """
        _, shape, _ = self._entry(name)
        values, first = np.empty(math.prod(shape), np.float32), 0
        for piece in self._pieces(name):
            values[first : first + len(piece)] = piece
            first += len(piece)
        self._check_finite(name, values)
        return values.reshape(shape)

    def rows(self, name: str, index: Int[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows columns"]:
        """Rows of a matrix in float32; the others are not read. Raises WorkloadError as `read`, for these rows.

        Example:
            >>> file.rows("model.embed_tokens.weight", np.array([1, 7, 1])).shape
            (3, 64)
        """
        stored, shape, offset = self._entry(name)
        values = _decoded(np.asarray(np.memmap(self.path, stored, "r", offset, shape)[index]))
        self._check_finite(name, values)
        return values

    def same(self, name: str, other: "SafetensorsFile", theirs: str) -> bool:
        """Whether a tensor equals one of another file, compared piece by piece; of types that are not read: no."""
        if self.shape(name) != other.shape(theirs) or any(
            f.entries[n][0] not in _STORED for f, n in ((self, name), (other, theirs))
        ):
            return False
        pieces = zip(self._pieces(name), other._pieces(theirs), strict=True)
        return all(np.array_equal(mine, yours) for mine, yours in pieces)

    def _pieces(self, name: str) -> Iterator[Float[np.ndarray, "values"]]:
        """The values of a tensor in float32, some at a time."""
        stored, shape, offset = self._entry(name)
        count = math.prod(shape)
        for first in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            raw = np.fromfile(self.path, stored, some, offset=offset + first * stored.itemsize)
            if len(raw) < some:
                raise WorkloadError(f"{self.path}: truncated while tensor {name!r} was read: fetch the file again")
            yield _decoded(raw)

    def _entry(self, name: str) -> tuple[np.dtype, tuple[int, ...], int]:
        dtype, shape, offset = self.entries[name]
        if dtype not in _STORED:
            raise WorkloadError(
                f"{self.path}: tensor {name!r} is stored as {dtype}; supported are {', '.join(_STORED)}: "
                "convert the checkpoint to one of them"
            )
        return np.dtype(_STORED[dtype]), shape, offset

    def _check_finite(self, name: str, values: np.ndarray) -> None:
        wrong = values.size - sum(int(np.isfinite(part).sum()) for part in _parts(values.reshape(-1)))
        if wrong:
            raise WorkloadError(
                f"{self.path}: tensor {name!r} holds {wrong} values of {values.size} that are NaN or infinite"
            )


def _parts(values: np.ndarray) -> list[np.ndarray]:
    return [values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE)]


def _decoded(raw: np.ndarray) -> np.ndarray:
    """Stored values in float32: bfloat16 is the upper half of one."""
    return (raw.astype("<u4") << 16).view("<f4") if raw.dtype == np.uint16 else raw.astype(np.float32, copy=False)


def open_safetensors(path: Path) -> SafetensorsFile:
    """Read the header of a safetensors file and check it against the size of the file.

    Raises:
        WorkloadError: no such file, or a header that is damaged or does not fit the file (a download that stopped).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise WorkloadError(
                    f"{path}: truncated, its header does not fit its {size} bytes: fetch the file again"
                )
            if length > _LONGEST_HEADER:
                raise WorkloadError(
                    f"{path}: not a safetensors file, its header of {length} bytes is longer than any may be "
                    f"({_LONGEST_HEADER}): fetch the file again"
                )
            header = json.loads(file.read(length), object_pairs_hook=_once_each)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WorkloadError(f"{path}: no such file") from error
    except _Twice as error:
        raise WorkloadError(f"{path}: the header names {error.args[0]!r} twice: fetch the file again") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, WorkloadError):
            raise
        raise WorkloadError(f"{path}: not a safetensors file, its header is no JSON: fetch the file again") from error
    if not isinstance(header, dict):
        raise WorkloadError(f"{path}: not a safetensors file, its header names no tensors: fetch the file again")
    start = 8 + length
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    places = {name: _entry(path, name, entry, start, size) for name, entry in tensors.items()}
    _check_apart(path, {name: (first, last) for name, (_, _, first, last) in places.items()})
    return SafetensorsFile(path, {name: (dtype, shape, first) for name, (dtype, shape, first, _) in places.items()})


class _Twice(ValueError):
    """A key that an object has twice: which value counts would depend on the reader."""


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(name)
        found[name] = value
    return found


def _entry(path: Path, name: str, entry: Any, start: int, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, first and last byte in the file) of a tensor, checked."""
    damaged = f"{path}: the header's entry of tensor {name!r} is damaged: fetch the file again"
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [first, last]}:
            if len(shape) > _MOST_AXES or not all(_is_count(n) for n in (*shape, first, last)) or last < first:
                raise WorkloadError(damaged)
        case _:
            raise WorkloadError(damaged)
    if start + last > size:
        raise WorkloadError(
            f"{path}: truncated, tensor {name!r} ends at byte {start + last} of a file of {size}: fetch the file again"
        )
    if max(shape, default=0) > size:  # beside an axis of 0 too: no array can be that long
        raise WorkloadError(damaged)
    if dtype in _STORED and last - first != math.prod(shape) * np.dtype(_STORED[dtype]).itemsize:
        raise WorkloadError(damaged)
    return dtype, tuple(shape), start + first, start + last


def _check_apart(path: Path, places: Mapping[str, tuple[int, int]]) -> None:
    """Tensors that share bytes are a sign of damage, and a small file of them could ask for any amount of memory."""
    reached, owner = 0, ""
    for name, (first, last) in sorted(places.items(), key=lambda item: item[1]):
        if first < reached and last > first:
            raise WorkloadError(f"{path}: tensors {owner!r} and {name!r} share bytes: fetch the file again")
        if last > reached:
            reached, owner = last, name


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
