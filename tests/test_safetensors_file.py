"""Reading safetensors in pieces, and headers that ask for more than there is."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

from pim.llm_workloads import safetensors_file
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.safetensors_file import open_safetensors


def written(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def line(tmp_path):
    """The one line that says what is wrong with a file."""

    def refused(header, data=b"", length=None, read=None) -> str:
        with pytest.raises(WorkloadError) as found:
            file = open_safetensors(written(tmp_path / "file", header, data, length))
            file.read(read)
        assert "\n" not in str(found.value)
        return str(found.value).removeprefix(str(tmp_path / "file") + ": ")

    return refused


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tensors_are_read_in_pieces_rows_and_compared(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(safetensors_file, "_AT_ONCE", 7)
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(dtype)
    save_file({"a": values, "b": values.copy(), "c": values + 1, "empty": values[:0]}, tmp_path / "file")
    file = open_safetensors(tmp_path / "file")
    np.testing.assert_array_equal(file.read("a"), values.astype(np.float32))
    assert file.read("a").dtype == np.float32 and file.read("empty").shape == (0, 4)
    index = np.array([[8, 0], [3, 3]])
    np.testing.assert_array_equal(file.rows("a", index), values[index].astype(np.float32))
    assert file.same("a", file, "b") and not file.same("a", file, "c") and not file.same("a", file, "empty")


def test_a_value_that_is_not_finite_is_counted_only_where_it_is_read(tmp_path):
    values = np.ones((5, 3), np.float32)
    values[4, 1] = np.nan
    save_file({"a": values}, tmp_path / "file")
    file = open_safetensors(tmp_path / "file")
    assert file.rows("a", np.array([0, 3])).sum() == 6
    with pytest.raises(WorkloadError, match="'a' holds 1 values of 3 that are NaN or infinite"):
        file.rows("a", np.array([4]))
    with pytest.raises(WorkloadError, match="'a' holds 1 values of 15"):
        file.read("a")


def test_reading_takes_little_more_than_the_tensor(tmp_path):
    save_file({"a": np.ones((1 << 13, 1 << 12), np.float16)}, tmp_path / "file")
    file, size = open_safetensors(tmp_path / "file"), 4 << 25
    tracemalloc.start()
    file.read("a")
    whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    file.rows("a", np.array([5]))
    rows = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole < 1.4 * size and rows < size / 100


def test_headers_that_ask_for_too_much_are_refused(line):
    huge = 1 << 62
    assert "entry of tensor 'a' is damaged" in line({"a": entry(shape=(huge, huge, 0), offsets=(0, 0))})
    assert "entry of tensor 'a' is damaged" in line({"a": entry(shape=(1,) * 40, offsets=(0, 4))}, b"1234")
    assert "entry of tensor 'a' is damaged" in line({"a": entry(shape=(2,), offsets=(8, 0))}, bytes(8))
    assert "entry of tensor 'a' is damaged" in line({"a": entry("I64", (huge,), (0, 8))}, bytes(8))
    assert "entry of tensor 'a' is damaged" in line({"a": entry(shape=(10**400,))}, bytes(8))
    assert line({"a": entry("I64", (1 << 5, 1 << 5, 1 << 5), (0, 8))}, bytes(8), read="a").startswith(
        "tensor 'a' is stored as I64; supported are"
    )
    assert "truncated, tensor 'a' ends at byte" in line({"a": entry(offsets=(huge, huge + 8))})


def test_tensors_do_not_share_bytes(line):
    shared = {"a": entry(), "b": entry(offsets=(4, 12)), "c": entry(offsets=(12, 20))}
    assert line(shared, bytes(20)) == "tensors 'a' and 'b' share bytes: fetch the file again"
    inside = {"a": entry(shape=(4,), offsets=(0, 16)), "b": entry(shape=(1,), offsets=(8, 12))}
    assert line(inside, bytes(16)) == "tensors 'a' and 'b' share bytes: fetch the file again"


def test_no_name_stands_twice(line):
    twice = b'{"a": %s, "a": %s}' % (json.dumps(entry()).encode(), json.dumps(entry(offsets=(8, 16))).encode())
    assert line(twice, bytes(16)) == "the header names 'a' twice: fetch the file again"


def test_a_header_is_no_longer_than_the_format_allows(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)  # a file with a hole, which takes no room
    tracemalloc.start()
    with pytest.raises(WorkloadError, match=r"header of 100000001 bytes is longer than any may be \(100000000\)"):
        open_safetensors(tmp_path / "file")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
