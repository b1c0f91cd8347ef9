"""Files are whole or not there: on success, on a full disk, on an interrupt, on bad paths."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pim.errors import StudyError
from pim.files import OutputFolder, atomic_write


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("content", "stored"), [("G = 40 µS\n", "G = 40 µS\n".encode()), (b"\0\r\n", b"\0\r\n")])
def test_atomic_write_stores_exactly_what_it_is_given(tmp_path: Path, content, stored):
    path = tmp_path / "it"
    path.write_text("before")
    atomic_write(path, content)
    assert contents(tmp_path) == {"it": stored}


def test_a_new_file_has_the_usual_permissions(tmp_path: Path):
    atomic_write(tmp_path / "ours", "")
    (tmp_path / "usual").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("failure", [OSError("disk broke"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch, failure):
    (tmp_path / "it").write_text("before")

    def fail(*_):
        raise failure

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(failure)):
        atomic_write(tmp_path / "it", "after")
    assert contents(tmp_path) == {"it": b"before"}


def test_a_write_that_the_system_cuts_short_leaves_nothing(tmp_path: Path):
    """A real half-written file: the system refuses bytes past the first 1,000."""
    program = """
import resource, signal, sys
from pathlib import Path
from pim.files import OutputFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
OutputFolder(Path(sys.argv[1])).write({"small": b"x", "large": b"x" * 5000})
"""
    resource = pytest.importorskip("resource", reason="needs POSIX resource limits")
    assert resource.RLIMIT_FSIZE is not None
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path / "new" / "out")], capture_output=True, text=True)
    assert "File too large" in run.stderr
    assert contents(tmp_path) == {}


def test_a_set_is_written_with_its_folder(tmp_path: Path):
    out = OutputFolder(tmp_path / "a" / "b")
    assert out.write({"x.json": "{}", "y.nc": b"CDF"}) == [out.path / "x.json", out.path / "y.nc"]
    out.write({"x.json": "[]"})
    assert contents(out.path) == {"x.json": b"[]", "y.nc": b"CDF"}


def test_a_set_is_all_or_nothing(tmp_path: Path):
    (tmp_path / "x.json").write_text("before")
    (tmp_path / "y.nc").mkdir()
    with pytest.raises(StudyError, match=r"y\.nc: a folder of that name is in the way"):
        OutputFolder(tmp_path).write({"x.json": "after", "y.nc": b"CDF"})
    assert (tmp_path / "x.json").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "y.nc"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 7, 3_000_000))  # type: ignore
    out = OutputFolder(tmp_path / "out")
    out.check(need=3_000_000)
    with pytest.raises(StudyError, match=r"need 20\.0 MB.*has 3\.0 MB free") as error:
        out.check(need=20_000_000)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(StudyError, match=r"need 4\.0 MB"):
        out.write({"small": b"x", "large": bytes(4_000_000)})
    assert contents(tmp_path) == {}


def test_a_file_in_the_way_of_the_folder(tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    for path in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(StudyError, match="out is a file; choose another folder"):
            OutputFolder(path).write({"x": "y"})


def test_a_read_only_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(StudyError, match=f"no permission to write in {tmp_path}"):
        OutputFolder(tmp_path).check(need=1)
