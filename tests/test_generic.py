"""Generic macros: rules that hold for any node, and published chips within a factor of two."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pim
from pim.devices.errors import DeviceError
from pim.devices.generic import KINDS, generic, line_capacitance
from pim.devices.silicon import silicon
from pim.silicon.uncalibrated import FACTOR, uncalibrated

CHIP = {"node": 28e-9, "rows": 64, "columns": 64, "input_bits": 4, "weight_bits": 4, "adc_bits": 4, "vdd": 0.9}
"""Flash converters: those of the survey, above five bits, are not dearer at every coarser node."""


@pytest.fixture(scope="module")
def rows():
    return uncalibrated()


def test_most_published_chips_come_out_within_a_factor_of_two(rows):
    """Of those whose supply, bits and data are known to belong together: nothing is fitted to any of them."""
    trusted = [row for row in rows if row.macro.confidence == "high"]
    assert len(trusted) >= 14
    assert np.mean([row.within for row in trusted]) >= 0.8
    assert all(row.macro.why for row in rows if not row.within), "a miss says why"


def test_rows_are_those_of_the_data_base(rows, shared):
    """What they are said to be, and what they took, is what the data base has."""
    known = {
        chip["id"]: chip for chip in json.loads((shared / "golden" / "silicon_macros.json").read_text())["silicon"]
    }
    for macro in silicon():
        chip = known[macro.id]
        assert macro.node == pytest.approx(chip["node_nm"] * 1e-9)
        grouped = macro.kind == "ladder" or "row_groups" in macro.structure  # fewer or other inputs than rows of cells
        assert macro.rows == chip["rows"] or grouped
        assert (macro.input_bits, macro.vdd) == (chip["in_bits"], chip["vdd"] or 0.8)
        if chip["tops_per_w"]:
            assert macro.efficiency == pytest.approx(chip["tops_per_w"] * 1e12, rel=0.01)
        else:
            assert 2 / macro.efficiency == pytest.approx(chip["fJ_per_mac"]["8b"][".8"] * 1e-15, rel=1e-3)


def test_no_value_of_a_generic_macro_was_fitted():
    for kind in KINDS:
        device = generic(kind, **CHIP)
        assert "fitted" not in {known.grade for known in device.provenance.values()}
        assert device.provenance["cell.g_max"].source == "rules"


@pytest.mark.parametrize("kind", list(KINDS))
def test_more_of_anything_takes_more(kind):
    """A higher supply and more bits cost more energy a product of one array; a finer node costs less."""
    energy = lambda **changes: float(pim.peak(generic(kind, **CHIP | changes)).energy_per_mac)
    base = energy()
    assert energy(vdd=1.0) > base
    assert energy(node=45e-9) > base
    assert energy(input_bits=6) > base


@settings(max_examples=10)
@given(st.floats(7e-9, 170e-9), st.floats(9, 1080))
def test_lines_are_longer_on_larger_cells_and_coarser_nodes(node, area):
    assert line_capacitance(node * 1.05, area) > line_capacitance(node, area)
    assert line_capacitance(node, area * 1.05) > line_capacitance(node, area)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(DeviceError, match=r"no macros of the kind 'charged'.*charge"):
        generic("charged", **CHIP)
    with pytest.raises(DeviceError, match="5 nm, but scaling is known from 7 to 180 nm"):
        generic("charge", **CHIP | {"node": 5e-9})
    assert FACTOR == 2.0
