"""Agreement with CrossSim 3.2: every golden product, number for number or in its statistics, and the page that says so."""

import functools
from pathlib import Path

import crosssim
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "crosssim.md"
NAMES = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
NAMES = [name for name in NAMES if name != "record"]


@pytest.fixture(scope="module")
def compared(shared):
    records = crosssim.golden(shared)
    return functools.cache(lambda name: crosssim.compared(records[name]))


@pytest.mark.parametrize("name", NAMES)
def test_a_product_is_crosssims(compared, name):
    found = compared(name)
    if isinstance(found, crosssim.Exact):
        assert found.apart <= found.tolerance
    else:
        assert max(abs(apart) for apart in found.apart) <= found.tolerance, found


def test_the_page_tells_of_every_record(compared, shared):
    """`python tests/crosssim.py` writes it anew."""
    assert PAGE.read_text() == crosssim.table({name: compared(name) for name in crosssim.golden(shared)})
