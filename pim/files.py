"""Result files that are whole or not there at all.

Everything is first written under temporary names in the folder where it belongs, so that a full disk or an
interrupt leaves what was there before; `os.replace` then puts each file in place in one step.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pim.errors import StudyError

MEGABYTE = 1_000_000


def atomic_write(path: Path | str, content: bytes | str) -> None:
    """Write one file whole or not at all; text goes out as UTF-8 with `\\n` line ends.

    The folder must exist. A file already there keeps its content until the new one is complete.

    >>> atomic_write("result.json", '{"perplexity": 4.2}')  # doctest: +SKIP

    Raises:
        StudyError: a folder stands where the file should go.
        OSError: the file cannot be written.
    """
    _replace_together({Path(path): content})


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place once the block is left, whole; if that fails, nothing changes.

    >>> with atomic_file(Path("stream.npz")) as file:  # doctest: +SKIP
    ...     np.savez(file, x=x)
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that takes a run's files all or none.

    >>> out = OutputFolder(Path("out"))
    >>> out.check(need=20_000_000)                              # doctest: +SKIP
    >>> out.write({"result.json": "{}", "result.nc": b"CDF"})   # doctest: +SKIP
    [PosixPath('out/result.json'), PosixPath('out/result.nc')]
    """

    path: Path

    def check(self, need: int) -> None:
        """Raise unless files of `need` bytes in all can be kept here: a run asks this before it starts.

        Raises:
            StudyError: a file is in the way, the folder is read-only, or the disk has not enough room.
        """
        existing = next(folder for folder in self._with_parents() if folder.exists())
        if not existing.is_dir():
            raise StudyError(f"cannot make the folder {self.path}: {existing} is a file; choose another folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise StudyError(f"no permission to write in {existing}: choose another folder")
        free = shutil.disk_usage(existing).free
        if free < need:
            raise StudyError(
                f"the results need {need / MEGABYTE:.1f} MB, and the disk of {existing.absolute()} has "
                f"{free / MEGABYTE:.1f} MB free: make room or choose another folder"
            )

    def write(self, files: Mapping[str, bytes | str]) -> list[Path]:
        """Write all the files, by name, or leave the folder as it was (absent, if it was); their paths.

        Raises:
            StudyError: see `check`, which is made here once more; or a folder stands where a file should go.
            OSError: a file cannot be written.
        """
        contents = {self.path / name: _encoded(content) for name, content in files.items()}
        self.check(need=sum(map(len, contents.values())))
        made = [folder for folder in self._with_parents() if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _replace_together(contents)
        except BaseException:
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise
        return list(contents)

    def _with_parents(self) -> list[Path]:
        path = self.path.absolute()
        return [path, *path.parents]


def _encoded(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _replace_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write all under temporary names, then put each in its place; no temporary outlives a failure."""
    for path in contents:
        if path.is_dir():
            raise StudyError(f"cannot write the file {path}: a folder of that name is in the way")
    with ExitStack() as leftovers:
        staged: list[tuple[Path, Path]] = []
        for path, content in contents.items():
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            leftovers.callback(temporary.unlink, missing_ok=True)
            with temporary.open("xb") as file:
                file.write(_encoded(content))
                file.flush()
                os.fsync(file.fileno())
            staged.append((temporary, path))
        for temporary, path in staged:
            temporary.replace(path)
