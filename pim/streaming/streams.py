"""Residual streams between layers: kept in memory, or in a folder from which an interrupted run goes on.

A stream is that of the exact model or of one chip; its stage is how many layers it has behind it. In a folder each has
one file, replaced whole by that of its next stage, so that a run that was killed finds each stream as it was behind the
last layer that had been finished.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pim.errors import StudyError
from pim.files import OutputFolder, atomic_file, atomic_write

RUN = "run.json"


@runtime_checkable
class Streams(Protocol):
    """Named arrays of each stream, and its stage."""

    def stage(self, name: str) -> int:
        """Layers that a stream has behind it; 0 if nothing is known of it."""
        ...

    def load(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a stream."""
        ...

    def keep(self, name: str, stage: int, arrays: Mapping[str, Any]) -> None:
        """Put a stream's next stage in the place of its last."""
        ...


class InMemory:
    """Streams of a run that is not to be interrupted."""

    def __init__(self):
        self._kept: dict[str, tuple[int, dict[str, np.ndarray]]] = {}

    def stage(self, name: str) -> int:
        """See `Streams`."""
        return self._kept[name][0] if name in self._kept else 0

    def load(self, name: str) -> dict[str, np.ndarray]:
        """See `Streams`."""
        return self._kept[name][1]

    def keep(self, name: str, stage: int, arrays: Mapping[str, Any]) -> None:
        """See `Streams`."""
        self._kept[name] = stage, dict(arrays)


class InFolder:
    """Streams of a run that may be killed at any time.

    Args:
        folder: made if need be; one that holds the streams of the same run is gone on with.
        run: what the run depends on: plain values by what they are called in messages.
        need: bytes that the streams will take.

    Raises:
        StudyError: the folder holds another run, or anything else; or it has no room.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], need: int):
        self._folder = folder
        OutputFolder(folder).check(need)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):  # of a file that was being written when the run was killed
            left.unlink()
        told = folder / RUN
        if told.exists():
            self._check_same(told, run)
        elif any(folder.iterdir()):
            raise StudyError(f"{folder} holds files, but no run to go on with: choose a new folder")
        else:
            atomic_write(told, json.dumps(run, indent=1) + "\n")
        self._stages = {path.stem: int(self._arrays(path, "stage")["stage"]) for path in folder.glob("*.npz")}

    def _check_same(self, told: Path, run: Mapping[str, Any]) -> None:
        try:
            found = json.loads(told.read_bytes())
            theirs = {name: found[name] for name in run}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StudyError(f"{told} is no record of a run: choose a new folder") from error
        for name, value in json.loads(json.dumps(run)).items():
            if theirs[name] != value:
                raise StudyError(
                    f"{self._folder} holds another run ({_difference(name, theirs[name], value)}): choose a new folder"
                )

    def _arrays(self, path: Path, *names: str) -> dict[str, np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in names or file.files}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise StudyError(f"{path} is damaged: delete it, and its stream begins anew") from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def stage(self, name: str) -> int:
        """See `Streams`."""
        return self._stages.get(name, 0)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """See `Streams`."""
        arrays = self._arrays(self._path(name))
        del arrays["stage"]
        return arrays

    def keep(self, name: str, stage: int, arrays: Mapping[str, Any]) -> None:
        """See `Streams`; on disk when it returns."""
        with atomic_file(self._path(name)) as file:
            np.savez(file, allow_pickle=False, stage=np.int64(stage), **{k: np.asarray(v) for k, v in arrays.items()})
        self._stages[name] = stage


def _difference(name: str, theirs: Any, ours: Any) -> str:
    """What differs, with both values where they can be read."""
    short = lambda value: not isinstance(value, (dict, list)) and len(str(value)) < 40
    return f"{name}: {theirs!r} there, {ours!r} here" if short(theirs) and short(ours) else f"other {name}"


def as_arrays(batches: Sequence[Any]) -> dict[str, Any]:
    """A stream's batches by their number, to be kept."""
    return {str(number): x for number, x in enumerate(batches)}


def as_batches(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The batches of a stream that was kept."""
    return [arrays[str(number)] for number in range(len(arrays))]
