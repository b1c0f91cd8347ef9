"""What fixed energies miss on a real layer, and that measured ones are sums over single cells."""

import re

import pytest
from cost_page import PATH, every, page
from operand_statistics import DEVICES, OPERATORS, compared

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", DEVICES)
def test_measured_energy_of_cells_is_their_sum_one_by_one(name, operator):
    found = compared(name, operator)
    assert found.cells == pytest.approx(found.one_by_one, rel=1e-3)


@pytest.mark.parametrize("operator", OPERATORS)
def test_measured_energy_of_converters_is_that_of_their_codes_one_by_one(operator):
    found = compared("rram-techC with adc-cco28", operator)
    assert found.adc_one_by_one is not None and found.adc == pytest.approx(found.adc_one_by_one, rel=1e-3)
    assert found.fixed_adc > 1.3 * found.adc_one_by_one  # codes are far from half of the largest


def test_fixed_energies_miss_real_layers():
    rows = every()
    assert all(row.fixed_cells > 1.4 * row.cells for row in rows.values())
    assert max(row.fixed_total / row.total for row in rows.values()) > 1.4
    down, q = (rows["sram-qs28", operator] for operator in ("ffn.down", "attention.q"))
    assert down.fixed_total / down.total > 1.2 * q.fixed_total / q.total  # and not by one factor for all


def test_the_page_says_what_comes_out():
    found, written = page(every()), PATH.read_text()
    assert NUMBER.sub("#", found) == NUMBER.sub("#", written), "python tests/cost_page.py writes the page anew"
    for ours, told in zip(NUMBER.findall(found), NUMBER.findall(written), strict=True):
        assert float(ours) == pytest.approx(float(told), rel=0.02, abs=1.01 * last_place(told))


def last_place(number: str) -> float:
    """What one in the last digit of a printed number counts."""
    mantissa, _, power = number.partition("e")
    return 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))


def test_a_last_place():
    assert [last_place(n) for n in ("12", "0.06", "4.8e+02")] == pytest.approx([1, 0.01, 10])
