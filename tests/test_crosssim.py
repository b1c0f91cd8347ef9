"""Agreement with CrossSim 3.2: every golden product, number for number or in its statistics, and the page of them."""

import functools

import crosssim
import crosssim_page
import numpy as np
import pytest
from nodal import nodal_conductance

LINES = [line.split(" | ") for line in crosssim_page.PATH.read_text().splitlines() if line.startswith("| ")]
NAMES = [cells[0].removeprefix("| ") for cells in LINES if cells[0] != "| record"]

RANDOM = ("prog_", "read_", "device_")
QUICK = ("prog_prop_0.03_dac8_adc8", "prog_indep_0.05", "read_prop_0.01", "prog_prop_0.03_offset", "device_SONOS_day5")
SLOW = (
    "dac8_adc8_cal", "bitsliced2_balanced_noadc", "parasitics_0.1_array64", "parasitics_0.5_array64",
    "parasitics_5_array64", "parasitics_1_array64_default_threshold",
)  # fmt: skip
"""Exact products whose every setting another quick one has too."""


@pytest.fixture(scope="module")
def compared(shared):
    records = crosssim.golden(shared)
    return functools.cache(lambda name: crosssim.compared(records[name]))


def chosen(name: str):
    """Most exact products, and of each kind of random error one; the others take a minute (`pytest -m slow`)."""
    slow = name in SLOW or (name.startswith(RANDOM) and name not in QUICK)
    return pytest.param(name, marks=pytest.mark.slow) if slow else name


@pytest.mark.parametrize("name", [chosen(name) for name in NAMES])
def test_a_product_is_crosssims(compared, name):
    found = compared(name)
    if isinstance(found, crosssim.Exact):
        assert found.apart <= found.tolerance
    else:
        assert max(abs(apart) for apart in found.apart) <= found.tolerance, found


@pytest.mark.slow
def test_the_page_tells_of_every_record(compared, shared):
    """`python tests/crosssim_page.py` writes it anew."""
    found = {name: compared(name) for name in crosssim.golden(shared)}
    assert crosssim_page.PATH.read_text() == crosssim_page.table(found)


@pytest.mark.parametrize("ohm", ["0.1", "0.5", "1", "5"])
def test_a_product_with_wires_is_the_direct_solution(shared, ohm):
    """Every node of both arrays of the pair, in float64, with the conductances worked out by hand."""
    record = crosssim.golden(shared)[f"parasitics_{ohm}_array64"]
    w, x = (values.astype(np.float64) for values in crosssim.data(record))
    config, fractions = record["config"], np.round(127 * np.stack([np.maximum(w, 0), np.maximum(-w, 0)])) / 127
    g_min, g_max = 1 / config["Rmax"], 1 / config["Rmin"]
    plus, minus = (
        nodal_conductance(g[None], config["Rp_row"], config["Rp_col"]) for g in g_min + (g_max - g_min) * fractions
    )
    direct = x @ (plus - minus) / (g_max - g_min)
    ours = crosssim.product(record)
    assert np.linalg.norm(ours - direct) < 1e-6 * np.linalg.norm(direct)


def test_a_loose_stop_errs_there_and_not_here(shared):
    """One record is another one over again, but with the solver stopped at a thousandth of full scale."""
    records = crosssim.golden(shared)
    strict, loose = records["parasitics_1_array64"], records["parasitics_1_array64_default_threshold"]
    ours, theirs = crosssim.product(loose), np.array(strict["Y"]).T
    assert np.linalg.norm(ours - theirs) < 1e-6 * np.linalg.norm(theirs)
