"""Reading a safetensors file, distrustfully: whatever its bytes are, the outcome is tensors or one clear line.

The format: 8 bytes (little-endian length n), n bytes of JSON `{name: {dtype, shape, data_offsets}}`, then the data.
https://github.com/huggingface/safetensors
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pim.llm_workloads.errors import WorkloadError

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


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

    def read(self, name: str) -> np.ndarray:
        """A tensor in float32.

        Raises:
            WorkloadError: a type other than float32, float16 and bfloat16, or a value that is not finite.
        """
        dtype, shape, offset = self._supported(name)
        raw = np.fromfile(self.path, _STORED[dtype], math.prod(shape), offset=offset)
        return self._finite(name, _single(raw, dtype)).reshape(shape)

    def rows(self, name: str, index: np.ndarray) -> np.ndarray:
        """Rows of a matrix in float32, `index` of any shape; the others are not read."""
        dtype, shape, offset = self._supported(name)
        table = np.memmap(self.path, _STORED[dtype], "r", offset, shape)
        return self._finite(name, _single(np.asarray(table[index]), dtype))

    def same(self, name: str, other: "SafetensorsFile", theirs: str) -> bool:
        """Whether a tensor equals one of another file, compared piece by piece."""
        (dtype, shape, offset), (their_dtype, their_shape, their_offset) = self.entries[name], other.entries[theirs]
        if shape != their_shape or dtype not in _STORED or their_dtype not in _STORED:
            return False
        count = math.prod(shape)
        for start in range(0, count, _PIECE):
            size = min(_PIECE, count - start)
            pieces = (
                _single(np.fromfile(path, _STORED[d], size, offset=at + start * np.dtype(_STORED[d]).itemsize), d)
                for path, d, at in ((self.path, dtype, offset), (other.path, their_dtype, their_offset))
            )
            if not np.array_equal(*pieces):
                return False
        return True

    def _supported(self, name: str) -> tuple[str, tuple[int, ...], int]:
        dtype, shape, offset = self.entries[name]
        if dtype not in _STORED:
            raise WorkloadError(
                f"{self.path}: tensor {name!r} is stored as {dtype}; supported are {', '.join(_STORED)}: "
                "convert the checkpoint to one of them"
            )
        return dtype, shape, offset

    def _finite(self, name: str, values: np.ndarray) -> np.ndarray:
        wrong = values.size - int(np.isfinite(values).sum())
        if wrong:
            raise WorkloadError(
                f"{self.path}: tensor {name!r} holds {wrong} values of {values.size} that are NaN or infinite"
            )
        return values


_LONGEST_HEADER = 100_000_000
"""Bytes, as the format's own library has it."""
_PIECE = 1 << 22
"""Values that are compared at once."""


def _single(raw: np.ndarray, dtype: str) -> np.ndarray:
    """In float32; bfloat16 is the upper half of one."""
    values = (raw.astype("<u4") << 16).view("<f4") if dtype == "BF16" else raw
    return values.astype(np.float32, copy=False)


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
                raise WorkloadError(f"{path}: not a safetensors file, its header would be {length} bytes long")
            header = json.loads(file.read(length))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WorkloadError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, WorkloadError):
            raise
        raise WorkloadError(f"{path}: not a safetensors file, its header is no JSON: fetch the file again") from error
    if not isinstance(header, dict):
        raise WorkloadError(f"{path}: not a safetensors file, its header names no tensors: fetch the file again")
    start = 8 + length
    tensors = ((name, entry) for name, entry in header.items() if name != "__metadata__")
    return SafetensorsFile(path, {name: _entry(path, name, entry, start, size) for name, entry in tensors})


def _entry(path: Path, name: str, entry: Any, start: int, size: int) -> tuple[str, tuple[int, ...], int]:
    """(dtype, shape, offset in the file) of a tensor, checked."""
    damaged = f"{path}: the header's entry of tensor {name!r} is damaged: fetch the file again"
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [first, last]}:
            if not all(_is_count(n) for n in (*shape, first, last)):
                raise WorkloadError(damaged)
        case _:
            raise WorkloadError(damaged)
    if start + last > size:
        raise WorkloadError(
            f"{path}: truncated, tensor {name!r} ends at byte {start + last} of a file of {size}: fetch the file again"
        )
    if dtype in _STORED and last - first != math.prod(shape) * np.dtype(_STORED[dtype]).itemsize:
        raise WorkloadError(damaged)
    return dtype, tuple(shape), start + first


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
