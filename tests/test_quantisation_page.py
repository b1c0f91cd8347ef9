"""The figures of docs/quantisation.md are those that are found, but for float noise between machines."""

import re

import pytest
from quantisation_page import PATH, page, row
from quantised import keys_of, shipped

NUMBER = re.compile(r"(?<![\w`:.])\d+(?:\.\d+)?(?![\w`.])")


def close(found: str, written: str) -> bool:
    """The same words, and figures within 1 %, or 10 % beyond the cliff, where a rounding that turns is seen."""
    if NUMBER.sub("#", found) != NUMBER.sub("#", written):
        return False
    pairs = zip(map(float, NUMBER.findall(found)), map(float, NUMBER.findall(written)), strict=True)
    return all(new == pytest.approx(old, rel=0.01 if old < 5 else 0.1) for new, old in pairs)


def written(name: str, columns: int) -> str:
    """The line of a format in the table of so many columns."""
    lines = [line for line in PATH.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    return next(line for line in lines if line.count("|") == columns + 2)


def test_some_lines_of_the_tables():
    name = "int2_min:token"
    assert close(row(name, keys_of(shipped(), name)), written(name, 2))


@pytest.mark.slow
def test_the_whole_page():
    found = page(shipped()).splitlines()
    assert len(found) == len(PATH.read_text().splitlines())
    for new, old in zip(found, PATH.read_text().splitlines(), strict=True):
        assert close(new, old), f"{new}\n{old}"


def test_a_figure_that_is_off_is_seen():
    line = written("int3:channel", 3)
    assert close(line, line)
    assert not close(line.replace("1.", "1.9", 1), line)
    assert not close(line.replace("int3", "int4"), line)
